package state_test

import (
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/agent/state"
	"github.com/overlayd/overlayd/test/apart"
)

// running tells whether the agent with this number and start lives, as Read sees it.
func running(t *testing.T, pid int, startTime uint64) bool {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, state.State{PID: pid, StartTime: startTime})
	_, lives, err := state.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	return lives
}

func TestRunning(t *testing.T) {
	pid, startTime, err := state.Self()
	if err != nil || pid != os.Getpid() || startTime == 0 {
		t.Fatalf("Self() = %d, %d, %v", pid, startTime, err)
	}
	if !running(t, pid, startTime) {
		t.Error("this process lives")
	}
	if running(t, pid, startTime+1) {
		t.Error("another process that has the number of the agent was taken for it")
	}
}

func TestEnded(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// It stays a zombie until it is waited for.
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if running(t, cmd.Process.Pid, 0) {
		t.Error("a zombie was taken for a living agent")
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if running(t, cmd.Process.Pid, 0) {
		t.Error("a number that nobody has was taken for a living agent")
	}
}

// With hidepid=2 others cannot see when a process of root's started, but whether there is one.
func TestHidden(t *testing.T) {
	apart.NeedRoot(t)
	parent := os.Getppid() // one's own is never hidden
	dirs := map[string]int{apart.Dir(t): parent, apart.Dir(t): 1<<22 - 1}
	for dir, pid := range dirs {
		write(t, dir, state.State{PID: pid, StartTime: 1})
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, "hidepid=2"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount("/proc", unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	got := map[int]bool{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // not unlocked: this thread is nobody from here on, and ends
		const nobody = 65534
		for _, call := range []uintptr{unix.SYS_SETRESGID, unix.SYS_SETRESUID} { // group 0 may see all
			if _, _, errno := unix.RawSyscall(call, nobody, nobody, nobody); errno != 0 {
				t.Error(errno)
				return
			}
		}
		for dir, pid := range dirs {
			_, lives, err := state.Read(dir)
			if err != nil {
				t.Error(err)
			}
			got[pid] = lives
		}
	}()
	<-done
	if !got[parent] {
		t.Error("a hidden process was taken for one that has ended")
	}
	if got[1<<22-1] {
		t.Error("a number that nobody has was taken for a living agent")
	}
}
