package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// apartEnv is set where the tests run in a mount namespace of their own.
const apartEnv = "OVERLAYD_TEST_APART"

// scratch is where the scripts work: on the tests' own /run, so that paths and unit names are always the same.
const scratch = "/run/t"

// TestMain is overlayd itself where a script runs it. The tests run in a mount namespace of their own, where
// /etc/systemd/system and /run are empty: the scripts in testdata/live mount for real, and this host is not theirs.
func TestMain(m *testing.M) {
	switch {
	case filepath.Base(os.Args[0]) == "overlayd", os.Geteuid() != 0:
	case os.Getenv(apartEnv) == "":
		os.Exit(apart())
	default:
		if err := errors.Join(
			unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mount("units", "/etc/systemd/system", "tmpfs", 0, "mode=0755"),
			unix.Mount("run", "/run", "tmpfs", 0, "mode=0755"),
			os.Mkdir(scratch, 0o755),
		); err != nil {
			fmt.Fprintln(os.Stderr, "cannot set up the tests' mount namespace:", err)
			os.Exit(1)
		}
	}
	testscript.Main(m, map[string]func(){"overlayd": main})
}

// apart runs the tests again in a mount namespace of their own. Unsharing this process would not do: only one of its
// threads would move.
func apart() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), apartEnv+"=1")
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

// needRoot skips a test that is about the host without root, or fails where CI says that it must run.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("this test needs root, and CI=true says that it must run")
	}
	t.Skip("owners and mounts need root")
}
