package host_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/test/apart"
)

// start starts a cat that is known to run, and stops it at the end of the test or when stop is called.
func start(t *testing.T, prepare func(*exec.Cmd)) (pid int, stop func()) {
	t.Helper()
	cmd := exec.Command("/bin/cat")
	prepare(cmd)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			in.Close()
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	if _, err := io.WriteString(in, "started\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid, stop
}

func TestUsers(t *testing.T) {
	top := apart.Dir(t)
	c, target := overlay(t, top, nil)
	dirs(t, c.Lower[0], "dir")
	cat, err := os.ReadFile("/bin/cat")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.Lower[0]+"/cat", cat, 0o755); err != nil {
		t.Fatal(err)
	}
	mount(t, target, c)
	other, otherTarget := overlay(t, top+"/other", nil)
	mount(t, otherTarget, other)
	id := func(path string) int {
		m, _ := table(t).Top(path)
		return m.ID
	}
	open := func(path string) *os.File {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	deleted := open(target + "/deleted")
	if err := os.Remove(target + "/deleted"); err != nil {
		t.Fatal(err)
	}
	var want []int
	for _, prepare := range []func(*exec.Cmd){
		func(cmd *exec.Cmd) { cmd.Dir = target + "/dir" },
		func(cmd *exec.Cmd) { cmd.Dir = target },
		func(cmd *exec.Cmd) { cmd.Path = target + "/cat" }, // program and mapping
		func(cmd *exec.Cmd) { cmd.ExtraFiles = []*os.File{open(target + "/file")} },
		func(cmd *exec.Cmd) { cmd.ExtraFiles = []*os.File{deleted} },
	} {
		pid, _ := start(t, prepare)
		want = append(want, pid)
	}
	inOther, _ := start(t, func(cmd *exec.Cmd) { cmd.Dir = otherTarget })
	// One in a namespace of its own stands on a copy of the mount, which is not ours to take away.
	elsewhere, _ := start(t, func(cmd *exec.Cmd) {
		cmd.Dir = target
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	})
	start(t, func(cmd *exec.Cmd) { cmd.Dir = c.Upper })

	users, err := host.Users(map[int]string{id(target): target, id(otherTarget): otherTarget})
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, p := range users[id(target)] {
		got = append(got, p.PID)
		if filepath.Base(p.Command) != "cat" {
			t.Errorf("process %d is called %q", p.PID, p.Command)
		}
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("users are %v, want %v (%d is in another namespace)", got, want, elsewhere)
	}
	if u := users[id(otherTarget)]; len(u) != 1 || u[0].PID != inOther {
		t.Errorf("users of the other one are %v, want %d", u, inOther)
	}
	if users, err := host.Users(nil); err != nil || len(users) != 0 {
		t.Errorf("users of nothing: %v, %v", users, err)
	}
}

func TestOverlayUses(t *testing.T) {
	top := apart.Dir(t)
	c, target := overlay(t, top, nil)
	mount(t, target, c)
	d := dirs(t, top, "a", "b", "ro")
	mount(t, d[2], overlayfs.Config{Lower: d[:2], Options: overlayfs.Pin(nil)})
	prober := host.NewProber(nil)
	upper, work := prober.Look(c.Upper).ID, prober.Look(c.Work).ID

	pid, stop := start(t, func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	})
	find := func() (own, foreign []overlayfs.Use) {
		t.Helper()
		uses, err := host.OverlayUses(table(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range uses {
			switch {
			case u.Mountpoint == d[2]:
				t.Errorf("a read-only overlay is listed: %+v", u)
			case u.Mountpoint != target:
			case u.PID == 0:
				own = append(own, u)
			default:
				foreign = append(foreign, u)
			}
			if u.Mountpoint == target && (u.Upper != upper || u.Work != work || u.Source != "overlayd") {
				t.Errorf("got %+v, want upper %+v, work %+v", u, upper, work)
			}
		}
		return own, foreign
	}
	own, foreign := find()
	if len(own) != 1 || len(foreign) != 1 || foreign[0].PID != pid || foreign[0].Dev != own[0].Dev ||
		foreign[0].Namespace == own[0].Namespace {
		t.Errorf("own %+v, foreign %+v (process %d)", own, foreign, pid)
	}
	// The unmount succeeds, and yet the overlay lives on.
	if err := host.Unmount(target); err != nil {
		t.Fatal(err)
	}
	if own, foreign := find(); len(own) != 0 || len(foreign) != 1 || foreign[0].PID != pid {
		t.Errorf("after the unmount: own %+v, foreign %+v", own, foreign)
	}
	stop()
	if own, foreign := find(); len(own)+len(foreign) != 0 {
		t.Errorf("at the end: own %+v, foreign %+v", own, foreign)
	}
}

// TestUsesFollow: a copy in a namespace that receives our unmounts goes with ours, a private one stays.
func TestUsesFollow(t *testing.T) {
	for _, test := range []struct {
		propagation string
		follows     bool
	}{{"slave", true}, {"shared", true}, {"private", false}} {
		t.Run(test.propagation, func(t *testing.T) {
			top := apart.Dir(t)
			if err := unix.Mount("none", top, "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(top, unix.MNT_DETACH) })
			if err := unix.Mount("", top, "", unix.MS_SHARED, ""); err != nil {
				t.Fatal(err)
			}
			c, target := overlay(t, top, nil)
			mount(t, target, c)
			unshare, err := exec.LookPath("unshare")
			if err != nil {
				t.Fatal(err)
			}
			pid, _ := start(t, func(cmd *exec.Cmd) {
				cmd.Path, cmd.Args = unshare, []string{"unshare", "--mount", "--propagation", test.propagation, "cat"}
			})
			find := func() (found []overlayfs.Use) {
				uses, err := host.OverlayUses(table(t))
				if err != nil {
					t.Fatal(err)
				}
				for _, u := range uses {
					if u.PID == pid && u.Mountpoint == target {
						found = append(found, u)
					}
				}
				return found
			}
			if got := find(); len(got) != 1 || got[0].Follows != test.follows {
				t.Fatalf("got %+v, want one that follows: %t", got, test.follows)
			}
			if err := host.Unmount(target); err != nil {
				t.Fatal(err)
			}
			if got := find(); (len(got) == 0) != test.follows {
				t.Errorf("after the unmount: %+v", got)
			}
		})
	}
}
