package reconcile_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/config"
	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// TestResetFails: what goes wrong after the unmount leaves the client mounted, with its data.
func TestResetFails(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base))
	w.apply("overlay.a create done")
	w.write("m/a/file", "mine")
	// In an immutable directory (chattr +i) nothing is made or renamed; tmpfs knows that from 6.6 on.
	fd, err := unix.Open(w.path("a"), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	immutable := func(flags int) {
		t.Helper()
		if err := unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags); err != nil {
			t.Fatalf("cannot make a directory immutable: %v", err)
		}
	}
	immutable(0x10)
	down := w.watch("m/a")
	r := w.reset(plan.Reset{}, []string{"overlay.a"}, "overlay.a reset failed")
	if err := failure(t, r, "overlay.a"); !strings.Contains(err.Error(), w.path("a")) || !down() {
		t.Errorf("this was to fail while it was unmounted: %v", err)
	}
	immutable(0)
	w.wantFile("m/a/file", "mine")
	w.write("m/a/file", "again")
	w.inSync()
	w.reset(plan.Reset{}, []string{"overlay.a"}, "overlay.a reset done")
	w.wantFile("m/a/file", "base")
}

// TestResetOnFullDisk: to reset a client is the way to make room, also where there is none for a fresh directory.
func TestResetOnFullDisk(t *testing.T) {
	w := newWorld(t)
	w.mkdir("a")
	w.mount("disk", "tmpfs", "a", "mode=0755,nr_inodes=64,size=1m", 0)
	w.spec(overlay("a", base))
	w.apply("overlay.a create done")
	for i := 0; ; i++ {
		if err := os.WriteFile(w.path(fmt.Sprintf("m/a/%d", i)), nil, 0o644); err != nil {
			break
		}
	}
	r := w.reset(plan.Reset{Keep: true}, []string{"overlay.a"}, "overlay.a reset failed")
	if err := failure(t, r, "overlay.a"); !strings.Contains(err.Error(), "no space left") {
		t.Errorf("there is no room to keep it: %v", err)
	}
	if !exists(w.path("m/a/0")) {
		t.Error("what the client wrote is gone")
	}
	w.reset(plan.Reset{}, []string{"overlay.a"}, "overlay.a reset done")
	if entries, err := os.ReadDir(w.path("a/u")); err != nil || len(entries) > 0 {
		t.Errorf("the upperdir holds %d entries, %v", len(entries), err)
	}
	w.wantFile("m/a/file", "base")
	w.write("m/a/file", "room")
	w.inSync()
}

// TestResetResumes: what stood on a client that a killed reset took down comes back with it, what was kept is reported.
func TestResetResumes(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base), overlay("b", `"@/m/a"`), overlay("c", base))
	w.apply("overlay.a create done", "overlay.b create done", "overlay.c create done")
	w.umount("m/b")
	w.umount("m/a")
	w.mkdir("a/u.reset-20260101T000000Z/d", "a/w.reset-20260101T000000Z")
	unit := filepath.Base(unitPath("a"))
	kept := []string{w.path("a/u.reset-20260101T000000Z"), w.path("a/w.reset-20260101T000000Z")}
	if err := reconcile.NoteReset(unit, w.path("m/a"), []string{w.path("m/b")}, kept); err != nil {
		t.Fatal(err)
	}
	r := w.reset(plan.Reset{Keep: true}, []string{"overlay.a"}, "overlay.a reset done", "overlay.b repair done")
	if !slices.Equal(r.Kept, kept[:1]) {
		t.Errorf("kept %v, want %v", r.Kept, kept[:1])
	}
	w.inSync()
	if exists(kept[1]) {
		t.Error("the empty directory that was to hold the workdir stays")
	}

	// The note of an overlay that is deleted is nobody's.
	if err := reconcile.NoteReset(unit, w.path("m/a"), nil, nil); err != nil {
		t.Fatal(err)
	}
	w.spec(overlay("c", base)).run(reconcile.ApplyOptions{})
	w.inSync()
}

// TestResetUnseen: an upperdir that cannot be seen is not pristine.
func TestResetUnseen(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base))
	w.apply("overlay.a create done")
	w.write("m/a/file", "mine")
	w.mount("over", "tmpfs", "a", "", 0)
	r := w.reset(plan.Reset{}, []string{"overlay.a"}, "overlay.a conflict skipped")
	if err := failure(t, r, "overlay.a"); !strings.Contains(err.Error(), w.path("a/u")) {
		t.Errorf("it does not say what is missing: %v", err)
	}
	w.umount("a")
	w.mount("over", "tmpfs", "m", "", 0)
	r = w.reset(plan.Reset{}, []string{"overlay.a"}, "overlay.a conflict skipped")
	if err := failure(t, r, "overlay.a"); !strings.Contains(err.Error(), "hidden") {
		t.Errorf("it does not say what hides it: %v", err)
	}
	w.umount("m")
	w.wantFile("m/a/file", "mine")
	w.inSync()
}

// TestResetLongName: a unit's name can have all the bytes that the name of a file can.
func TestResetLongName(t *testing.T) {
	w := newWorld(t)
	name := strings.Repeat("x", 255-len("run-w-m-.mount"))
	w.spec(strings.NewReplacer("@/"+name, "@/a").Replace(overlay(name, base)))
	address := "overlay." + name
	w.apply(address + " create done")
	w.write("m/"+name+"/file", "mine")
	w.reset(plan.Reset{}, []string{address}, address+" reset done")
	w.umount("m/" + name)
	w.apply(address + " repair done")
	w.wantFile("m/"+name+"/file", "base")
}

// TestResetIndexedChild: an overlay with an index finds its layers' files by handles, and would be stale for good.
func TestResetIndexedChild(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base, "options {\nindex = true\nnfs_export = true\n}"),
		overlay("b", `"@/m/a"`, "options {\nindex = true\n}"))
	w.apply("overlay.a create done", "overlay.b create done")
	w.write("m/a/file", "mine")
	r := w.reset(plan.Reset{}, []string{"overlay.a"}, "overlay.a conflict skipped")
	if err := failure(t, r, "overlay.a"); !strings.Contains(err.Error(), "overlay.b") {
		t.Errorf("the conflict does not say with what: %v", err)
	}
	w.write("m/b/file", "mine")
	w.reset(plan.Reset{}, []string{"overlay.a", "overlay.b"}, "overlay.a reset done", "overlay.b reset done")
	w.wantFile("m/b/file", "base")
	w.inSync()
}

// TestPurgeSparesSetAside: who destroys a client with its data does not mean what was kept of an earlier one.
func TestPurgeSparesSetAside(t *testing.T) {
	w := newWorld(t)
	w.spec("settings {\nstate_dir = \"@/state\"\n}\noverlay \"a\" {\nlowerdirs = [\"@/base\"]\nmountpoint = \"@/m/a\"\n}\n")
	w.apply("overlay.a create done")
	w.write("m/a/file", "mine")
	r := w.reset(plan.Reset{Keep: true}, []string{"overlay.a"}, "overlay.a reset done")
	d, found, err := w.Doomed(w.path("m/a"))
	if err != nil || !found {
		t.Fatalf("found %t, %v", found, err)
	}
	w.d = d
	purged := w.run(reconcile.ApplyOptions{Purge: true})
	if !slices.Equal(purged.Kept, r.Kept) || !exists(r.Kept[0]+"/file") || exists(w.path("state/a/upper")) {
		t.Errorf("kept %v, and there is %v", purged.Kept, w.beside("state/a"))
	}
}

// TestResetACL: an upperdir that somebody made with ACLs is made again with them.
func TestResetACL(t *testing.T) {
	w := newWorld(t)
	w.mkdir("a/u", "a/w")
	if err := os.Chmod(w.path("a/w"), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("setfacl", "-m", "u:1000:rwx", w.path("a/u")).CombinedOutput(); err != nil {
		t.Fatalf("setfacl (package acl): %v: %s", err, out)
	}
	w.spec(overlay("a", base))
	w.apply("overlay.a create done")
	w.write("m/a/file", "mine")
	facl := func() string {
		out, err := exec.Command("getfacl", "--absolute-names", "--numeric", w.path("a/u")).CombinedOutput()
		if err != nil {
			t.Fatalf("getfacl: %v: %s", err, out)
		}
		return string(out)
	}
	before := facl()
	w.reset(plan.Reset{Keep: true}, []string{"overlay.a"}, "overlay.a reset done")
	if after := facl(); after != before {
		t.Errorf("the ACL was\n%sand is\n%s", before, after)
	}
	w.reset(plan.Reset{Keep: true}, []string{"overlay.a"})
}

// TestResetSparesForeign: beside an upperdir that somebody else made, nothing is overlayd's, whatever its name.
func TestResetSparesForeign(t *testing.T) {
	w := newWorld(t)
	w.mkdir("a/u", "a/w", "a/u.trash-20260101T000000Z")
	if err := os.Chmod(w.path("a/w"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.write("a/u.trash-20260101T000000Z/file", "precious")
	w.spec(overlay("a", base))
	w.apply("overlay.a create done")
	w.write("m/a/file", "mine")
	w.reset(plan.Reset{Keep: true}, []string{"overlay.a"}, "overlay.a reset done")
	w.wantFile("a/u.trash-20260101T000000Z/file", "precious")
}

// TestPartOfAnOverlay: where only a directory of an overlay is mounted, the unit would mount another thing at boot.
func TestPartOfAnOverlay(t *testing.T) {
	w := newWorld(t)
	w.mkdir("base/sub", "a/u", "a/w", "m/a", "whole")
	if err := os.Chmod(w.path("a/w"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.mount("byhand", "overlay", "whole", "lowerdir=@/base,upperdir=@/a/u,workdir=@/a/w", 0)
	if err := unix.Mount(w.path("whole/sub"), w.path("m/a"), "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	w.umount("whole")
	w.spec(overlay("a", base))
	w.wantPlan("overlay.a conflict")
}

// TestResetRootTree: in a tree that is prepared the paths are the tree's.
func TestResetRootTree(t *testing.T) {
	w := newWorld(t)
	w.mkdir("img/t/base", "img/etc/systemd/system")
	h := &reconcile.Host{Root: w.path("img"), Log: w.Log}
	w.mkdir("spec")
	w.write("spec/s.hcl", "overlay \"a\" {\nlowerdirs = [\"/t/base\"]\nupperdir = \"/t/u\"\nworkdir = \"/t/w\"\n"+
		"mountpoint = \"/m/a\"\n}\n")
	spec, diags := config.Load([]string{w.path("spec")}, config.Inputs{HostName: "test"})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	d, diags := reconcile.Desire(spec, h.Root)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if _, err := h.Apply(t.Context(), d, reconcile.ApplyOptions{}); err != nil {
		t.Fatal(err)
	}
	w.write("img/t/u/file", "mine")
	w.mkdir("img/t/u.trash-20260101T000000Z/d")
	r, err := resetOn(t.Context(), h, plan.Reset{}, []string{"overlay.a"})
	if err != nil {
		t.Fatal(err)
	}
	w.wantResults(r, "overlay.a reset done")
	if exists(w.path("img/t/u/file")) || exists(w.path("img/t/u.trash-20260101T000000Z")) {
		t.Errorf("left: %v", w.beside("img/t"))
	}
}
