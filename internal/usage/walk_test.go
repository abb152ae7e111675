package usage_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/usage"
)

// busy is a tree that changes at given moments of a walk: when the walk sees an inode.
type busy struct {
	t    *testing.T
	dir  string
	on   map[overlayfs.FileID]func()
	seen []overlayfs.FileID
}

func newBusy(t *testing.T, dirs ...string) *busy {
	t.Helper()
	b := &busy{t: t, dir: t.TempDir(), on: map[overlayfs.FileID]func(){}}
	for _, d := range dirs {
		if err := os.MkdirAll(filepath.Join(b.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func (b *busy) id(name string) overlayfs.FileID {
	b.t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(b.dir, name), &st); err != nil {
		b.t.Fatal(err)
	}
	return overlayfs.FileID{Dev: st.Dev, Ino: st.Ino}
}

func (b *busy) rename(from, to string) {
	b.t.Helper()
	if err := os.Rename(filepath.Join(b.dir, from), filepath.Join(b.dir, to)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *busy) walk() {
	b.t.Helper()
	err := usage.Walk(b.t.Context(), b.dir, func(id overlayfs.FileID) {
		b.seen = append(b.seen, id)
		if change := b.on[id]; change != nil {
			delete(b.on, id)
			change()
		}
	})
	if err != nil {
		b.t.Error(err)
	}
	if len(b.on) > 0 {
		b.t.Error("a change did not happen: this tested nothing")
	}
}

func (b *busy) wantSeen(ids ...overlayfs.FileID) {
	b.t.Helper()
	for _, id := range ids {
		if !slices.Contains(b.seen, id) {
			b.t.Errorf("inode %d was not seen", id.Ino)
		}
	}
}

// A directory that moves away while the walk is in it takes the walk nowhere else, and the rest is counted.
func TestWalkMovedDirectory(t *testing.T) {
	b := newBusy(t, "a/b/c/d/leaf", "a/b/sibling/leaf", "a/other/leaf", "z/leaf", "elsewhere")
	want := []overlayfs.FileID{
		b.id("a/b/c/d/leaf"), b.id("a/b/sibling/leaf"), b.id("a/other/leaf"), b.id("z/leaf"),
	}
	b.on[b.id("a/b/c/d/leaf")] = func() { b.rename("a/b/c", "elsewhere/c") }
	b.walk()
	b.wantSeen(want...)
}

// What is removed before it is entered, and a directory above that is replaced, are passed over.
func TestWalkVanished(t *testing.T) {
	b := newBusy(t, "a/b/c/leaf", "a/gone/x", "z/leaf")
	leaf := b.id("z/leaf")
	b.on[b.id("a/b/c/leaf")] = func() {
		b.rename("a/b/c", "c")
		if err := os.RemoveAll(filepath.Join(b.dir, "a")); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(b.dir, "a"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b.walk()
	b.wantSeen(leaf)
}

// A directory that becomes a symlink before it is entered is not followed.
func TestWalkBecomesSymlink(t *testing.T) {
	b := newBusy(t, "d/inside")
	outside := t.TempDir()
	if err := os.Mkdir(filepath.Join(outside, "secret"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.on[b.id("d")] = func() {
		b.rename("d", "moved")
		if err := os.Symlink(outside, filepath.Join(b.dir, "d")); err != nil {
			t.Fatal(err)
		}
	}
	b.walk()
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(outside, "secret"), &st); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(b.seen, overlayfs.FileID{Dev: st.Dev, Ino: st.Ino}) {
		t.Error("the walk followed a symlink")
	}
}
