package safedir_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const scratchEnv = "OVERLAYD_TEST_SCRATCH"

// TestMain runs the tests in a mount namespace of their own, with a tmpfs to work on: they mount things, and need a
// place whose ancestors all belong to root.
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
	dir, err := os.MkdirTemp("", "overlayd-safedir-")
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

// scratch makes a directory on the tests' own tmpfs; nothing above it is anybody's but root's.
func scratch(t *testing.T) string {
	t.Helper()
	top := os.Getenv(scratchEnv)
	if top == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("this test needs root, and CI=true says that it must run")
		}
		t.Skip("owners and mounts need root")
	}
	dir, err := os.MkdirTemp(top, "") //nolint:usetesting // it has to lie on the tmpfs of the private namespace
	if err != nil {
		t.Fatal(err)
	}
	do(t, os.Chmod(dir, 0o755))
	return dir
}

func do(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		do(t, os.MkdirAll(path, 0o755))
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	mkdir(t, filepath.Dir(path))
	do(t, os.WriteFile(path, []byte(text), 0o644))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// is describes a directory's owner and mode.
func is(t *testing.T, path string) string {
	t.Helper()
	var st unix.Stat_t
	do(t, unix.Lstat(path, &st))
	return fmt.Sprintf("%d:%d %o", st.Uid, st.Gid, st.Mode)
}
