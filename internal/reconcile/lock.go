package reconcile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// runDir holds what concerns this boot only.
const runDir = "/run/overlayd"

// lock keeps a second overlayd from changing the host at the same time. It is a flock(2), which the kernel gives back
// whatever becomes of us; the file stays, since removing it would let two processes lock two files.
type lock struct{ f *os.File }

// ErrLocked says that another overlayd is changing the host.
var ErrLocked = errors.New("another overlayd is at work")

// acquire takes the lock, waiting for as long as timeout says.
func acquire(ctx context.Context, timeout time.Duration) (*lock, error) {
	path := filepath.Join(runDir, "lock")
	f, err := openLock(path)
	if err != nil {
		return nil, err
	}
	waited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	// flock(2) cannot wait with a limit, so it is tried at short intervals.
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			tick.Stop()
			l := &lock{f}
			if err := l.sign(); err != nil {
				l.release()
				return nil, err
			}
			return l, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			tick.Stop()
			return nil, errors.Join(fmt.Errorf("cannot lock %s: %w", path, err), f.Close())
		}
		select {
		case <-tick.C:
		case <-waited.Done():
			tick.Stop()
			defer f.Close()
			if err := ctx.Err(); err != nil {
				return nil, fmt.Errorf("interrupted while waiting for the lock, nothing was done: %w", err)
			}
			return nil, fmt.Errorf("cannot lock %s within %s: %w%s; wait for it, or give more time with "+
				"--lock-timeout", path, timeout, ErrLocked, holder(path))
		}
	}
}

// openLock opens the lock file, for root alone: who can open it can hold the lock, even read-only.
func openLock(path string) (*os.File, error) {
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	var f *os.File
	if err == nil {
		f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	}
	switch {
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("cannot lock overlayd: %w; changing the host takes root", err)
	case err != nil:
		return nil, fmt.Errorf("cannot lock overlayd: %w", err)
	}
	return f, nil
}

// sign writes our process id, for the message that somebody who waits gets.
func (l *lock) sign() error {
	if err := l.f.Truncate(0); err != nil {
		return fmt.Errorf("cannot write lock: %w", err)
	}
	_, err := l.f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	if err != nil {
		return fmt.Errorf("cannot write lock: %w", err)
	}
	return nil
}

func holder(path string) string {
	text, err := os.ReadFile(path)
	pid := strings.TrimSpace(string(text))
	if err != nil || pid == "" {
		return ""
	}
	return " (process " + pid + ")"
}

func (l *lock) release() { _ = l.f.Close() }

// owed is the note that unit files have changed and systemd was not reloaded yet. It outlives a killed apply, so that
// the next one reloads even if it finds nothing else to do.
type owed struct{ path string }

// Unfinished tells whether an apply or reset that did not end left systemd without the reload it needs, or units
// stopped.
func (h *Host) Unfinished() bool {
	return !h.Offline() && (h.owed().isSet() || len(halfways()) > 0)
}

func (h *Host) owed() owed { return owed{filepath.Join(runDir, "reload-owed")} }

func (o owed) set() error {
	f, err := os.OpenFile(o.path, os.O_CREATE|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("cannot note that a reload is owed: %w", err)
	}
	return f.Close()
}

func (o owed) isSet() bool {
	_, err := os.Lstat(o.path)
	return err == nil
}

func (o owed) clear() error {
	if err := os.Remove(o.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot note that systemd was reloaded: %w", err)
	}
	return nil
}
