package probe

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Who brings a mount back that was taken away.
const (
	ByAgent     = "agent"
	ByLoop      = "loop"      // a program that waits for the mount table and calls mount(2), see Keep
	BySystemctl = "systemctl" // systemctl start, called when the mount is gone
)

// Rounds says what is done again and again.
type Rounds struct {
	By    string
	Count int
	Agent int      // its PID, 0 if none runs
	Keep  []string // the command that runs Keep
}

const (
	// period is the least time between rounds. systemd takes in 5 events of the mount table within a second and puts
	// off the others to the next one (since version 252): a round makes two, so that systemd is always done with one
	// round when the next one begins.
	period = 600 * time.Millisecond
	// systemctlPeriod is the same with mount(8) at work, which makes more of them.
	systemctlPeriod = 1200 * time.Millisecond
	// gone is when a mount that is not back counts as lost.
	gone = 30 * time.Second
	// patience is how many repairs of one overlay the agent makes at once before it takes them for hopeless. It begins
	// anew when it is told to reload.
	patience = 4
)

// Run takes one mount after the other away, each in its turn by chance, and returns how long each was missing: from
// right before umount2(2) until statx(2) says that something is mounted again, in seconds. So umount2(2) itself is part
// of it, which lets others see the change early and then waits for an RCU grace period: there is no repair that is
// shorter, and the floor shows how long that is.
func (r Rounds) Run(ctx context.Context, overlays []Overlay) ([]float64, error) {
	if len(overlays) == 0 {
		return nil, errors.New("cannot take mounts away: there is no overlay")
	}
	runtime.LockOSThread() // no other goroutine shall move in while it waits
	defer runtime.UnlockOSThread()
	by, err := r.bringer(ctx)
	if err != nil {
		return nil, err
	}
	defer by.end()
	watched := []int{1}
	if r.Agent != 0 {
		watched = append(watched, r.Agent)
	}
	chance := rand.New(rand.NewPCG(1, 2)) // the same in each run
	var order []int
	var samples []float64
	for i := range r.Count {
		if len(order) == 0 {
			order = chance.Perm(len(overlays))
		}
		if r.Agent != 0 && i > 0 && i%(patience*len(overlays)) == 0 {
			if out, err := exec.CommandContext(ctx, "systemctl", "reload", "overlayd").CombinedOutput(); err != nil {
				return nil, fmt.Errorf("cannot have the agent begin anew: %w: %s", err, out)
			}
		}
		if err := errors.Join(sleep(ctx, by.period-rest), Rest(ctx, watched...)); err != nil {
			return nil, err
		}
		took, err := by.round(ctx, overlays[order[0]])
		if err != nil {
			return nil, fmt.Errorf("round %d: %w", i+1, err)
		}
		samples = append(samples, took.Seconds())
		order = order[1:]
	}
	return samples, nil
}

// bringer is who brings a mount back.
type bringer struct {
	period time.Duration
	arm    func(o Overlay) error // before it is taken away
	// taken is called when it is gone and returns at once; what it returns ends with what it began.
	taken func(ctx context.Context, o Overlay, back func() (bool, error)) (wait func() error)
	end   func()
}

func (r Rounds) bringer(ctx context.Context) (bringer, error) {
	b := bringer{
		period: period,
		arm:    func(Overlay) error { return nil },
		taken: func(context.Context, Overlay, func() (bool, error)) func() error {
			return func() error { return nil }
		},
		end: func() {},
	}
	switch r.By {
	case ByAgent:
	case BySystemctl:
		b.period = systemctlPeriod
		b.taken = systemctlStart
	case ByLoop:
		k, err := startKeeper(ctx, r.Keep)
		if err != nil {
			return b, err
		}
		b.arm, b.end = k.arm, k.end
	default:
		return b, fmt.Errorf("cannot have mounts brought back by %q", r.By)
	}
	return b, nil
}

func (b bringer) round(ctx context.Context, o Overlay) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, gone)
	defer cancel()
	p, err := openPlace(o.Mountpoint)
	if err != nil {
		return 0, err
	}
	defer p.close()
	if is, err := p.mounted(); err != nil || !is {
		return 0, errors.Join(fmt.Errorf("cannot take %s away: nothing is mounted there", o.Mountpoint), err)
	}
	if err := b.arm(o); err != nil {
		return 0, err
	}
	t, err := openTable()
	if err != nil {
		return 0, err
	}
	defer t.close()
	begun := time.Now()
	if err := unix.Unmount(o.Mountpoint, unix.UMOUNT_NOFOLLOW); err != nil {
		return 0, fmt.Errorf("cannot unmount %s: %w", o.Mountpoint, err)
	}
	wait := b.taken(ctx, o, p.mounted)
	err = t.until(ctx, p.mounted)
	took := time.Since(begun)
	if err != nil {
		err = fmt.Errorf("cannot tell how long %s was missing: not back after %v: %w", o.Mountpoint, took, err)
	}
	return took, errors.Join(err, wait())
}

// systemctlStart is what a watchdog script does when it has seen that a mount is gone. systemd may not have seen it
// yet, and then says that there is nothing to start.
func systemctlStart(ctx context.Context, o Overlay, back func() (bool, error)) (wait func() error) {
	ended := make(chan error, 1)
	go func() {
		for {
			if out, err := exec.CommandContext(ctx, "systemctl", "start", "--", o.Unit).CombinedOutput(); err != nil {
				ended <- fmt.Errorf("cannot start %s: %w: %s", o.Unit, err, strings.TrimSpace(string(out)))
				return
			}
			is, err := back()
			if err == nil && !is {
				err = ctx.Err()
			}
			if is || err != nil {
				ended <- err
				return
			}
		}
	}()
	return func() error { return <-ended }
}
