package host_test

import (
	"fmt"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/test/apart"
)

// TestNamespacesUses: what is remembered, and what is read each time, is what [host.OverlayUses] finds, less the copies
// of what is mounted here.
func TestNamespacesUses(t *testing.T) {
	top := apart.Dir(t)
	var remembers host.Namespaces
	check := func(when string) (elsewhere []overlayfs.Use) {
		t.Helper()
		now := table(t)
		all, err := host.OverlayUses(now)
		if err != nil {
			t.Fatal(err)
		}
		here := map[string]bool{}
		for _, u := range all {
			if u.PID == 0 {
				here[u.Dev] = true
			}
		}
		// What goes on elsewhere on this host is not the test's.
		all = slices.DeleteFunc(all, func(u overlayfs.Use) bool { return !within(u.Mountpoint, top) })
		var want []overlayfs.Use
		for _, u := range all {
			if u.PID == 0 || !here[u.Dev] {
				want = append(want, u)
			}
			if u.PID != 0 && !here[u.Dev] {
				elsewhere = append(elsewhere, u)
			}
		}
		prober := host.NewProber(now)
		for who, n := range map[string]*host.Namespaces{"with a memory": &remembers, "without": nil} {
			got, err := n.Uses(now, func(dir string) overlayfs.FileID { return prober.Look(dir).ID })
			if err != nil {
				t.Fatal(err)
			}
			got = slices.DeleteFunc(got, func(u overlayfs.Use) bool { return !within(u.Mountpoint, top) })
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s, %s: want -, got +:\n%s", when, who, diff)
			}
		}
		return elsewhere
	}
	own := func(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS} }

	check("nothing is mounted")
	a, targetA := overlay(t, dirs(t, top, "a")[0], nil)
	b, targetB := overlay(t, dirs(t, top, "b")[0], nil)
	mount(t, targetA, a)
	pid, stop := start(t, own)
	if got := check("a copy in another namespace"); len(got) != 0 {
		t.Errorf("a copy of what is mounted here is listed: %+v", got)
	}
	check("nothing has changed")
	mount(t, targetB, b)
	check("mounted here alone")
	if err := host.Unmount(targetA); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		got := check("the copy is all that is left")
		if len(got) != 1 || got[0].PID != pid || got[0].Mountpoint != targetA {
			t.Errorf("elsewhere: %+v, want %s in process %d", got, targetA, pid)
		}
	}
	// The number of the super block is given out again, while the copy has its own.
	mount(t, targetA, a)
	if got := check("two super blocks on one upperdir"); len(got) != 1 {
		t.Errorf("elsewhere: %+v", got)
	}
	enter(t, pid, "umount", targetA)
	if got := check("the copy is gone"); len(got) != 0 {
		t.Errorf("elsewhere: %+v", got)
	}
	c, targetC := overlay(t, dirs(t, top, "c")[0], nil)
	enter(t, pid, "mount", "-t", "overlay", "stranger", targetC, "-o", c.MountOptions())
	if got := check("mounted there alone"); len(got) != 1 || got[0].Source != "stranger" {
		t.Errorf("elsewhere: %+v", got)
	}
	enter(t, pid, "umount", targetC)
	d, _ := overlay(t, dirs(t, top, "d")[0], nil)
	enter(t, pid, "mount", "-t", "overlay", "stranger", targetC, "-o", d.MountOptions())
	if got := check("another one in its place"); len(got) != 1 || got[0].Upper != host.Identify([]string{d.Upper})[0] {
		t.Errorf("elsewhere: %+v", got)
	}
	stop()
	if got := check("the process has ended"); len(got) != 0 {
		t.Errorf("elsewhere: %+v", got)
	}
}

func within(p, dir string) bool { return len(p) > len(dir) && p[:len(dir)+1] == dir+"/" }

// enter runs a command in the mount namespace of a process.
func enter(t *testing.T, pid int, command ...string) {
	t.Helper()
	args := append([]string{fmt.Sprintf("--mount=/proc/%d/ns/mnt", pid)}, command...)
	if out, err := exec.Command("nsenter", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", command, err, out)
	}
}
