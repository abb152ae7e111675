package probe

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"
)

// Damage is what a storm did.
type Damage struct {
	Seconds float64 `json:"seconds"` // how long it took
	Tried   int     `json:"tried"`   // calls of umount2(2)
	Taken   int     `json:"taken"`   // mounts that were taken away
}

// Storm unmounts, as fast as it can and without a pause, one of the overlays after the other by chance.
func Storm(ctx context.Context, overlays []Overlay, lasting time.Duration) (Damage, error) {
	if len(overlays) == 0 {
		return Damage{}, errors.New("cannot take mounts away: there is no overlay")
	}
	chance := rand.New(rand.NewPCG(1, 2))
	var d Damage
	begun := time.Now()
	for time.Since(begun) < lasting && ctx.Err() == nil {
		at := overlays[chance.IntN(len(overlays))].Mountpoint
		d.Tried++
		switch err := unix.Unmount(at, unix.UMOUNT_NOFOLLOW); {
		case err == nil:
			d.Taken++
		case errors.Is(err, unix.EINVAL): // nothing is mounted there
		case errors.Is(err, unix.EBUSY): // systemd or the agent look at it
		default:
			return d, fmt.Errorf("cannot unmount %s: %w", at, err)
		}
	}
	d.Seconds = time.Since(begun).Seconds()
	return d, ctx.Err()
}

// Mounted waits until n mounts of overlayd's are in the mount table, for which it reads it whole. It gives up when
// their number has not changed for so long.
func Mounted(ctx context.Context, n int, stuck time.Duration) error {
	t, err := openTable()
	if err != nil {
		return err
	}
	defer t.close()
	last, since := -1, time.Now()
	return t.until(ctx, func() (bool, error) {
		now, err := countMounts()
		if err != nil {
			return false, err
		}
		if now != last {
			last, since = now, time.Now()
		}
		if now != n && time.Since(since) > stuck {
			return false, fmt.Errorf("cannot get %d overlays mounted: there are %d, and no more for %v", n, now, stuck)
		}
		// Not to read a table of thousands of lines for each of the lines.
		return now == n, sleep(ctx, tick/10)
	})
}
