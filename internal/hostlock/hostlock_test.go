package hostlock_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/overlayd/overlayd/internal/hostlock"
)

func take(t *testing.T, path string) *hostlock.Lock {
	t.Helper()
	l, err := hostlock.Take(t.Context(), path, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestOneAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "lock")
	first := take(t, path)
	_, err := hostlock.Take(t.Context(), path, 0)
	var held *hostlock.HeldError
	if !errors.As(err, &held) || held.PID != os.Getpid() || held.Path != path || !strings.Contains(err.Error(), path) {
		t.Fatalf("second one: %v, want a HeldError with %s and process %d", err, path, os.Getpid())
	}
	first.Release()
	take(t, path).Release()
}

func TestWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first := take(t, path)
	got := make(chan error, 1)
	go func() {
		l, err := hostlock.Take(context.WithoutCancel(t.Context()), path, time.Minute)
		if err == nil {
			l.Release()
		}
		got <- err
	}()
	first.Release()
	if err := <-got; err != nil {
		t.Error(err)
	}
}

func TestInterrupted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	defer take(t, path).Release()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := hostlock.Take(ctx, path, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was cancelled", err)
	}
}

func TestNoSymlink(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "lock")
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), path); err != nil {
		t.Fatal(err)
	}
	if l, err := hostlock.Take(t.Context(), path, 0); err == nil {
		l.Release()
		t.Error("a symlink was followed")
	}
	if _, err := os.Lstat(filepath.Join(dir, "elsewhere")); err == nil {
		t.Error("a file was made where the symlink leads")
	}
}
