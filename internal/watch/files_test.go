package watch_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/overlayd/overlayd/internal/watch"
)

func hcl(name string) bool { return strings.HasSuffix(name, ".hcl") && !strings.HasPrefix(name, ".") }

// TestFilesHints runs scripts below a fresh directory. After one that begins with "no ", there must be no hint, after
// any other there must be one.
func TestFilesHints(t *testing.T) {
	const spec = "mkdir -p etc/spec; echo 1 > etc/spec/a.hcl"
	const linked = "mkdir v1 v2; echo 1 > v1/a.hcl; echo 2 > v2/a.hcl; ln -s v1 current"
	for _, test := range []struct {
		name  string
		setup string
		path  string // the entries that end in .hcl matter if it is a directory
		steps []string
	}{
		{"directory: entries", spec, "etc/spec", []string{
			"echo 2 > etc/spec/a.hcl",
			"echo 3 >> etc/spec/a.hcl",
			"truncate -s 0 etc/spec/a.hcl",
			"echo 1 > etc/spec/b.hcl",
			"mv etc/spec/b.hcl etc/spec/b.off",
			"mv etc/spec/b.off etc/spec/c.hcl",
			"echo 1 > new; mv new etc/spec/c.hcl",
			"rm etc/spec/c.hcl",
			"mkdir etc/spec/d.hcl",
			"no echo 1 > etc/spec/d.hcl/a.hcl",
			"rm -r etc/spec/d.hcl",
		}},
		{"directory: what does not matter", spec, "etc/spec", []string{
			"no echo 1 > etc/spec/.a.hcl.swp; echo 2 > etc/spec/.a.hcl.swp; rm etc/spec/.a.hcl.swp",
			"no echo 1 > etc/spec/a.hcl~; mv etc/spec/a.hcl~ etc/spec/README",
			"no echo 1 > etc/spec/4913; chmod 600 etc/spec/4913; rm etc/spec/4913",
			"no mkdir etc/spec/dir; echo 1 > etc/spec/dir/a.hcl; mv etc/spec/dir etc/spec/d; rm -r etc/spec/d",
			"no cat etc/spec/a.hcl; ls -l etc/spec; stat etc/spec/a.hcl",
			"no touch -a -d 2001-01-01 etc/spec/a.hcl",
			"no ln etc/spec/a.hcl other; rm other",
			"no : >> etc/spec/a.hcl",
			"no touch etc/spec etc .",
			"no mkdir -p etc/spec2 usr; echo 1 > etc/file; mv etc/file usr/file; rm -r usr etc/spec2",
		}},
		{"attributes", spec, "etc/spec", []string{
			"chmod 666 etc/spec/a.hcl",
			"no chmod 666 etc/spec/a.hcl",
			"touch -m -d 2001-01-01 etc/spec/a.hcl",
			"echo 9 > etc/spec/a.hcl; touch -m -d 2001-01-01 etc/spec/a.hcl",
			"no touch -d 2001-01-01 etc/spec/a.hcl",
			"chmod 777 etc/spec",
			"chmod 700 etc",
		}},
		{"directory: moved, deleted, made anew", spec, "etc/spec", []string{
			"mv etc/spec etc/old",
			"no echo 2 > etc/old/a.hcl",
			"mv etc/old etc/spec",
			"echo 3 > etc/spec/a.hcl",
			"mv etc/spec etc/old; mv etc/old etc/spec",
			"echo 4 > etc/spec/a.hcl",
			"rm -r etc/spec",
			"mkdir etc/spec",
			"echo 1 > etc/spec/b.hcl",
			"rm -r etc/spec; mkdir etc/spec; echo 1 > etc/spec/b.hcl",
			"echo 2 > etc/spec/b.hcl",
			"mv etc old",
			"no echo 3 > old/spec/b.hcl",
			"mkdir -p etc/spec; echo 1 > etc/spec/c.hcl",
			"echo 2 > etc/spec/c.hcl",
			"mv etc gone; mv old etc; rm -r gone",
			"echo 4 > etc/spec/b.hcl",
			"rm -r etc; echo 1 > etc",
			"rm etc; mkdir -p etc/spec",
			"echo 1 > etc/spec/a.hcl",
		}},
		{"directory: replaced by one of the same name", spec + "; mkdir new; echo 2 > new/a.hcl", "etc/spec", []string{
			"mv etc/spec old; mv new etc/spec",
			"echo 3 > etc/spec/a.hcl",
			"no echo 3 > old/a.hcl",
		}},
		{"file", "mkdir etc; echo 1 > etc/a.hcl", "etc/a.hcl", []string{
			"echo 2 > etc/a.hcl",
			"no echo 1 > etc/b.hcl; echo 2 > etc/b.hcl; rm etc/b.hcl",
			"echo 1 > etc/.tmp; mv etc/.tmp etc/a.hcl",
			"chmod 600 etc/a.hcl",
			"rm etc/a.hcl",
			"no echo 1 > etc/b.hcl",
			"mv etc/b.hcl etc/a.hcl",
			"rm etc/a.hcl; ln -s ../elsewhere.hcl etc/a.hcl",
			"echo 1 > elsewhere.hcl",
			"rm etc/a.hcl; mkdir etc/a.hcl",
			"echo 1 > etc/a.hcl/a.hcl",
		}},
		{"not there yet", "", "a/b/c/x.hcl", []string{
			"no mkdir b; echo 1 > b/x.hcl; rm -r b",
			"mkdir a",
			"no echo 1 > a/c",
			"mkdir a/b",
			"mkdir a/b/c",
			"no echo 1 > a/b/c/y.hcl",
			"echo 1 > a/b/c/x.hcl",
			"rm -r a",
			"mkdir -p a/b/c; echo 1 > a/b/c/x.hcl",
			"echo 2 > a/b/c/x.hcl",
			"rm -r a; echo 1 > a",
			"no echo 2 > b",
			"rm a; mkdir -p a/b/c; echo 1 > a/b/c/x.hcl",
			"echo 2 > a/b/c/x.hcl",
		}},
		{"directory is a symlink that is swapped", linked, "current", []string{
			"echo 3 > v1/a.hcl",
			"no echo 3 > v2/a.hcl",
			"ln -sfn v2 tmp; mv -T tmp current",
			"echo 4 > v2/a.hcl",
			"no echo 4 > v1/a.hcl",
			"rm v1/a.hcl; ln -s v1 tmp; mv -T tmp current",
			"echo 5 > v1/a.hcl",
			"ln -sfn $PWD/v2 current",
			"echo 6 > v2/a.hcl",
			"rm current",
			"no echo 7 > v2/a.hcl",
			"ln -s v3 current",
			"mkdir v3",
			"echo 1 > v3/a.hcl",
		}},
		{"symlink on the way", linked + "; mkdir -p v1/d v2/d; ln -s current/../current/d there", "there/x.hcl", []string{
			"echo 1 > v1/d/x.hcl",
			"no echo 1 > v2/d/x.hcl",
			"ln -s v2 tmp; mv -T tmp current",
			"echo 2 > v2/d/x.hcl",
			"no echo 2 > v1/d/x.hcl",
			"rm -r v2/d; ln -s ../v1/d v2/d",
			"echo 3 > v1/d/x.hcl",
			"mv v1 v0",
			"mkdir -p v1/d",
			"echo 4 > v1/d/x.hcl",
		}},
		{"parent of a symlink's target", linked + "; mkdir v1/sub", "current/sub/../x.hcl", []string{
			"echo 1 > v1/x.hcl",
			"no echo 1 > x.hcl",
		}},
		{"swapped data as in Kubernetes", `mkdir -p spec/..v1 spec/..v2; echo 1 > spec/..v1/a.hcl; echo 2 > spec/..v2/a.hcl
			ln -s ..v1 spec/..data; ln -s ..data/a.hcl spec/a.hcl`, "spec", []string{
			"ln -s ..v2 spec/..data_tmp; mv -T spec/..data_tmp spec/..data",
			"echo 3 > spec/..v2/a.hcl",
			"no echo 3 > spec/..v1/a.hcl; rm -r spec/..v1",
			"mkdir spec/..v3; echo 3 > spec/..v3/a.hcl; ln -s ..v3 spec/..tmp; mv -T spec/..tmp spec/..data; rm -r spec/..v2",
			"chmod 600 spec/..v3/a.hcl",
		}},
		{"entries that are symlinks", `mkdir spec store; echo 1 > store/a
			ln -s ../store/a spec/a.hcl; ln -s ../store/c spec/c`, "spec", []string{
			"echo 2 > store/a",
			"no echo 2 > store/b; echo 2 > store/c",
			"ln -s $PWD/store/b spec/b.hcl",
			"echo 3 > store/b",
			"echo 3 > store/new; mv store/new store/b",
			"rm spec/b.hcl",
			"no echo 4 > store/b",
			"mv store depot",
			"mv depot store",
			"echo 5 > store/a",
			"mkdir store/d; ln -s ../store/d spec/d.hcl",
			"no echo 1 > store/d/a.hcl",
			"rm -r store/d",
		}},
		{"loops", `mkdir spec; ln -s b a; ln -s a b
			ln -s a.hcl spec/a.hcl; ln -s ../spec/b.hcl spec/b.hcl`, "spec", []string{
			"no rm a; ln -s b a",
			"rm spec/a.hcl; echo 1 > spec/a.hcl",
			"rm spec/b.hcl; ln -s ../a spec/b.hcl",
			"rm b; echo 1 > b",
			"echo 2 > b",
		}},
		{"a path that is a loop", "ln -s b a; ln -s a b", "a/x.hcl", []string{
			"rm b; mkdir b; echo 1 > b/x.hcl",
			"echo 2 > b/x.hcl",
		}},
		{"odd names", `mkdir 'a b' '$x'; echo 1 > 'a b/ä
.hcl'; ln -s '../$x/\' 'a b/l.hcl'`, "a b", []string{
			"echo 2 > 'a b/ä\n.hcl'",
			`echo 1 > '$x/\'`,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			top := t.TempDir()
			sh(t, top, test.setup)
			s := watch.NewStepped(t, t.TempDir())
			set := func() {
				t.Helper()
				if err := s.Set([]watch.Path{{Path: top + "/" + test.path, Match: hcl}}); err != nil {
					t.Fatal(err)
				}
			}
			set()
			for _, step := range test.steps {
				script, quiet := strings.CutPrefix(step, "no ")
				sh(t, top, script)
				if hint := s.Step(t); hint == quiet {
					t.Fatalf("%s: hint: %v, want %v", script, hint, !quiet)
				}
				if kept := s.Kept(); !sameBut(kept, s.Watched(), s.Marks()) {
					t.Fatalf("%s: fsnotify watches\n%q instead of\n%q", script, kept, s.Watched())
				}
			}
			// What it came to by itself is what one comes to who begins now.
			watched := s.Watched()
			set()
			if s.Step(t) {
				t.Error("another Set finds something new")
			}
			if now := s.Watched(); !slices.Equal(now, watched) {
				t.Errorf("watched at last:\n%q\nfrom the beginning:\n%q", watched, now)
			}
		})
	}
}

// sameBut tells whether list is want and the one more.
func sameBut(list, want []string, more string) bool {
	return slices.Equal(slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == more }), want)
}

// TestFilesWatchesNoMore: what leads nowhere any more is not watched.
func TestFilesWatchesNoMore(t *testing.T) {
	top := t.TempDir()
	sh(t, top, "mkdir -p v1/d v2/d; echo 1 > v1/d/a.hcl; ln -s v1 current")
	s := watch.NewStepped(t, t.TempDir())
	below := func(want ...string) {
		t.Helper()
		var got []string
		for _, path := range s.Watched() {
			if rel, err := filepath.Rel(top, path); err == nil && filepath.IsLocal(rel) && rel != "." {
				got = append(got, rel)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("watched: %q, want %q", got, want)
		}
	}
	set := func(paths ...string) {
		t.Helper()
		var list []watch.Path
		for _, path := range paths {
			list = append(list, watch.Path{Path: filepath.Join(top, path)})
		}
		if err := s.Set(list); err != nil {
			t.Fatal(err)
		}
	}
	set("current/d", "v2/none")
	below("v1", "v1/d", "v2")
	sh(t, top, "ln -sfn v2 current")
	s.Step(t)
	below("v2", "v2/d")
	set("v1/d/a.hcl")
	below("v1", "v1/d")
	sh(t, top, "rm -r v1")
	s.Step(t)
	below()
	set("current/d")
	set()
	below()
	if len(s.Watched()) != 0 {
		t.Errorf("without any path, %q is watched", s.Watched())
	}
}

// TestFilesSetCompares: what happened to a path before another Set is not forgotten by it, even with its events lost.
func TestFilesSetCompares(t *testing.T) {
	top := t.TempDir()
	sh(t, top, "mkdir spec vars; echo 1 > spec/a.hcl; echo 1 > vars/v")
	spec, vars := watch.Path{Path: top + "/spec", Match: hcl}, watch.Path{Path: top + "/vars/v"}
	for _, test := range []struct {
		script string
		paths  []watch.Path
		hint   bool
	}{
		{":", []watch.Path{spec, vars}, false},
		{":", []watch.Path{vars, spec}, false},
		{"echo 22 > spec/a.hcl", []watch.Path{spec, vars}, true},
		{"echo 1 > spec/b.hcl", []watch.Path{spec}, true},
		{"rm spec/b.hcl", []watch.Path{vars, spec}, true},
		{"echo 22 > vars/v", []watch.Path{spec}, false},
		{"echo 1 > spec/README", []watch.Path{spec}, false},
	} {
		s := watch.NewStepped(t, t.TempDir())
		if err := s.Set([]watch.Path{spec, vars}); err != nil {
			t.Fatal(err)
		}
		sh(t, top, test.script)
		if err := s.Set(test.paths); err != nil {
			t.Fatal(err)
		}
		select {
		case <-s.Changes():
			if !test.hint {
				t.Errorf("%s: a hint", test.script)
			}
		default:
			if test.hint {
				t.Errorf("%s: no hint", test.script)
			}
		}
	}
}

// TestFilesOverflow: when events were lost, anything may have changed.
func TestFilesOverflow(t *testing.T) {
	top := t.TempDir()
	sh(t, top, "mkdir spec; echo 1 > spec/a.hcl")
	s := watch.NewStepped(t, t.TempDir())
	if err := s.Set([]watch.Path{{Path: top + "/spec"}}); err != nil {
		t.Fatal(err)
	}
	if s.Step(t) {
		t.Error("a hint for nothing")
	}
	s.Overflow()
	if !s.Step(t) {
		t.Error("no hint after an overflow")
	}
	sh(t, top, "echo 2 > spec/a.hcl")
	if !s.Step(t) {
		t.Error("no hint for a change after an overflow")
	}
	select {
	case err := <-s.Errors():
		t.Errorf("an overflow is no error: %v", err)
	default:
	}
}
