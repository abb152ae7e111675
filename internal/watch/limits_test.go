package watch_test

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/watch"
	"github.com/overlayd/overlayd/test/apart"
)

// TestFilesUnreadable: what can be watched is, and what cannot is told once.
func TestFilesUnreadable(t *testing.T) {
	apart.NeedRoot(t)
	top := t.TempDir()
	sh(t, top, "chmod 755 .; mkdir closed open; chmod 311 closed; echo 1 > open/x")
	s := watch.NewStepped(t, t.TempDir())
	without(t, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH) // root may not list it then

	err := s.Set([]watch.Path{{Path: top + "/closed/x"}, {Path: top + "/open/x"}})
	if !errors.Is(err, unix.EACCES) || err.Error() != `cannot watch "`+top+`/closed": permission denied` {
		t.Errorf("Set: %v", err)
	}
	sh(t, top, "echo 2 > open/x")
	if !s.Step(t) {
		t.Error("no hint for what can be watched")
	}
	complaint := func() error {
		select {
		case err := <-s.Errors():
			return err
		default:
			return nil
		}
	}
	if err := complaint(); err != nil {
		t.Errorf("told again: %v", err)
	}
	sh(t, top, "chmod 755 closed; echo 1 > closed/x")
	if !s.Step(t) {
		t.Error("no hint for what became readable")
	}
	sh(t, top, "mkdir new; echo 1 > new/x; chmod 311 new; mv open old; mv new open")
	s.Step(t)
	if err := complaint(); !errors.Is(err, unix.EACCES) || !strings.Contains(err.Error(), top+"/open") {
		t.Errorf("what became unreadable: %v", err)
	}
	sh(t, top, "echo 2 > closed/x")
	if !s.Step(t) {
		t.Error("no hint for what can be watched now")
	}
	if err := complaint(); err != nil {
		t.Errorf("told again: %v", err)
	}
}

// without takes capabilities from the thread of the test, until its end.
func without(t *testing.T, caps ...uint) {
	t.Helper()
	runtime.LockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var before [2]unix.CapUserData
	if err := unix.Capget(&header, &before[0]); err != nil {
		t.Fatal(err)
	}
	less := before
	for _, c := range caps {
		less[c/32].Effective &^= 1 << (c % 32)
	}
	if err := unix.Capset(&header, &less[0]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Capset(&header, &before[0]); err != nil {
			t.Fatal(err) // and the thread stays locked, so that it is nobody else's
		}
		runtime.UnlockOSThread()
	})
}

// TestFilesLimits runs itself again in a user namespace, which has limits of its own, to reach them.
func TestFilesLimits(t *testing.T) {
	const marker = "OVERLAYD_TEST_LIMITS"
	if os.Getenv(marker) == "" {
		apart.NeedRoot(t)
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), marker+"=1")
		ids := []syscall.SysProcIDMap{{Size: 1}}
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, UidMappings: ids, GidMappings: ids,
		}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Errorf("%v:\n%s", err, out)
		}
		return
	}
	limit := func(name, value string) {
		t.Helper()
		if err := os.WriteFile("/proc/sys/user/"+name, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	limit("max_inotify_watches", "2")
	f, err := watch.NewFiles()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = f.Set([]watch.Path{{Path: "/usr/share/doc"}})
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), `"/usr/share": no inotify watch is left, raise `) {
		t.Errorf("Set: %v", err)
	}
	if len(f.Kept()) != 2 {
		t.Errorf("watched with 2 watches to have: %q", f.Kept())
	}
	limit("max_inotify_instances", "0")
	if _, err = watch.NewFiles(); !errors.Is(err, unix.EMFILE) || !strings.Contains(err.Error(), "max_user_instances") {
		t.Errorf("NewFiles: %v", err)
	}
}
