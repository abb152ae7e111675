package probe

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// table is the mount table, to wait for its changes.
type table struct{ fd int }

// openTable counts changes from now on: the kernel keeps with each open file which changes poll(2) has told of.
func openTable() (table, error) {
	// Not os.Open: Go's own poller would use up the changes.
	fd, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return table{}, fmt.Errorf("cannot open the mount table: %w", err)
	}
	return table{fd}, nil
}

func (t table) close() { _ = unix.Close(t.fd) } // only read

// tick is how often a wait looks whether it should end.
const tick = 500 * time.Millisecond

// until waits, from change to change, until done.
func (t table) until(ctx context.Context, done func() (bool, error)) error {
	for {
		if is, err := done(); is || err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		fds := []unix.PollFd{{Fd: int32(t.fd), Events: unix.POLLPRI}}
		if _, err := unix.Poll(fds, int(tick.Milliseconds())); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("cannot wait for the mount table: %w", err)
		}
	}
}

// place is a mountpoint, seen from the directory above it, so that to look at it never ends up inside of a mount.
type place struct {
	dir  int
	name string
}

func openPlace(mountpoint string) (place, error) {
	dir, err := unix.Open(filepath.Dir(mountpoint), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return place{}, fmt.Errorf("cannot open the directory of %s: %w", mountpoint, err)
	}
	return place{dir, filepath.Base(mountpoint)}, nil
}

func (p place) close() { _ = unix.Close(p.dir) }

// mounted tells whether something is mounted there. What is not there at all is not mounted.
func (p place) mounted() (bool, error) {
	var st unix.Statx_t
	const how = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT | unix.AT_STATX_DONT_SYNC
	switch err := unix.Statx(p.dir, p.name, how, 0, &st); {
	case errors.Is(err, unix.ENOENT):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("cannot look at mountpoint %s: %w", p.name, err)
	case st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0:
		return false, errors.New("cannot tell what is mounted: the kernel is older than 5.8")
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}
