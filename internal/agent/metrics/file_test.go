package metrics_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/agent/metrics"
	"github.com/overlayd/overlayd/test/apart"
)

// names are the files of a directory.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

// Who reads while it is written sees one file or another, whole.
func TestWriteAtomic(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "overlayd.prom")
	m := busy()
	measureAll(m, clients(500))
	if err := m.Write(path); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for done := false; !done; done = ctx.Err() != nil {
				text, err := os.ReadFile(path)
				if err != nil || !strings.HasPrefix(string(text), "# HELP") || strings.Count(string(text), upperBytes+"{") != 500 {
					t.Errorf("%v: read %d bytes", err, len(text))
					return
				}
			}
		})
	}
	var writers sync.WaitGroup
	for range 2 {
		writers.Go(func() {
			for range 50 {
				m.Changed("repair", "done")
				if err := m.Write(path); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	stop()
	readers.Wait()
	parse(t, read(t, path))
	if got := names(t, dir); got != "overlayd.prom" {
		t.Errorf("left: %s", got)
	}
}

// Everybody may read the file, whatever the umask: node_exporter is not root.
func TestWriteMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "overlayd.prom")
	defer unix.Umask(unix.Umask(0o077))
	if err := busy().Write(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode(); got != 0o644 {
		t.Errorf("mode %v", got)
	}
}

// What a kill left, or somebody planted, is neither written to nor left lying.
func TestWriteLeftTemporary(t *testing.T) {
	const temporary = ".overlayd.prom.tmp"
	for name, plant := range map[string]func(dir, victim string) error{
		"half a file": func(dir, _ string) error {
			return os.WriteFile(filepath.Join(dir, temporary), []byte("overlayd_bui"), 0o600)
		},
		"symlink":   func(dir, victim string) error { return os.Symlink(victim, filepath.Join(dir, temporary)) },
		"hard link": func(dir, victim string) error { return os.Link(victim, filepath.Join(dir, temporary)) },
		"the file itself is a symlink": func(dir, victim string) error {
			return os.Symlink(victim, filepath.Join(dir, "overlayd.prom"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
			if err := errors.Join(os.WriteFile(victim, []byte("mine"), 0o600), plant(dir, victim)); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "overlayd.prom")
			if err := busy().Write(path); err != nil {
				t.Fatal(err)
			}
			parse(t, read(t, path))
			if got := names(t, dir); got != "overlayd.prom" {
				t.Errorf("left: %s", got)
			}
			if info, err := os.Stat(victim); err != nil || info.Mode() != 0o600 || read(t, victim) != "mine" {
				t.Errorf("the victim has %q, %v", read(t, victim), err)
			}
		})
	}
}

func TestWriteNoDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none", "overlayd.prom")
	err := busy().Write(path)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) ||
		!strings.Contains(err.Error(), "metrics_file") {
		t.Errorf("error %v", err)
	}
}

// A file that does not fit leaves the old one as it is.
func TestWriteDiskFull(t *testing.T) {
	dir := apart.Dir(t)
	if err := unix.Mount("small", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	path := filepath.Join(dir, "overlayd.prom")
	m := busy()
	if err := m.Write(path); err != nil {
		t.Fatal(err)
	}
	before := read(t, path)
	measureAll(m, clients(1000))
	if err := m.Write(path); !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v", err)
	}
	if read(t, path) != before || names(t, dir) != "overlayd.prom" {
		t.Errorf("the file changed, or was not alone: %s", names(t, dir))
	}
}

// pass lets time pass on the clock of a synctest bubble, which costs none.
func pass(d time.Duration) { <-time.After(d) }

// The file is written at once, soon after a change, not for each of many, and at the end.
func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "overlayd.prom")
		m := metrics.New("1", noon, known)
		ctx, stop := context.WithCancel(t.Context())
		go m.Keep(ctx, path, func(err error) { t.Error(err) })
		repairs := func() float64 {
			synctest.Wait()
			return parse(t, read(t, path))[`overlayd_changes_total{change="repair"}{result="done"}`]
		}
		if n := repairs(); n != 0 {
			t.Errorf("at first %v repairs", n)
		}
		for want := range 3 {
			m.Changed("repair", "done")
			if n := repairs(); n != float64(want) {
				t.Errorf("%v repairs at once, want %d", n, want)
			}
			pass(metrics.Behind)
			if n := repairs(); n != float64(want+1) {
				t.Errorf("%v repairs after a while, want %d", n, want+1)
			}
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		pass(24 * time.Hour)
		synctest.Wait()
		if later, err := os.Stat(path); err != nil || !os.SameFile(info, later) {
			t.Errorf("written without a change: %v", err)
		}
		m.Changed("repair", "done")
		stop()
		if n := repairs(); n != 4 {
			t.Errorf("at the end %v repairs", n)
		}
	})
}

// That the file cannot be written is told once, and again when it went well in between.
func TestKeepFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "later")
		m := metrics.New("1", noon, known)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		told := 0
		go m.Keep(ctx, filepath.Join(dir, "overlayd.prom"), func(error) { told++ })
		change := func() int {
			m.Changed("repair", "done")
			pass(metrics.Behind)
			synctest.Wait()
			return told
		}
		change()
		if n := change(); n != 1 {
			t.Errorf("told %d times", n)
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if n := change(); n != 1 || names(t, dir) != "overlayd.prom" {
			t.Errorf("told %d times, with %s", n, names(t, dir))
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if n := change(); n != 2 {
			t.Errorf("told %d times", n)
		}
	})
}
