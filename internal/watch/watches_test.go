package watch_test

import (
	"slices"
	"testing"

	"github.com/fsnotify/fsnotify"

	"github.com/overlayd/overlayd/internal/watch"
)

// TestWatchesDoubt: between the look at a directory and its watch, another one was in its place. Neither had its own
// watch ended by that, as a directory above them was moved.
func TestWatchesDoubt(t *testing.T) {
	top := t.TempDir()
	sh(t, top, "mkdir -p p/d q/d")
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	w := watch.NewWatches(notify)
	d := top + "/p/d"
	sh(t, top, "mv p away; mv q p")
	w.Walk(t, nil, [2]string{d, top + "/away/d"})
	sh(t, top, "mv p q; mv away p")
	if got, want := inKernel(t), inodes([]string{top + "/q/d"}); !slices.Equal(got, want) {
		t.Fatalf("the kernel watches inode %v instead of %v, so this test is none", got, want)
	}
	if !w.Walk(t, []string{top + "/p"}, [2]string{d, d}) {
		t.Error("what was not watched is not told of")
	}
	if got, want := inKernel(t), inodes([]string{d}); !slices.Equal(got, want) {
		t.Errorf("the kernel watches inode %v instead of %v", got, want)
	}
	if w.Walk(t, []string{top + "/q", d + "/below"}, [2]string{d, d}) {
		t.Error("what was not in doubt is watched anew")
	}
}

// TestJudgeDoubt: which directories may be others after an event.
func TestJudgeDoubt(t *testing.T) {
	top := t.TempDir()
	sh(t, top, "mkdir -p p/d other; ln -s p/d link; echo 1 > p/d/x.hcl")
	s := watch.NewStepped(t, t.TempDir())
	if err := s.Set([]watch.Path{{Path: top + "/link", Match: hcl}}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		op   fsnotify.Op
		want []string
	}{
		{"p", fsnotify.Create, []string{top + "/p"}},
		{"p", fsnotify.Rename, []string{top + "/p"}},
		{"p/d", fsnotify.Remove, []string{top + "/p/d"}},
		{"p/d", fsnotify.Chmod, nil},
		{"p/d/x.hcl", fsnotify.Create, nil},
		{"link", fsnotify.Create, nil},
		{"other", fsnotify.Rename, nil},
	} {
		// What comes later does not hide what came before.
		got := s.Judge(
			watch.Event{Name: top + "/" + test.name, Op: test.op}, watch.Event{Name: top + "/" + test.name, Op: fsnotify.Chmod},
		)
		if !slices.Equal(got, test.want) {
			t.Errorf("%s of %s: in doubt: %q, want %q", test.op, test.name, got, test.want)
		}
	}
}
