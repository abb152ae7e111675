package plan

import (
	"path"
	"slices"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// family knows which live overlay stands on which: by a layer that lies on it, or by its mountpoint. The kernel does
// not protect the lower one: umount(2) of an overlay that is a layer of another succeeds.
type family struct {
	byMount  map[string]*Change                   // change at a mountpoint, those moved away from included
	live     map[string]*overlayfs.Mount          // topmost live overlay at each mountpoint
	children map[string][]string                  // mountpoint → live overlays that stand on it
	parents  map[string][]string                  // the reverse
	holders  map[string][]string                  // upperdir or workdir as written → mountpoints of live overlays using it
	ids      map[overlayfs.FileID][]string        // the same by device and inode
	alien    map[overlayfs.FileID][]overlayfs.Use // upperdirs and workdirs that live in other mount namespaces
}

func (b *builder) index() {
	mounts := b.o.Mounts.All()
	f := family{
		byMount: make(map[string]*Change, len(b.changes)), live: make(map[string]*overlayfs.Mount, len(mounts)),
		children: map[string][]string{}, parents: map[string][]string{},
		ids: map[overlayfs.FileID][]string{}, alien: map[overlayfs.FileID][]overlayfs.Use{},
	}
	for _, c := range b.changes {
		f.byMount[c.Mountpoint] = c
	}
	goesDown := false
	for _, c := range b.changes {
		for _, l := range c.Do.Unmount {
			goesDown = true
			if f.byMount[l.Mountpoint] == nil {
				f.byMount[l.Mountpoint] = c
			}
		}
	}
	for i := range mounts {
		if m := &mounts[i]; m.Overlay != nil {
			f.live[m.Mountpoint] = m // later lines of the table stand on top
		}
	}
	b.family = f
	b.indexHolders()
	switch {
	case goesDown: // only then it matters what stands on what
		b.family.indexStanding(sortedKeys(f.live))
	case b.whole != nil:
		b.family.indexStanding(slices.DeleteFunc(sortedKeys(b.goals), func(at string) bool { return f.live[at] == nil }))
	}
}

// indexStanding finds out what the live overlays at these mountpoints stand on.
func (f *family) indexStanding(points []string) {
	near := nearest{known: func(p string) bool { return f.live[p] != nil }}
	for _, at := range points {
		m := f.live[at]
		for _, p := range near.below(m.Overlay.Lower, m.Overlay.Data, at, path.Dir(at)) {
			if f.reaches(p, at) {
				continue // the texts of the mount table form a ring when layers were mounted over later
			}
			f.children[p] = append(f.children[p], at)
			f.parents[at] = append(f.parents[at], p)
		}
	}
}

// indexHolders finds out who holds which upperdirs and workdirs. Of a part of a spec only that part's matter.
func (b *builder) indexHolders() {
	f := &b.family
	size := 2 * len(b.o.Mounts.All())
	if b.whole != nil {
		size = 2 * len(b.goals)
	}
	f.holders = make(map[string][]string, size)
	singles := make([]string, 0, size)
	matters := func(string) bool { return true }
	mattersID := func(overlayfs.FileID) bool { return true }
	if b.whole != nil {
		dirs, ids := map[string]bool{}, map[overlayfs.FileID]bool{}
		for _, g := range b.goals {
			for _, dir := range []string{g.Upper, g.Work, g.config.Upper, g.config.Work} {
				dirs[dir] = true
				if info := b.o.path(dir); info.Exists {
					ids[info.ID] = true
				}
			}
		}
		matters = func(dir string) bool { return dirs[dir] }
		mattersID = func(id overlayfs.FileID) bool { return ids[id] }
	}
	mounts := b.o.Mounts.All()
	for i := range mounts {
		at := &mounts[i]
		// One mountpoint, one holder: of a stack the top.
		if m := f.live[at.Mountpoint]; m != at || at.Overlay.Upper == "" {
			continue
		}
		for _, dir := range []string{at.Overlay.Upper, at.Overlay.Work} {
			if !matters(dir) {
				continue
			}
			if others, held := f.holders[dir]; held {
				f.holders[dir] = append(others, at.Mountpoint)
				continue
			}
			singles = append(singles, at.Mountpoint) // most have one holder: no allocation for these
			f.holders[dir] = singles[len(singles)-1 : len(singles) : len(singles)]
		}
	}
	for _, u := range b.o.Uses {
		for _, id := range []overlayfs.FileID{u.Upper, u.Work} {
			switch {
			case !mattersID(id):
			case u.PID != 0:
				f.alien[id] = append(f.alien[id], u)
			default:
				f.ids[id] = append(f.ids[id], u.Mountpoint)
			}
		}
	}
	for _, holders := range f.holders {
		if len(holders) > 1 {
			slices.Sort(holders)
		}
	}
}

// reaches tells whether the overlay at from stands, over any number of others, on the one at to.
func (f *family) reaches(from, to string) bool {
	return from == to || slices.ContainsFunc(f.parents[from], func(p string) bool { return f.reaches(p, to) })
}

// mountedFrom calls back with the mountpoints of the live overlays on a super block.
func (f *family) mountedFrom(dev string, call func(at string)) {
	for at, m := range f.live {
		if m.Dev == dev {
			call(at)
		}
	}
}
