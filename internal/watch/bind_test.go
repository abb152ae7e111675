package watch_test

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/watch"
	"github.com/overlayd/overlayd/test/apart"
)

// TestFilesMountedOver: inotify does not tell of mounts, Set finds them.
func TestFilesMountedOver(t *testing.T) {
	top := apart.Dir(t)
	sh(t, top, "mkdir -p etc/spec; echo 1 > etc/spec/a.hcl")
	s := watch.NewStepped(t, t.TempDir())
	paths := []watch.Path{{Path: top + "/etc/spec", Match: hcl}}
	step := func(what string, again, wantHint bool) {
		t.Helper()
		if again {
			if err := s.Set(paths); err != nil {
				t.Fatal(err)
			}
		}
		if hint := s.Step(t); hint != wantHint {
			t.Fatalf("%s: hint: %v, want %v", what, hint, wantHint)
		}
	}
	step("the beginning", true, false)
	for range 2 { // the second tmpfs may well have the device and inode numbers of the first
		mount(t, "new", top+"/etc", "tmpfs", 0)
		sh(t, top, "mkdir etc/spec; echo 2 > etc/spec/a.hcl")
		step("mounted over the parent", true, true)
		sh(t, top, "echo 3 > etc/spec/a.hcl")
		step("a write to what was mounted", false, true)
		unmount(t, top+"/etc")
		s.Step(t)
	}
	step("unmounted", true, true)
	sh(t, top, "echo 4 > etc/spec/a.hcl")
	step("a write to what was below", false, true)

	const same = "mkdir etc/spec; echo 2 > etc/spec/a.hcl; touch -m -d 2001-01-01 etc/spec/a.hcl"
	mount(t, "new", top+"/etc", "tmpfs", 0)
	sh(t, top, same)
	step("mounted", true, true)
	sh(t, top, "chmod 700 etc")
	step("a chmod of what is mounted, which the directory above is not told of", false, true)
	sh(t, top, "chmod 755 etc")
	step("a chmod back", false, true)
	unmount(t, top+"/etc")
	mount(t, "new", top+"/etc", "tmpfs", 0)
	sh(t, top, same+"; chmod 755 etc")
	s.Step(t)
	step("replaced by another that looks the same", true, true)
	sh(t, top, "echo 3 > etc/spec/a.hcl")
	step("a write to the other", false, true)
}

// TestFilesSameDirectory: a directory that two paths lead to without a symlink has one inotify watch.
func TestFilesSameDirectory(t *testing.T) {
	top := apart.Dir(t)
	sh(t, top, "mkdir -p a/d b; echo 1 > a/x.hcl")
	mount(t, top+"/a", top+"/b", "", unix.MS_BIND)
	a := []watch.Path{{Path: top + "/a/x.hcl"}, {Path: top + "/a/d"}}
	b := []watch.Path{{Path: top + "/b/z.hcl"}, {Path: top + "/b/d/e.hcl"}}
	marks := t.TempDir()
	s := watch.NewStepped(t, marks)
	for _, paths := range [][]watch.Path{a, b, slices.Concat(a, b), slices.Concat(b, a), b, a, slices.Concat(b, a), b} {
		if err := s.Set(paths); err != nil {
			t.Fatal(err)
		}
		s.Step(t)
		if !sameBut(s.Kept(), s.Watched(), marks) {
			t.Fatalf("fsnotify watches\n%q instead of\n%q", s.Kept(), s.Watched())
		}
		for _, c := range []struct {
			script string
			of     string // the paths that it concerns
		}{
			{"echo 2 > a/x.hcl", "a/x.hcl"},
			{"echo 3 > b/x.hcl", "a/x.hcl"},
			{"echo 1 > a/z.hcl", "b/z.hcl"},
			{"rm b/z.hcl", "b/z.hcl"},
			{"echo 1 > a/d/e.hcl", "a/d b/d/e.hcl"},
			{"rm b/d/e.hcl", "a/d b/d/e.hcl"},
		} {
			want := slices.ContainsFunc(paths, func(p watch.Path) bool {
				return slices.Contains(strings.Fields(c.of), strings.TrimPrefix(p.Path, top+"/"))
			})
			sh(t, top, c.script)
			if s.Step(t) != want {
				t.Errorf("%v: %s: hint: %v, want %v", paths, c.script, !want, want)
			}
		}
		sh(t, top, "echo 1 > a/y; rm b/y")
		if s.Step(t) {
			t.Errorf("%v: a hint for nothing", paths)
		}
	}
	// With the first of the names gone, the other one counts.
	if err := s.Set(slices.Concat(a, b)); err != nil {
		t.Fatal(err)
	}
	s.Step(t)
	sh(t, top, "mv a c")
	if !s.Step(t) {
		t.Error("no hint for the move of a directory")
	}
	sh(t, top, "echo 3 > b/z.hcl")
	if !s.Step(t) {
		t.Error("no hint for a change by the name that is left")
	}
	sh(t, top, "echo 1 > c/d/e.hcl")
	if !s.Step(t) {
		t.Error("no hint for a change by a name of no interest of what has another")
	}
}
