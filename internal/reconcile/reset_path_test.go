package reconcile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

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
