package reconcile_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

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
