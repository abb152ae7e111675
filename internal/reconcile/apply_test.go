package reconcile_test

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

func TestCreate(t *testing.T) {
	w := newWorld(t)
	if err := os.Chown(w.path("base"), 4242, 50); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(w.path("base"), os.ModeSetgid|0o750); err != nil {
		t.Fatal(err)
	}
	w.spec(overlay("a", base), overlay("b", upper, `mode = "0711"`, "options {\nnosuid = true\n}"))
	w.wantPlan("overlay.a create", "overlay.b create")
	r := w.apply("overlay.a create done", "overlay.b create done")
	if !r.Changed() || !r.OK() || !r.NotReloaded {
		t.Errorf("changed %t, ok %t, not reloaded %t; want all true", r.Changed(), r.OK(), r.NotReloaded)
	}
	w.wantFile("m/a/file", "base")
	w.wantFile("m/b/file", "more")
	w.write("m/a/new", "a")
	w.wantFile("a/u/new", "a")
	w.wantFile("m/b/new", "")
	w.wantFile("base/new", "")

	// the merged root is as the topmost lowerdir, or as the spec says; workdirs are root's alone
	for at, want := range map[string][3]uint32{
		"m/a": {4242, 50, 0o42750}, "m/b": {0, 0, 0o40711}, "a/w": {0, 0, 0o40700}, "b/w": {0, 0, 0o40700},
	} {
		var st unix.Stat_t
		if err := unix.Stat(w.path(at), &st); err != nil {
			t.Fatal(err)
		}
		if got := [3]uint32{st.Uid, st.Gid, st.Mode}; got != want {
			t.Errorf("%s: %o, want %o", at, got, want)
		}
	}
	if m := w.mounted(w.path("m/b")); m.Source != plan.Label || !has(m.Flags, "nosuid") {
		t.Errorf("m/b: source %q, flags %v", m.Source, m.Flags)
	}
	for _, link := range []string{"overlayd.target.wants/run-w-m-a.mount", "multi-user.target.wants/overlayd.target"} {
		if _, err := os.Stat(unitDir + "/" + link); err != nil {
			t.Errorf("not enabled: %v", err)
		}
	}
}

func has(flags map[string]string, name string) bool {
	_, ok := flags[name]
	return ok
}

// Whatever happens to a mount or its unit while nobody looks, one apply makes it right, with the data as it was.
func TestDrift(t *testing.T) {
	for name, c := range map[string]struct {
		drift  func(w *world)
		kind   plan.Kind
		reason string
	}{
		"unmounted": {func(w *world) { w.umount("m/a") }, plan.Repair, "not mounted"},
		"other layers by hand": {func(w *world) {
			w.umount("m/a")
			w.mount("overlay", "overlay", "m/a", "lowerdir=@/more,upperdir=@/a/u,workdir=@/a/w", 0)
		}, plan.Repair, "lowerdirs"},
		"other upper by hand": {func(w *world) {
			w.umount("m/a")
			w.mkdir("x/u", "x/w")
			w.mount("overlay", "overlay", "m/a", "lowerdir=@/base,upperdir=@/x/u,workdir=@/x/w", 0)
		}, plan.Repair, "upperdir"},
		"read-only by hand": {func(w *world) {
			w.umount("m/a")
			w.mount("overlayd", "overlay", "m/a", "lowerdir=@/base,upperdir=@/a/u,workdir=@/a/w", unix.MS_RDONLY)
		}, plan.Repair, "read-only"},
		"flag by hand": {func(w *world) {
			if err := unix.Mount("", w.path("m/a"), "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NOEXEC, ""); err != nil {
				w.t.Fatal(err)
			}
		}, plan.Repair, "noexec"},
		"mounted twice": {func(w *world) {
			w.mount("overlayd", "overlay", "m/a",
				"lowerdir=@/base,upperdir=@/a/u,workdir=@/a/w,redirect_dir=off,index=off,metacopy=off", 0)
		}, plan.Repair, "mounted 2 times"},
		"unit edited": {func(w *world) {
			text := strings.Replace(w.unit("a"), "TimeoutSec=30s", "TimeoutSec=1s", 1)
			if err := os.WriteFile(unitPath("a"), []byte(text), 0o644); err != nil {
				w.t.Fatal(err)
			}
		}, plan.Update, "unit"},
		"unit cut off": {func(w *world) {
			if err := os.Truncate(unitPath("a"), int64(len(w.unit("a"))-10)); err != nil {
				w.t.Fatal(err)
			}
		}, plan.Update, "unit"},
		"unit deleted": {func(w *world) {
			if err := os.Remove(unitPath("a")); err != nil {
				w.t.Fatal(err)
			}
		}, plan.Update, "unit file was deleted"},
		"unit deleted, mount gone": {func(w *world) {
			w.umount("m/a")
			if err := os.Remove(unitPath("a")); err != nil {
				w.t.Fatal(err)
			}
		}, plan.Create, ""},
		"not enabled": {func(w *world) {
			if err := os.Remove(unitDir + "/overlayd.target.wants/run-w-m-a.mount"); err != nil {
				w.t.Fatal(err)
			}
		}, plan.Update, "overlayd.target.wants"},
		"target gone": {func(w *world) {
			if err := os.Remove(unitDir + "/overlayd.target"); err != nil {
				w.t.Fatal(err)
			}
		}, plan.Update, "overlayd.target"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.spec(overlay("a", base)).apply("overlay.a create done")
			w.write("m/a/data", "of the client")
			c.drift(w)
			p := w.wantPlan("overlay.a " + string(c.kind))
			if got := reasons(t, p, "overlay.a"); !strings.Contains(got, c.reason) {
				t.Errorf("reasons %q, want %q in them", got, c.reason)
			}
			w.apply("overlay.a " + string(c.kind) + " done")
			w.wantFile("m/a/data", "of the client")
			w.wantFile("m/a/file", "base")
			w.apply()
		})
	}
}

// What the spec changes about an overlay that is mounted.
func TestChange(t *testing.T) {
	for name, c := range map[string]struct {
		spec   string
		kind   plan.Kind
		file   string // text of m/a/file afterwards
		remain bool   // it is the same mount as before
	}{
		"layers":          {overlay("a", upper), plan.Replace, "more", false},
		"overlay option":  {overlay("a", base, "options {\nredirect_dir = \"on\"\n}"), plan.Replace, "base", false},
		"per-mount flags": {overlay("a", base, "options {\nnosuid = true\nnoatime = true\n}"), plan.Update, "base", true},
		"description":     {overlay("a", base, "unit {\ndescription = \"x\"\n}"), plan.Update, "base", true},
		"on_busy":         {overlay("a", base, "lifecycle {\non_busy = \"detach\"\n}"), plan.Update, "base", true},
		"wanted_by": {
			overlay("a", base, "unit {\nwanted_by = [\"overlayd.target\", \"graphical.target\"]\n}"), plan.Update, "base", true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.spec(overlay("a", base)).apply("overlay.a create done")
			w.write("m/a/data", "of the client")
			unmounted := w.watch("m/a")
			w.spec(c.spec)
			if p := w.plan(); p.Changes[0].Disruptive == c.remain {
				t.Errorf("disruptive: %t, want %t", p.Changes[0].Disruptive, !c.remain)
			}
			w.apply("overlay.a " + string(c.kind) + " done")
			if gone := unmounted(); gone == c.remain {
				t.Errorf("the mount was taken down: %t, want %t", gone, !c.remain)
			}
			w.wantFile("m/a/file", c.file)
			w.wantFile("m/a/data", "of the client")
		})
	}
}

// A comment, or a block that moves in its file, changes no unit.
func TestTextOfSpecDoesNotMatter(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base)).apply("overlay.a create done")
	w.spec("# a comment\n\n", overlay("b", base), overlay("a", base)).apply("overlay.b create done")
	w.spec(overlay("a", base), overlay("b", base)).apply()
}

func TestAdopt(t *testing.T) {
	w := newWorld(t)
	w.mkdir("a/u", "a/w", "m/a")
	w.mount("overlay", "overlay", "m/a", "lowerdir=@/base,upperdir=@/a/u,workdir=@/a/w", 0)
	w.write("m/a/data", "of the client")
	unmounted := w.watch("m/a")

	// one that differs is somebody else's
	w.spec(overlay("a", upper))
	if got := reasons(t, w.wantPlan("overlay.a conflict"), "overlay.a"); !strings.Contains(got, "to adopt it") {
		t.Errorf("reasons: %s", got)
	}
	if r := w.run(reconcile.ApplyOptions{}); r.OK() || exists(unitPath("a")) {
		t.Errorf("a foreign overlay was touched: %+v", r)
	}

	w.spec(overlay("a", base)).apply("overlay.a adopt done")
	if unmounted() {
		t.Error("adopting mounted it anew")
	}
	// overlayd did not make its directories, so destroying it keeps them, whatever is asked
	d, found, err := w.Doomed(w.path("m/a"))
	if err != nil || !found {
		t.Fatal(found, err)
	}
	w.d = d
	r := w.run(reconcile.ApplyOptions{Purge: true})
	w.wantResults(r, "overlay.a delete done")
	w.wantFile("a/u/data", "of the client")
	if !exists(w.path("m/a")) || len(r.Purged) > 0 {
		t.Errorf("purged %q", r.Purged)
	}
}

func TestDelete(t *testing.T) {
	w := newWorld(t)
	w.mkdir("m/b", "b/u")
	w.spec(overlay("a", base), overlay("b", base), overlay("c", base)).
		apply("overlay.a create done", "overlay.b create done", "overlay.c create done")
	for _, name := range []string{"a", "b", "c"} {
		w.write("m/"+name+"/data", name)
	}
	r := w.spec(overlay("c", base)).apply("overlay.a delete done", "overlay.b delete done")
	if want := []string{w.path("a/u"), w.path("b/u")}; strings.Join(r.Kept, " ") != strings.Join(want, " ") {
		t.Errorf("kept %q, want %q", r.Kept, want)
	}
	w.wantFile("a/u/data", "a")
	w.wantFile("b/u/data", "b")
	for p, want := range map[string]bool{
		unitPath("a"): false, unitDir + "/overlayd.target.wants/run-w-m-a.mount": false, w.path("m/a"): false,
		w.path("m/b"): true, // it was there before overlayd
		unitPath("c"): true, unitDir + "/overlayd.target": true,
	} {
		if exists(p) != want {
			t.Errorf("%s exists: %t, want %t", p, !want, want)
		}
	}

	// the last one takes overlayd.target with it
	w.spec().apply("overlay.c delete done")
	if left, err := os.ReadDir(unitDir); err != nil || exists(unitDir+"/overlayd.target") {
		t.Errorf("left in the unit directory: %v, %v", left, err)
	}
}

// Purge deletes what overlayd made, and nothing else.
func TestPurge(t *testing.T) {
	w := newWorld(t)
	w.mkdir("b/u", "b/w")
	w.spec(`settings { state_dir = "@/state" }`+"\n", overlay("a", base), overlay("b", base), `
overlay "c" {
  lowerdirs  = ["@/base"]
  mountpoint = "@/m/c"
}
`).apply("overlay.a create done", "overlay.b create done", "overlay.c create done")
	w.write("a/beside", "of somebody else")
	for _, name := range []string{"a", "b", "c"} {
		w.write("m/"+name+"/data", name)
	}
	d, err := w.DoomedFrom(w.d.Scope)
	if err != nil {
		t.Fatal(err)
	}
	w.d = d
	r := w.run(reconcile.ApplyOptions{Purge: true})
	w.wantResults(r, "overlay.a delete done", "overlay.b delete done", "overlay.c delete done")
	for p, want := range map[string]bool{
		"a/u": false, "a/w": false, "a/beside": true, "b/u/data": true, "b/w": true, "state/c": false, "state": true,
	} {
		if exists(w.path(p)) != want {
			t.Errorf("%s exists: %t, want %t", p, !want, want)
		}
	}
	if len(r.Kept) != 1 || r.Kept[0] != w.path("b/u") {
		t.Errorf("kept %q, want b/u", r.Kept)
	}
}

// A live overlay of ours without a unit: drift, not part of a plan, and gone with destroy MOUNTPOINT.
func TestOrphan(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base)).apply("overlay.a create done")
	for _, p := range []string{unitPath("a"), unitDir + "/overlayd.target.wants/run-w-m-a.mount"} {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	w.spec().wantPlan()
	drift, err := w.Applied()
	if err != nil || len(drift.Orphans) != 1 || drift.Orphans[0] != w.path("m/a") {
		t.Fatalf("orphans %q, %v", drift.Orphans, err)
	}
	if w.d, _, err = w.Doomed(w.path("m/a")); err != nil {
		t.Fatal(err)
	}
	w.wantResults(w.run(reconcile.ApplyOptions{}), w.path("m/a")+" delete done")
	if len(w.stack(w.path("m/a"))) > 0 {
		t.Error("still mounted")
	}
	if _, found, err := w.Doomed(w.path("m/a")); found || err != nil {
		t.Errorf("found again: %t, %v", found, err)
	}
}

// The kernel mounts read-only, without a word, when it cannot clean the workdir.
func TestWorkdirLeftDirty(t *testing.T) {
	const scratch = "a/w/work" // the kernel's, in the workdir
	w := newWorld(t)
	w.spec(overlay("a", base)).apply("overlay.a create done")
	w.umount("m/a")
	w.mkdir(scratch + "/1/2/3/4")
	w.apply("overlay.a repair done")
	w.write("m/a/data", "writable")

	// what cannot be emptied fails, and leaves no read-only mount behind
	w.umount("m/a")
	w.mkdir(scratch + "/1/2/3")
	w.mount("tmpfs", "tmpfs", scratch+"/1/2/3", "", 0)
	r := w.run(reconcile.ApplyOptions{})
	w.wantResults(r, "overlay.a repair failed")
	if len(w.stack(w.path("m/a"))) > 0 {
		t.Error("a read-only mount stays")
	}
	if err := failure(t, r, "overlay.a"); !strings.Contains(err.Error(), w.path("a/w")) {
		t.Errorf("the error does not name the workdir: %v", err)
	}
	w.umount(scratch + "/1/2/3")
	w.apply("overlay.a repair done")
}

func TestReadOnlyOverlay(t *testing.T) {
	w := newWorld(t)
	w.spec("overlay \"a\" {\nread_only = true\nlowerdirs = [" + upper + "]\nmountpoint = \"@/m/a\"\n}\n").
		apply("overlay.a create done")
	w.wantFile("m/a/file", "more")
	if err := os.WriteFile(w.path("m/a/new"), nil, 0o644); err == nil {
		t.Error("it can be written to")
	}
}

// TestBindMounted: an overlay that somebody has bind mounted elsewhere is one overlay still, and no orphan.
func TestBindMounted(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base))
	w.apply("overlay.a create done")
	w.mkdir("elsewhere")
	if err := unix.Mount(w.path("m/a"), w.path("elsewhere"), "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	w.inSync()
	// But it would keep the upperdir in use beyond an unmount.
	w.spec(overlay("a", upper))
	if p := w.wantPlan("overlay.a conflict"); !strings.Contains(reasons(t, p, "overlay.a"), w.path("elsewhere")) {
		t.Errorf("the conflict does not name the bind mount: %s", reasons(t, p, "overlay.a"))
	}
}
