// Package apart runs the tests of a package in a mount namespace of their own, so that they can mount for real and
// neither the host's mount table nor its filesystems matter. It is for TestMain only; a single test that needs a
// namespace starts a process in one.
package apart

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// marker is set in the environment of the tests that run apart.
const marker = "OVERLAYD_TEST_APART"

// Scratch is a tmpfs of the tests' own, where paths are always the same and nothing above belongs to anybody but root.
const Scratch = "/run"

// Run runs tests, and gives their exit code. As root it first runs the test binary again in a mount namespace of its
// own, with an empty [Scratch]; setup is called there before the tests are, nil for nothing. Unsharing this process
// would not do: only one of its threads would move.
func Run(setup func() error, tests func() int) int {
	switch {
	case os.Geteuid() != 0:
		return tests()
	case os.Getenv(marker) == "":
		return again()
	}
	err := errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("scratch", Scratch, "tmpfs", 0, "mode=0755"),
	)
	if err == nil && setup != nil {
		err = setup()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot set up the tests' mount namespace:", err)
		return 1
	}
	return tests()
}

func again() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...) //nolint:gosec // itself
	cmd.Env = append(os.Environ(), marker+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Pdeathsig is about the thread, not the process
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot run the tests in a mount namespace of their own:", err)
		return 1
	}
	return 0
}

// Dir makes a directory for a test on [Scratch]. At the test's end it is taken away, with all that is mounted below. The
// test needs root.
func Dir(t *testing.T) string {
	t.Helper()
	NeedRoot(t)
	dir, err := os.MkdirTemp(Scratch, "") //nolint:usetesting // it has to lie on the tmpfs of the private namespace
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tidy(t, dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func tidy(t *testing.T, dir string) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`) // proc_pid_mountinfo(5)
	for _, line := range slices.Backward(strings.Split(strings.TrimSpace(string(text)), "\n")) {
		at := plain.Replace(strings.Fields(line)[4])
		if !strings.HasPrefix(at, dir+"/") {
			continue
		}
		// One that another unmount took along is gone already.
		if err := unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) &&
			!errors.Is(err, unix.ENOENT) {
			t.Errorf("cannot clean up %s: %v", at, err)
		}
	}
	// A tree can be deeper than os.RemoveAll likes.
	if out, err := exec.Command("rm", "-rf", dir).CombinedOutput(); err != nil {
		t.Errorf("cannot clean up: %v: %s", err, out)
	}
}

// NeedRoot skips a test that needs root, or fails it where CI says that it must run.
func NeedRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("this test needs root, and CI=true says that it must run")
	}
	t.Skip("owners and mounts need root")
}
