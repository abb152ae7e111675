package host_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/test/apart"
)

// TestMain runs the tests apart: neither the host's mount table nor its filesystem matters.
func TestMain(m *testing.M) { os.Exit(apart.Run(nil, m.Run)) }

func table(t *testing.T) *overlayfs.Table {
	t.Helper()
	table, err := host.ReadTable()
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// dirs makes directories below top and returns their paths.
func dirs(t *testing.T, top string, names ...string) []string {
	t.Helper()
	var paths []string
	for _, name := range names {
		path := filepath.Join(top, name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// overlay makes the directories of a writable overlay below top, with the pinned options and those given.
func overlay(t *testing.T, top string, options overlayfs.Options) (c overlayfs.Config, mountpoint string) {
	t.Helper()
	d := dirs(t, top, "lower", "upper", "work", "merged")
	return overlayfs.Config{
		Lower: d[:1:1], Upper: d[1], Work: d[2], Options: overlayfs.Pin(options),
	}, d[3]
}

func mount(t *testing.T, target string, c overlayfs.Config) {
	t.Helper()
	if err := host.Mount("overlayd", target, c); err != nil {
		t.Fatal(err)
	}
}

// compare compares what is mounted at target with c.
func compare(t *testing.T, target string, c overlayfs.Config) overlayfs.Difference {
	t.Helper()
	at := table(t).At(target)
	if len(at) != 1 {
		t.Fatalf("%d mounts at %s, want 1", len(at), target)
	}
	defaults, err := host.ReadDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return overlayfs.Compare(c, at[0], defaults, true, nil)
}
