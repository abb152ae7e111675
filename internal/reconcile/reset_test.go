package reconcile_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/config"
	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// reset resets overlays, "overlay.a", and asks for these results.
func (w *world) reset(r plan.Reset, addresses []string, want ...string) reconcile.Report {
	w.t.Helper()
	report, err := resetOn(w.t.Context(), w.Host, r, addresses)
	if err != nil {
		w.t.Fatal(err)
	}
	w.wantResults(report, want...)
	return report
}

func resetOn(ctx context.Context, h *reconcile.Host, r plan.Reset, addresses []string) (reconcile.Report, error) {
	applied, err := h.Applied()
	if err != nil {
		return reconcile.Report{}, err
	}
	var at []string
	for _, o := range applied.Overlays {
		if slices.Contains(addresses, o.Address) {
			at = append(at, o.Mountpoint)
		}
	}
	var targets []plan.Target
	for _, address := range addresses {
		t, err := plan.ParseTarget(address)
		if err != nil {
			return reconcile.Report{}, err
		}
		targets = append(targets, t)
	}
	d, err := h.Resettable(at, r)
	if err != nil {
		return reconcile.Report{}, err
	}
	return h.Apply(ctx, d, reconcile.ApplyOptions{Targets: targets, Parallelism: 2})
}

// beside lists what lies in a directory besides upperdir and workdir.
func (w *world) beside(rel string) []string {
	w.t.Helper()
	entries, err := os.ReadDir(w.path(rel))
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if n := e.Name(); n != "u" && n != "w" {
			out = append(out, n)
		}
	}
	return out
}

func (w *world) stat(rel string) (uid, gid, mode uint32) {
	w.t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(w.path(rel), &st); err != nil {
		w.t.Fatal(err)
	}
	return st.Uid, st.Gid, st.Mode & 0o7777
}

func TestResetAll(t *testing.T) {
	w := newWorld(t)
	if err := os.Chown(w.path("base"), 7, 8); err != nil {
		t.Fatal(err)
	}
	w.spec(overlay("a", base, `mode = "1751"`), overlay("b", base))
	w.apply("overlay.a create done", "overlay.b create done")
	for _, name := range []string{"a", "b"} {
		w.write("m/"+name+"/file", "mine")
		w.write("m/"+name+"/new", "new")
	}
	// The client changes its root; a reset undoes that, too.
	if err := os.Chmod(w.path("m/a"), 0o700); err != nil {
		t.Fatal(err)
	}
	stays := w.watch("m/b")
	w.reset(plan.Reset{}, []string{"overlay.a"}, "overlay.a reset done")
	w.wantFile("m/a/file", "base")
	w.wantFile("m/a/new", "")
	w.wantFile("m/b/file", "mine")
	if uid, gid, mode := w.stat("m/a"); uid != 7 || gid != 8 || mode != 0o1751 {
		t.Errorf("the merged root belongs to %d:%d and has mode %o", uid, gid, mode)
	}
	if left := w.beside("a"); len(left) > 0 {
		t.Errorf("left beside the upperdir: %v", left)
	}
	if stays() {
		t.Error("the other client was unmounted")
	}
	w.inSync()
	w.write("m/a/file", "writable")
	w.wantFile("a/u/file", "writable")

	// nothing to do, and nobody is disturbed
	w.reset(plan.Reset{}, []string{"overlay.a"}, "overlay.a reset done")
	stays = w.watch("m/a")
	w.reset(plan.Reset{}, []string{"overlay.a"})
	if stays() {
		t.Error("a pristine client was unmounted")
	}
}

func TestResetKeeps(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base))
	w.apply("overlay.a create done")
	for round := range 3 {
		w.write("m/a/file", fmt.Sprint(round))
		r := w.reset(plan.Reset{Keep: true}, []string{"overlay.a"}, "overlay.a reset done")
		if len(r.Kept) != 1 {
			t.Fatalf("kept %v, want one directory", r.Kept)
		}
		if of, kept, ok := reconcile.SetAside(filepath.Base(r.Kept[0])); of != "u" || !kept || !ok {
			t.Errorf("%s is not known as set aside", r.Kept[0])
		}
		if text, err := os.ReadFile(filepath.Join(r.Kept[0], "file")); err != nil || string(text) != fmt.Sprint(round) {
			t.Errorf("the kept upperdir holds %q, %v", text, err)
		}
	}
	if left := w.beside("a"); len(left) != 3 {
		t.Errorf("beside the upperdir: %v, want 3", left)
	}
	w.wantFile("m/a/file", "base")
}

// TestResetIndex: with an index the kernel would refuse a fresh upperdir as stale.
func TestResetIndex(t *testing.T) {
	w := newWorld(t)
	if err := os.Link(w.path("base/file"), w.path("base/alias")); err != nil {
		t.Fatal(err)
	}
	w.spec(overlay("a", base, "options {\nindex = true\n}"))
	w.apply("overlay.a create done")
	change := func() {
		f, err := os.OpenFile(w.path("m/a/file"), os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("mine"); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		w.wantFile("m/a/alias", "mine")
	}
	change()
	w.reset(plan.Reset{}, []string{"overlay.a"}, "overlay.a reset done")
	w.wantFile("m/a/file", "base")
	w.wantFile("m/a/alias", "base")
	if left := w.beside("a"); len(left) > 0 {
		t.Errorf("left beside the upperdir: %v", left)
	}
	change()
	r := w.reset(plan.Reset{Keep: true}, []string{"overlay.a"}, "overlay.a reset done")
	if len(r.Kept) != 2 { // the index is part of the client's data
		t.Errorf("kept %v, want upperdir and workdir", r.Kept)
	}
	w.wantFile("m/a/alias", "base")
	w.inSync()
	if uid, _, mode := w.stat("a/w"); uid != 0 || mode != 0o700 {
		t.Errorf("the workdir has mode %o", mode)
	}
	p := w.reset(plan.Reset{Paths: []string{"/file"}}, []string{"overlay.a"}, "overlay.a conflict skipped")
	if err := failure(t, p, "overlay.a"); !strings.Contains(err.Error(), "without --path") {
		t.Errorf("no remedy: %v", err)
	}
}

func TestResetBusy(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base), overlay("b", base))
	w.apply("overlay.a create done", "overlay.b create done")
	w.write("m/a/file", "mine")
	w.write("m/b/file", "mine")
	f, err := os.Open(w.path("m/a/file"))
	if err != nil {
		t.Fatal(err)
	}
	stays := w.watch("m/a")
	// This process does not count itself among those that keep a mount busy, so only the kernel says it.
	w.reset(plan.Reset{}, []string{"overlay.a", "overlay.b"}, "overlay.a reset failed", "overlay.b reset done")
	if stays() {
		t.Error("a busy client was unmounted")
	}
	w.wantFile("m/a/file", "mine")
	w.wantFile("m/b/file", "base")
	if left := w.beside("a"); len(left) > 0 {
		t.Errorf("left beside the upperdir: %v", left)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	w.reset(plan.Reset{}, []string{"overlay.a"}, "overlay.a reset done")
	w.wantFile("m/a/file", "base")
}

func TestResetPaths(t *testing.T) {
	w := newWorld(t)
	w.mkdir("base/d/sub", "base/gone", "base/redone", "base/replaced")
	for _, f := range []string{"d/one", "d/two", "d/sub/deep", "gone/file", "redone/file", "replaced/file"} {
		w.write("base/"+f, "base")
	}
	w.spec(overlay("a", base))
	w.apply("overlay.a create done")
	m := func(rel string) string { return w.path("m/a/" + rel) }
	for _, err := range []error{
		os.WriteFile(m("d/one"), []byte("mine"), 0o644), os.Remove(m("d/two")), os.WriteFile(m("d/new"), []byte("mine"), 0o644),
		os.RemoveAll(m("gone")), os.RemoveAll(m("redone")), os.Mkdir(m("redone"), 0o755),
		os.WriteFile(m("redone/file"), []byte("mine"), 0o644), os.WriteFile(m("redone/new"), []byte("mine"), 0o644),
		os.RemoveAll(m("replaced")), os.WriteFile(m("replaced"), []byte("mine"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for p, remedy := range map[string]string{
		"/gone/file": "--path /gone", "/redone/file": "--path /redone", "/replaced/file": "--path /replaced",
	} {
		r := w.reset(plan.Reset{Paths: []string{p}}, []string{"overlay.a"}, "overlay.a conflict skipped")
		if err := failure(t, r, "overlay.a"); !strings.HasSuffix(err.Error(), remedy) {
			t.Errorf("%s: %v; want the remedy %q", p, err, remedy)
		}
	}
	w.reset(plan.Reset{Paths: []string{"/d/sub/deep", "/d/sub"}}, []string{"overlay.a"})
	for p, remedy := range map[string]string{
		"/nothing": "nothing at /nothing", "/d/nothing/below": "nothing at", "/d/*": "patterns are not for paths",
		w.path("m/a/d/one"): "as the client sees it, /d/one",
	} {
		r := w.reset(plan.Reset{Paths: []string{p}}, []string{"overlay.a"}, "overlay.a conflict skipped")
		if err := failure(t, r, "overlay.a"); !strings.Contains(err.Error(), remedy) {
			t.Errorf("%s: %v; want %q", p, err, remedy)
		}
	}
	w.reset(plan.Reset{Paths: []string{"/d/one", "/d/two", "/redone/new"}}, []string{"overlay.a"}, "overlay.a reset done")
	w.wantFile("m/a/d/one", "base")
	w.wantFile("m/a/d/two", "base")
	w.wantFile("m/a/d/new", "mine")
	w.wantFile("m/a/redone/new", "")
	w.wantFile("m/a/redone/file", "mine")
	r := w.reset(plan.Reset{Keep: true, Paths: []string{"/redone/file", "/redone", "/replaced", "/gone"}},
		[]string{"overlay.a"}, "overlay.a reset done")
	for _, f := range []string{"redone/file", "gone/file", "replaced/file"} {
		w.wantFile("m/a/"+f, "base")
	}
	if len(r.Kept) != 1 {
		t.Fatalf("kept %v, want one directory", r.Kept)
	}
	if text, err := os.ReadFile(filepath.Join(r.Kept[0], "redone/file")); err != nil || string(text) != "mine" {
		t.Errorf("set aside: %q, %v", text, err)
	}
	w.inSync()
}

// TestResetPathByLink: on a merged /usr, /lib/x is /usr/lib/x, and what the client did lies there.
func TestResetPathByLink(t *testing.T) {
	w := newWorld(t)
	w.mkdir("base/usr/lib/d")
	w.write("base/usr/lib/d/conf", "base")
	if err := os.Symlink("usr/lib", w.path("base/lib")); err != nil {
		t.Fatal(err)
	}
	w.spec(overlay("a", base))
	w.apply("overlay.a create done")
	w.write("m/a/lib/d/conf", "mine")
	r := w.reset(plan.Reset{Paths: []string{"/lib/d/conf"}}, []string{"overlay.a"}, "overlay.a conflict skipped")
	if err := failure(t, r, "overlay.a"); !strings.Contains(err.Error(), "/lib is a symlink to usr/lib") {
		t.Errorf("it does not say where to look: %v", err)
	}
	w.reset(plan.Reset{Paths: []string{"/usr/lib/d/conf"}}, []string{"overlay.a"}, "overlay.a reset done")
	w.wantFile("m/a/lib/d/conf", "base")
}

// TestResetPathThroughLink: a client cannot send root elsewhere by a symlink.
func TestResetPathThroughLink(t *testing.T) {
	w := newWorld(t)
	w.mkdir("victim/d")
	w.write("victim/d/file", "precious")
	w.spec(overlay("a", base))
	w.apply("overlay.a create done")
	if err := os.Symlink(w.path("victim"), w.path("m/a/link")); err != nil {
		t.Fatal(err)
	}
	w.reset(plan.Reset{Paths: []string{"/link/d"}}, []string{"overlay.a"}, "overlay.a conflict skipped")
	w.wantFile("victim/d/file", "precious")
	w.reset(plan.Reset{Paths: []string{"/link"}}, []string{"overlay.a"}, "overlay.a reset done")
	w.wantFile("victim/d/file", "precious")
	if exists(w.path("m/a/link")) {
		t.Error("the link is still there")
	}
}

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

// resetInChild is the reset that TestResetKilled kills: what to reset, and whether to keep it.
func resetInChild(what string) int {
	keep, addresses, _ := strings.Cut(what, " ")
	r, err := resetOn(context.Background(), newHost(), plan.Reset{Keep: keep == "keep"}, strings.Fields(addresses))
	if err != nil || !r.OK() {
		fmt.Fprintln(os.Stderr, err, r)
		return 1
	}
	return 0
}

// TestResetKilled kills resets at any moment, over and over. Nothing but what was to go is gone, what was to be kept is
// there once and whole, and the next run finishes.
func TestResetKilled(t *testing.T) {
	w := newWorld(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	const files, rounds = 300, 24
	w.spec(overlay("a", base), overlay("b", `"@/m/a"`), overlay("other", base))
	w.run(reconcile.ApplyOptions{})
	fill := func(name, text string) {
		w.mkdir("m/" + name + "/d")
		for i := range files {
			w.write(fmt.Sprintf("m/%s/d/%d", name, i), text)
		}
	}
	fill("other", "other")
	fill("b", "b")
	fill("a", "first")
	begun := time.Now()
	if err := child(t, resetEnv+"=keep overlay.a", nil); err != nil {
		t.Fatal(err)
	}
	most := time.Since(begun)
	killed := 0
	for round := range rounds {
		how := []string{"keep", "delete"}[round%2]
		text := fmt.Sprint("round ", round)
		fill("a", text)
		if child(t, resetEnv+"="+how+" overlay.a", time.After(time.Duration(chance.Int64N(int64(most))))) != nil {
			killed++
		}
		w.all("b/u", files, "b")
		w.all("other/u", files, "other")
		w.wantFile("base/file", "base")
		if how == "keep" && w.holding("a", text, files) != 1 {
			t.Fatalf("round %d: what the client wrote is in %d places, want one: %v", round, w.holding("a", text, files),
				w.beside("a"))
		}
		if _, err := resetOn(t.Context(), w.Host, plan.Reset{Keep: how == "keep"}, []string{"overlay.a"}); err != nil {
			t.Fatal(err)
		}
		if chance.IntN(4) == 0 || len(w.stack(w.path("m/b"))) == 0 {
			w.run(reconcile.ApplyOptions{})
		}
		w.inSync()
		if exists(w.path("a/u/d")) {
			t.Fatalf("round %d: the client is not pristine", round)
		}
		for _, name := range w.beside("a") {
			if _, kept, _ := reconcile.SetAside(name); !kept {
				t.Fatalf("round %d: %s stays", round, name)
			}
		}
		if how == "keep" && w.holding("a", text, files) != 1 {
			t.Fatalf("round %d: what the client wrote is not kept: %v", round, w.beside("a"))
		}
	}
	t.Logf("%d of %d resets were killed", killed, rounds)
	if killed == 0 {
		t.Error("no reset was killed: this tested nothing")
	}
}

// all asks for n files that hold text below d in a directory.
func (w *world) all(rel string, n int, text string) {
	w.t.Helper()
	for i := range n {
		w.wantFile(fmt.Sprintf("%s/d/%d", rel, i), text)
	}
}

// holding counts the directories in rel that hold all n files of this text.
func (w *world) holding(rel, text string, n int) int {
	w.t.Helper()
	found := 0
	for _, name := range append(w.beside(rel), "u") {
		whole := 0
		for i := range n {
			got, err := os.ReadFile(w.path(fmt.Sprintf("%s/%s/d/%d", rel, name, i)))
			if err == nil && string(got) == text {
				whole++
			}
		}
		if whole == n {
			found++
		}
	}
	return found
}
