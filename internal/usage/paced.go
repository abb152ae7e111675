package usage

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// errTooLarge says that there is no room for what a count has to remember.
var errTooLarge = errors.New("it is too large to be counted in the background; overlayd du counts it")

const (
	// paced is how many bytes of a directory [Count] reads before it calls pause: about a hundred entries.
	paced = 4 << 10
	// room is how many bytes [Count] remembers of directories, and several how many inodes with several names.
	room    = 8 << 20
	several = 200_000
)

// Count counts what the directory path and all below it store, on the goroutine that calls it. It calls pause after
// each directory, and in large ones after every hundred entries or so. The pause may be long, but the filesystem is in
// use meanwhile. When ctx ends, so does the count.
//
// It is for who runs for long and counts what others made: it takes 20 MB at most, and gives an error for a tree that
// needs more. [Trees] counts those, too.
func Count(ctx context.Context, path string, pause func()) (Usage, error) {
	return count(ctx, path, pause, room, several)
}

func count(ctx context.Context, path string, pause func(), room, several int) (u Usage, err error) {
	top, err := openTop(path, false)
	if err != nil {
		return u, fmt.Errorf("cannot read %s: %w", path, permission(err))
	}
	defer unix.Close(top)
	self, _, err := look(top, "")
	if err != nil {
		return u, fmt.Errorf("cannot look at %s: %w", path, err)
	}
	u.add(Usage{self.bytes, 1})
	// Of an inode with several names it remembers how many of these are still to come. Some may be elsewhere.
	left := map[overlayfs.FileID]uint32{}
	var full error
	visit := func(n node) {
		if !n.dir && n.links > 1 {
			names, seen := left[n.id]
			switch {
			case seen && names <= 1:
				delete(left, n.id)
				return
			case seen:
				left[n.id] = names - 1
				return
			case len(left) >= several:
				full = fmt.Errorf("cannot count %s: %w", path, errTooLarge)
				return
			}
			left[n.id] = n.links - 1
		}
		u.add(Usage{n.bytes, 1})
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	w := walker{ctx: ctx, path: path, visit: visit, chunk: paced, room: room, seen: func(int) {
		if full != nil {
			stop()
			return
		}
		pause()
	}}
	if err = permission(w.walk(top)); full != nil {
		err = full
	}
	if err != nil {
		return Usage{}, err
	}
	return u, nil
}
