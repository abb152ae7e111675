package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// clock does the work that is measured.
func (f site) clock(ctx context.Context, w work) (took Took, err error) {
	var m *manager
	if w.up || w.down {
		if m, err = connect(ctx); err != nil {
			return took, err
		}
		defer m.Close()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watching, seen := make(chan error), make(chan error, 1)
	var at time.Time
	if w.watch != "" {
		go func() {
			runtime.LockOSThread() // no other goroutine shall move in while it waits
			defer runtime.UnlockOSThread()
			var err error
			at, err = see(ctx, w.watch, watching)
			seen <- err
		}()
		if err := <-watching; err != nil {
			return took, errors.Join(err, <-seen)
		}
	} else {
		seen <- nil
	}

	begun := time.Now()
	if w.call != nil {
		err = w.call(ctx)
	}
	for _, argv := range w.commands {
		if err == nil {
			took.Peak, err = peak(ctx, argv)
		}
	}
	took.Ended = time.Since(begun).Seconds()
	if err != nil {
		cancel(err)
		return took, errors.Join(err, notCanceled(<-seen))
	}
	if err := <-seen; err != nil {
		return took, err
	}
	if w.watch != "" {
		took.Seen = at.Sub(begun).Seconds()
	}
	if m == nil {
		return took, nil
	}
	settled, err := m.settled(ctx, f.overlays, w.up)
	took.Settled = max(settled.Sub(begun).Seconds(), took.Ended)
	return took, err
}

// see returns when a file is there, which it looks for whenever the mount table has changed.
func see(ctx context.Context, file string, watching chan<- error) (at time.Time, err error) {
	t, err := openTable()
	if err != nil {
		watching <- err
		return at, err
	}
	defer t.close()
	err = t.until(ctx, func() (bool, error) {
		var st unix.Stat_t
		err := unix.Lstat(file, &st)
		at = time.Now()
		missing := errors.Is(err, unix.ENOENT)
		if missing {
			err = nil
		}
		// The first look is to be over before anybody begins: a mount that somebody looks into is busy.
		if first := watching; first != nil {
			watching = nil
			if !missing && err == nil {
				err = fmt.Errorf("%s is there before it should be", file)
			}
			first <- err
		}
		return !missing, err
	})
	if err != nil {
		err = fmt.Errorf("cannot see %s: %w", file, err)
	}
	return at, err
}

// peak runs a command and returns how much memory it had at most. That is at least what this program has had so far:
// the kernel does not tell them apart before the command has begun.
func peak(ctx context.Context, argv []string) (int64, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	err := cmd.Run()
	if err != nil {
		return 0, fmt.Errorf("cannot run %s: %w: %s", brief(argv), err, brief(strings.Fields(complaint.String())))
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0, errors.New("cannot tell what a command needed")
	}
	return usage.Maxrss << 10, nil
}

func run(ctx context.Context, argv ...string) error {
	_, err := peak(ctx, argv)
	return err
}

// brief is the beginning of a long list of words, such as a command with thousands of arguments.
func brief(words []string) string {
	const few = 40
	if len(words) > few {
		words = append(words[:few:few], "...")
	}
	return strings.Join(words, " ")
}

// notCanceled leaves out what came of nothing but the end of the wait.
func notCanceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
