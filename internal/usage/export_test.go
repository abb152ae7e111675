package usage

import (
	"context"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// CountAlone counts a tree on the thread that calls it.
func CountAlone(ctx context.Context, path string) (Usage, error) {
	t, _, err := counter{ctx: ctx}.dir(path, false)
	return t.Usage, err
}

// Walk calls visit with each inode below a directory, at the moment when it is seen.
func Walk(ctx context.Context, path string, visit func(overlayfs.FileID)) error {
	top, err := openTop(path, false)
	if err != nil {
		return err
	}
	defer unix.Close(top)
	w := walker{ctx: ctx, path: path, visit: func(n node) { visit(n.id) }}
	return w.walk(top)
}

// CountWithin is Count with less room: so many bytes for directories, and so many inodes with several names.
func CountWithin(ctx context.Context, path string, room, several int) (Usage, error) {
	return count(ctx, path, func() {}, room, several)
}
