package probe

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// File is a spec that declares one overlay.
type File struct {
	Path       string
	Text       string
	Mountpoint string
}

// Drop puts one file after the other into a spec directory, whole, and returns how long it took from that moment until
// its overlay was mounted, in seconds. The process agent has to be at rest before.
func Drop(ctx context.Context, agent int, files []File) ([]float64, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var samples []float64
	for _, f := range files {
		if err := Rest(ctx, 1, agent); err != nil {
			return nil, err
		}
		took, err := drop(ctx, f)
		if err != nil {
			return nil, err
		}
		samples = append(samples, took.Seconds())
	}
	return samples, nil
}

func drop(ctx context.Context, f File) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, gone)
	defer cancel()
	p, err := openPlace(f.Mountpoint)
	if err != nil {
		return 0, err
	}
	defer p.close()
	t, err := openTable()
	if err != nil {
		return 0, err
	}
	defer t.close()
	// Outside of the spec directory, so that nothing is heard of it before.
	draft := filepath.Dir(filepath.Dir(f.Path)) + "/.overlayd-bench"
	if err := os.WriteFile(draft, []byte(f.Text), 0o644); err != nil {
		return 0, fmt.Errorf("cannot write a spec: %w", err)
	}
	begun := time.Now()
	if err := os.Rename(draft, f.Path); err != nil {
		return 0, fmt.Errorf("cannot put a spec in its place: %w", err)
	}
	if err := t.until(ctx, p.mounted); err != nil {
		return 0, fmt.Errorf("cannot tell how long %s took: not mounted after %v: %w", f.Path, time.Since(begun), err)
	}
	return time.Since(begun), nil
}
