package host_test

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/test/apart"
)

func TestLostUsers(t *testing.T) {
	top := apart.Dir(t)
	c, target := overlay(t, dirs(t, top, "a")[0], nil)
	dirs(t, c.Lower[0], "dir")
	mount(t, target, c)
	kept, keptTarget := overlay(t, dirs(t, top, "b")[0], nil)
	mount(t, keptTarget, kept)
	tmpfs := dirs(t, top, "tmpfs")[0]
	if err := unix.Mount("none", tmpfs, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	open := func(path string) *os.File {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	lost := func() (pids []int) {
		t.Helper()
		users, err := host.LostUsers()
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range users {
			pids = append(pids, u.PID)
			if u.Command == "" {
				t.Errorf("process %d has no name", u.PID)
			}
		}
		return pids
	}
	at := func(dir string) func(*exec.Cmd) { return func(cmd *exec.Cmd) { cmd.Dir = dir } }
	own := func(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS} }

	var users []int
	var stops []func()
	for _, prepare := range []func(*exec.Cmd){
		at(target), at(target + "/dir"),
		func(cmd *exec.Cmd) { cmd.ExtraFiles = []*os.File{open(target + "/file")} },
	} {
		pid, stop := start(t, prepare)
		users, stops = append(users, pid), append(stops, stop)
	}
	// None of these is ever lost: on what stays mounted, on another filesystem, with no path, on what only another
	// namespace has mounted in the end.
	start(t, at(keptTarget))
	start(t, at(tmpfs))
	memfd, err := unix.MemfdCreate("memory", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	start(t, func(cmd *exec.Cmd) { cmd.ExtraFiles = []*os.File{os.NewFile(uintptr(memfd), "memory")} })
	elsewhere, _ := start(t, func(cmd *exec.Cmd) { own(cmd); cmd.Dir = target })
	foreign := open(fmt.Sprintf("/proc/%d/cwd/foreign", elsewhere))
	start(t, func(cmd *exec.Cmd) { cmd.ExtraFiles = []*os.File{foreign} })
	foreign.Close()

	if got := lost(); len(got) > 0 {
		t.Errorf("lost while all is mounted: %v", got)
	}
	for _, dir := range []string{target, tmpfs} {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(users)
	if got := lost(); !slices.Equal(got, users) {
		t.Errorf("lost: %v, want %v", got, users)
	}
	begin := time.Now()
	lost()
	t.Logf("a scan takes %v", time.Since(begin))
	for _, stop := range stops {
		stop()
	}
	if got := lost(); len(got) > 0 {
		t.Errorf("lost when all users have ended: %v", got)
	}
}

// A mapping keeps what it maps, when the file is closed.
func TestLostMapping(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip(err)
	}
	c, target := overlay(t, apart.Dir(t), nil)
	write(t, c.Lower[0]+"/file", "text")
	mount(t, target, c)
	const program = "import mmap, os, sys\nf = os.open(sys.argv[1], os.O_RDWR)\n" +
		"m = mmap.mmap(f, 4)\nos.closerange(3, 64)\nprint(sys.stdin.readline(), flush=True)\nsys.stdin.read()"
	pid, _ := start(t, func(cmd *exec.Cmd) {
		cmd.Path, cmd.Args = python, []string{python, "-c", program, target + "/file"}
	})
	if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	users, err := host.LostUsers()
	if err != nil || len(users) != 1 || users[0].PID != pid {
		t.Errorf("lost: %v, %v; want process %d", users, err, pid)
	}
}

func BenchmarkLostUsers(b *testing.B) {
	for b.Loop() {
		if _, err := host.LostUsers(); err != nil {
			b.Fatal(err)
		}
	}
}
