package host_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
)

const scratchEnv = "OVERLAYD_TEST_SCRATCH"

// TestMain runs the tests in a mount namespace of their own, with a tmpfs to work on, so that neither the host's mount
// table nor the host's filesystem matters. Unsharing this process would not do: only one of its threads would move.
func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run()
	}
	if dir := os.Getenv(scratchEnv); dir != "" {
		if err := errors.Join(
			unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mount("scratch", dir, "tmpfs", 0, "mode=0755"),
		); err != nil {
			fmt.Fprintln(os.Stderr, "cannot set up the tests' mount namespace:", err)
			return 1
		}
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "overlayd-host-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.Remove(dir)
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), scratchEnv+"="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Pdeathsig is about the thread, not the process
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot run the tests in a mount namespace of their own:", err)
		return 1
	}
	return 0
}

// scratch makes a directory on the tests' own tmpfs; what a test mounts below is taken away at its end.
func scratch(t *testing.T) string {
	t.Helper()
	top := os.Getenv(scratchEnv)
	if top == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("this test needs root, and CI=true says that it must run")
		}
		t.Skip("real mounts need root")
	}
	dir, err := os.MkdirTemp(top, "") //nolint:usetesting // it has to lie on the tmpfs of the private namespace
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		mounts := table(t).Below(dir)
		for _, m := range slices.Backward(mounts) {
			if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
				t.Errorf("cannot clean up %s: %v", m.Mountpoint, err)
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

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
