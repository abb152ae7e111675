package reconcile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/hostlock"
)

// runDir holds what concerns this boot only.
const runDir = "/run/overlayd"

// ErrLocked says that another overlayd is changing the host.
var ErrLocked = errors.New("another overlayd is at work")

func lockFile() string { return filepath.Join(runDir, "lock") }

// acquire keeps a second overlayd from changing the host at the same time, waiting for as long as timeout says.
func acquire(ctx context.Context, timeout time.Duration) (*hostlock.Lock, error) {
	l, err := hostlock.Take(ctx, lockFile(), timeout)
	var held *hostlock.HeldError
	switch {
	case errors.As(err, &held):
		who := ""
		if held.PID != 0 {
			who = fmt.Sprintf(" (process %d)", held.PID)
		}
		return nil, fmt.Errorf("cannot lock %s within %s: %w%s; wait for it, or give more time with --lock-timeout",
			held.Path, timeout, ErrLocked, who)
	case err != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("interrupted while waiting for the lock, nothing was done: %w", err)
	}
	return l, err
}

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
