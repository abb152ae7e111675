package host_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/test/apart"
)

// TestHeld: an overlay is known again for as long as it is mounted, and the next one at its place, with its number and
// its text, is not taken for it.
func TestHeld(t *testing.T) {
	top := apart.Dir(t)
	const unique = 0x4000 // STATX_MNT_ID_UNIQUE
	var root unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, "/", 0, unique, &root); err != nil {
		t.Fatal(err)
	}
	remembers := root.Mask&unique != 0
	var h host.Held
	// look looks as the callers of Held do, and gives what was known of the overlay at target.
	look := func(target string) (known host.Dirs, ok bool) {
		t.Helper()
		h.Begin()
		now := table(t)
		all := h.Of(now)
		m, mounted := now.Top(target)
		known, ok = all[m.ID]
		learned := map[int]host.Dirs{}
		for _, m := range now.All() {
			if _, known := all[m.ID]; m.Overlay != nil && !known {
				ids := host.Identify([]string{m.Overlay.Upper, m.Overlay.Work})
				learned[m.ID] = host.Dirs{Upper: ids[0], Work: ids[1]}
			}
		}
		h.Learn(learned)
		return known, ok && mounted
	}
	dirsOf := func(c overlayfs.Config) host.Dirs {
		ids := host.Identify([]string{c.Upper, c.Work})
		return host.Dirs{Upper: ids[0], Work: ids[1]}
	}

	a, target := overlay(t, top+"/a", nil)
	b, other := overlay(t, top+"/b", nil)
	mount(t, other, b)
	mount(t, target, a)
	if known, ok := look(target); ok {
		t.Errorf("known at first sight: %v", known)
	}
	for range 2 {
		if known, ok := look(target); ok != remembers || ok && known != dirsOf(a) {
			t.Errorf("known %t: %v, want %t: %v", ok, known, remembers, dirsOf(a))
		}
	}
	was, _ := table(t).Top(target)
	if err := host.Unmount(target); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(top+"/a", top+"/old"); err != nil {
		t.Fatal(err)
	}
	a, target = overlay(t, top+"/a", nil)
	mount(t, target, a)
	if now, _ := table(t).Top(target); now.ID != was.ID || now.Dev != was.Dev {
		t.Logf("the kernel gave the number out only once: %d, %s, then %d, %s", was.ID, was.Dev, now.ID, now.Dev)
	}
	if known, ok := look(target); ok {
		t.Errorf("another overlay was taken for the one that was there before: %v, it has %v", known, dirsOf(a))
	}
	if known, ok := look(other); ok != remembers || ok && known != dirsOf(b) {
		t.Errorf("the other one: known %t: %v, want %t: %v", ok, known, remembers, dirsOf(b))
	}
	if known, ok := look(target); ok != remembers || ok && known != dirsOf(a) {
		t.Errorf("the new one: known %t: %v, want %t: %v", ok, known, remembers, dirsOf(a))
	}

	// What comes between the beginning and the table is not relied upon.
	h.Begin()
	if err := host.Unmount(target); err != nil {
		t.Fatal(err)
	}
	mount(t, target, a)
	now := table(t)
	m, _ := now.Top(target)
	if known, ok := h.Of(now)[m.ID]; ok {
		t.Errorf("an overlay that came after Begin is known: %v", known)
	}
	h.Learn(map[int]host.Dirs{m.ID: dirsOf(a)})
	h.Begin()
	if known, ok := h.Of(table(t))[m.ID]; ok {
		t.Errorf("an overlay that came after Begin was learned: %v", known)
	}
}
