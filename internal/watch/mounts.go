package watch

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Mounts tells when the mount table of this process' mount namespace changes, from its call on, until ctx ends: then
// the channel is closed. It has room for one: changes while nobody reads are one.
//
// With ctx still alive the channel is closed only if the kernel has no memory left to poll with; the caller may then
// call Mounts again.
func Mounts(ctx context.Context) (<-chan struct{}, error) {
	m, err := openMountTable()
	if err != nil {
		return nil, err
	}
	changes := make(chan struct{}, 1)
	written := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(written)
		m.stop()
	})
	go func() {
		defer close(changes)
		defer m.close()
		defer func() {
			if !stop() {
				<-written // or it writes to a descriptor that is somebody else's by now
			}
		}()
		for {
			changed, ended, err := m.wait()
			if err != nil || ended {
				return
			}
			if changed {
				tell(changes)
			}
		}
	}()
	return changes, nil
}

// tell puts a hint into a channel that has room for one, unless there is one already.
func tell(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// mountTable is /proc/self/mountinfo, and an eventfd(2) to be woken by.
//
// The kernel keeps with each open file of it how many changes poll(2) has told of, starting at open(2). It says
// POLLERR|POLLPRI once for all since then, and POLLIN always (fs/proc_namespace.c, mounts_poll). So nothing that
// happens between two polls is lost, and asking for POLLPRI alone does not spin. os.Open would not do: Go's own poller
// would take the file and use up the changes.
type mountTable struct{ table, end int }

func openMountTable() (mountTable, error) {
	const path = "/proc/self/mountinfo"
	table, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return mountTable{}, fmt.Errorf("cannot watch the mount table: cannot open %s: %w", path, err)
	}
	end, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(table) // only read
		return mountTable{}, fmt.Errorf("cannot watch the mount table: cannot make an eventfd: %w", err)
	}
	return mountTable{table, end}, nil
}

// wait waits until the mount table has changed since it was opened or wait last said so, or until stop.
func (m mountTable) wait() (changed, ended bool, err error) {
	fds := []unix.PollFd{{Fd: int32(m.table), Events: unix.POLLPRI}, {Fd: int32(m.end), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		if errors.Is(err, unix.EINTR) {
			continue // Go preempts its threads by signals
		}
		if err != nil {
			return false, false, fmt.Errorf("cannot watch the mount table: %w", err)
		}
		return fds[0].Revents != 0, fds[1].Revents != 0, nil
	}
}

func (m mountTable) stop() {
	_, _ = unix.Write(m.end, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // cannot fail before 2^64-1 of them
}

func (m mountTable) close() {
	_ = unix.Close(m.table) // only read
	_ = unix.Close(m.end)
}
