// Package hostlock lets one overlayd at a time do a thing on this host.
//
// It is no use between threads of one process, nor on a network filesystem.
package hostlock

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

// Lock is a flock(2), which the kernel gives back whatever becomes of us; its file stays, since removing it would let
// two processes lock two files.
type Lock struct{ f *os.File }

// HeldError says that another process has the lock.
type HeldError struct {
	Path string
	PID  int // of who has it, 0 if that cannot be told
}

func (e *HeldError) Error() string {
	if e.PID == 0 {
		return "another overlayd has " + e.Path
	}
	return fmt.Sprintf("another overlayd has %s (process %d)", e.Path, e.PID)
}

// Take takes the lock at path, waiting for as long as timeout says, and signs it. It is a *[HeldError] when somebody has
// it still, and the error of ctx when that ended first.
func Take(ctx context.Context, path string, timeout time.Duration) (*Lock, error) {
	waited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	// flock(2) cannot wait with a limit, so it is tried at short intervals.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		l, err := Try(path)
		if err == nil {
			if err = l.Sign(); err != nil {
				l.Release()
				return nil, err
			}
			return l, nil
		}
		if _, held := errors.AsType[*HeldError](err); !held {
			return nil, err
		}
		select {
		case <-tick.C:
		case <-waited.Done():
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			return nil, err
		}
	}
}

// Try takes the lock at path if nobody has it, else it is a *[HeldError]. Who keeps it for longer than a look signs it.
func Try(path string) (*Lock, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return &Lock{f}, nil
	}
	defer f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, &HeldError{path, holder(path)}
	}
	return nil, fmt.Errorf("cannot lock %s: %w", path, err)
}

// open opens the lock file, for root alone: who can open it can hold the lock, even read-only.
func open(path string) (*os.File, error) {
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

// Sign writes our process id, for the message that somebody who waits gets.
func (l *Lock) Sign() error {
	err := l.f.Truncate(0)
	if err == nil {
		_, err = l.f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		return fmt.Errorf("cannot write lock: %w", err)
	}
	return nil
}

func holder(path string) int {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}

// Release gives the lock back.
func (l *Lock) Release() { _ = l.f.Close() }
