package plan

import (
	"path"
	"slices"
	"strconv"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// family knows which live overlay stands on which: by a layer that lies on it, or by its mountpoint. The kernel does
// not protect the lower one: umount(2) of an overlay that is a layer of another succeeds.
type family struct {
	byMount  map[string]*Change                   // change at a mountpoint, those moved away from included
	live     map[string]overlayfs.Mount           // topmost live overlay at each mountpoint
	children map[string][]string                  // mountpoint → live overlays that stand on it
	parents  map[string][]string                  // the reverse
	holders  map[string][]string                  // upperdir or workdir as written → mountpoints of live overlays using it
	ids      map[overlayfs.FileID][]string        // the same by device and inode
	alien    map[overlayfs.FileID][]overlayfs.Use // upperdirs and workdirs that live in other mount namespaces
}

func (b *builder) index() {
	f := family{
		byMount: map[string]*Change{}, live: map[string]overlayfs.Mount{}, children: map[string][]string{},
		parents: map[string][]string{}, holders: map[string][]string{}, ids: map[overlayfs.FileID][]string{},
		alien: map[overlayfs.FileID][]overlayfs.Use{},
	}
	for _, c := range b.changes {
		f.byMount[c.Mountpoint] = c
	}
	for _, c := range b.changes {
		for _, l := range c.Do.Unmount {
			if f.byMount[l.Mountpoint] == nil {
				f.byMount[l.Mountpoint] = c
			}
		}
	}
	for _, m := range b.o.Mounts.All() {
		if m.Overlay != nil {
			f.live[m.Mountpoint] = m // later lines of the table stand on top
		}
	}
	known := func(p string) bool { _, ok := f.live[p]; return ok }
	for _, at := range sortedKeys(f.live) {
		m := f.live[at]
		layers := slices.Concat(m.Overlay.Lower, m.Overlay.Data)
		for _, p := range standsOn(layers, at, path.Dir(at), known) {
			if f.reaches(p, at) {
				continue // the texts of the mount table form a ring when layers were mounted over later
			}
			f.children[p] = append(f.children[p], at)
			f.parents[at] = append(f.parents[at], p)
		}
		if m.Overlay.Upper != "" {
			f.holders[m.Overlay.Upper] = append(f.holders[m.Overlay.Upper], at)
			f.holders[m.Overlay.Work] = append(f.holders[m.Overlay.Work], at)
		}
	}
	for _, u := range b.o.Uses {
		for _, id := range []overlayfs.FileID{u.Upper, u.Work} {
			if u.PID != 0 {
				f.alien[id] = append(f.alien[id], u)
				continue
			}
			f.ids[id] = append(f.ids[id], u.Mountpoint)
		}
	}
	b.family = f
}

// reaches tells whether the overlay at from stands, over any number of others, on the one at to.
func (f *family) reaches(from, to string) bool {
	return from == to || slices.ContainsFunc(f.parents[from], func(p string) bool { return f.reaches(p, to) })
}

// settle carries conflicts and replacements through the family until nothing changes: what stands on a conflict cannot
// be mounted, what has to go down takes down what stands on it, and what cannot go down keeps up what it stands on.
func (b *builder) settle() {
	for again := true; again; {
		again = false
		for _, c := range b.changes {
			if c.Kind == Conflict {
				continue
			}
			if reason := b.parentTrouble(c); reason != "" {
				c.conflict("%s", reason)
				again = true
				continue
			}
			if reason := b.stuck(c); reason != "" {
				c.conflict("%s", reason)
				again = true
			}
		}
	}
	for _, c := range b.changes {
		for _, l := range c.Do.Unmount {
			b.dragDown(l.Mountpoint, c)
		}
	}
}

// parentTrouble says why a mount cannot go up: an overlay below it is in conflict.
func (b *builder) parentTrouble(c *Change) string {
	g := b.goals[c.Mountpoint]
	if g == nil || c.Do.Mount == nil {
		return ""
	}
	for _, p := range g.parents {
		if parent := b.family.byMount[p]; parent != nil && parent.Kind == Conflict {
			return parent.Address + ", which it stands on, is in conflict"
		}
	}
	return ""
}

// stuck says why a live mount cannot be taken down: something stands on it that is not ours to take down, or that
// stays.
func (b *builder) stuck(c *Change) string {
	for _, l := range c.Do.Unmount {
		for _, kid := range b.family.children[l.Mountpoint] {
			if reason := b.stays(kid, l.Mountpoint, c); reason != "" {
				return reason
			}
		}
	}
	return ""
}

func (b *builder) stays(kid, parent string, c *Change) string {
	change := b.family.byMount[kid]
	m := b.family.live[kid]
	switch {
	case change == nil && ours(m):
		return "the overlay at " + kid + ", which stands on " + parent +
			", is declared elsewhere: plan both together, or destroy that one first"
	case change == nil:
		return "an overlay that is not overlayd's, at " + kid + ", stands on " + parent + ": unmount it first"
	case change == c:
		return ""
	case change.Kind == Conflict:
		return change.Address + ", which stands on it, is in conflict"
	}
	if g := b.goals[kid]; g != nil && c.Kind == Delete && slices.Contains(b.standing(g), parent) {
		return change.Address + " still needs it: change or remove that one in the same run"
	}
	for _, below := range b.family.children[kid] {
		if reason := b.stays(below, parent, c); reason != "" {
			return reason
		}
	}
	return ""
}

// standing gives the live mountpoints that a goal will stand on.
func (b *builder) standing(g *goal) []string {
	return standsOn(g.config.Lower, g.Mountpoint, path.Dir(g.Mountpoint), func(p string) bool { _, ok := b.family.live[p]; return ok })
}

// dragDown makes everything that stands on a mount that goes down go down before it, and come back after it.
func (b *builder) dragDown(mountpoint string, because *Change) {
	for _, kid := range b.family.children[mountpoint] {
		c, m := b.family.byMount[kid], b.family.live[kid]
		if !slices.ContainsFunc(c.Do.Unmount, func(l Live) bool { return l.Mountpoint == kid }) {
			c.Kind = Replace
			c.because("%s, which it stands on, is taken down", because.Address)
			c.DraggedBy = because.Address
			c.Do.Remount = nil
			for _, each := range slices.Backward(b.o.Mounts.At(kid)) {
				if each.Overlay != nil {
					b.takeDown(c, each, c.Unit)
				}
			}
			if g := b.goals[kid]; g != nil {
				c.Do.Mount = &g.config
				c.Do.Dirs = g.dirs(b.o, b.goals)
			}
		}
		b.dragDown(m.Mountpoint, c)
	}
}

// uppers refuses mounts whose upperdir or workdir is held by an overlay that this plan does not take down. Nothing in
// the kernel prevents it with index=off: both mounts would write to one upper, with undefined results.
func (b *builder) uppers() {
	b.aliases()
	for again := true; again; {
		again = false
		down, devs := map[string]bool{}, map[string]bool{}
		for _, c := range b.changes {
			for _, l := range c.Do.Unmount {
				down[l.Mountpoint] = true
				devs[l.Dev] = true
			}
		}
		for _, c := range b.changes {
			reason := b.held(c, down, devs)
			if reason == "" {
				reason = b.shared(c)
			}
			if reason != "" {
				c.conflict("%s", reason)
				again = true
			}
		}
		if again {
			b.settle()
		}
	}
}

// aliases finds desired overlays that would share an upperdir or workdir under two names, by a bind mount or a link.
// The same name twice was found in the spec.
func (b *builder) aliases() {
	type dir struct {
		c          *Change
		what, path string
	}
	first := map[string]dir{}
	for _, c := range b.changes {
		g := b.goals[c.Mountpoint]
		if g == nil || g.ReadOnly() || b.byUnit[c.Unit] != g {
			continue
		}
		for _, d := range []dir{{c, "upperdir", g.Upper}, {c, "workdir", g.Work}} {
			k := b.o.key(d.path)
			other, known := first[k]
			if !known {
				first[k] = d
				continue
			}
			if other.c == c {
				continue // the goal's own overlaps are found elsewhere
			}
			for _, each := range []struct{ at, to dir }{{d, other}, {other, d}} {
				each.at.c.conflict("%s %s is the same directory as %s %s of %s: give each overlay its own",
					each.at.what, each.at.path, each.to.what, each.to.path, each.to.c.Address)
			}
		}
	}
}

// shared says of an overlay that stays mounted who else writes to its upperdir.
func (b *builder) shared(c *Change) string {
	g := b.goals[c.Mountpoint]
	if g == nil || g.ReadOnly() || c.Kind == Conflict || c.Do.Mount != nil {
		return ""
	}
	own := b.family.live[g.Mountpoint].Dev
	for _, at := range b.family.holders[g.Upper] {
		// A bind mount of the overlay is the same overlay at another place: one super block, one writer.
		if at != g.Mountpoint && b.family.live[at].Dev != own {
			return "upperdir " + g.Upper + " is in use by the overlay mounted at " + at +
				" as well, and what both write is undefined: unmount that one"
		}
	}
	return ""
}

// whereElse names an overlay that is not in our mount table.
func whereElse(u overlayfs.Use) string {
	process := "process " + strconv.Itoa(u.PID)
	if u.Detached {
		return process + ", through the overlay that was detached from " + u.Mountpoint + " while it was busy"
	}
	return "the overlay at " + u.Mountpoint + " in the mount namespace of " + process
}

func (b *builder) held(c *Change, down, devs map[string]bool) string {
	upper, work := c.data(b.goals)
	if upper == "" {
		return ""
	}
	for _, dir := range []struct{ what, path string }{{"upperdir", upper}, {"workdir", work}} {
		at := slices.Clone(b.family.holders[dir.path])
		info := b.o.path(dir.path)
		if info.Exists {
			at = append(at, b.family.ids[info.ID]...)
		}
		for _, m := range at {
			if !down[m] {
				return dir.what + " " + dir.path + " is in use by the overlay mounted at " + m +
					": unmount that one, or choose another directory"
			}
		}
		for _, u := range b.family.alien[info.ID] {
			// A copy of the mount that this plan takes down is fine if it goes with it.
			if info.Exists && (!devs[u.Dev] || !u.Follows) {
				return dir.what + " " + dir.path + " is in use by " + whereElse(u) + ": end that process, then apply"
			}
		}
	}
	return ""
}

// howToMount decides which way each change goes. A system call does, unless systemd must do more than mount.
func (b *builder) howToMount() {
	going := map[string]bool{} // overlays of ours that this plan takes down itself
	for _, c := range b.changes {
		for _, l := range c.Do.Unmount {
			going[l.Unit] = true
		}
	}
	for _, c := range b.changes {
		d := &c.Do
		for i := range d.Unmount {
			l := &d.Unmount[i]
			impact := b.o.Impact[l.Mountpoint]
			impact.Units = slices.DeleteFunc(slices.Clone(impact.Units), func(u string) bool { return going[u] })
			c.Impact.Units = append(c.Impact.Units, impact.Units...)
			c.Impact.Mounts = append(c.Impact.Mounts, impact.Mounts...)
			if impact.Processes != nil {
				// Not nil even if empty: nil says that nobody was permitted to look.
				c.Impact.Processes = append(append([]overlayfs.Process{}, c.Impact.Processes...), impact.Processes...)
			}
			if b.o.Systemd && len(impact.Units) > 0 {
				l.ViaSystemd = true
				c.Via, c.ViaReason = ViaSystemd, "active units depend on the mount"
			}
		}
		g := b.goals[c.Mountpoint]
		if d.Mount != nil && b.o.Systemd && g != nil && len(g.After)+len(g.Requires) > 0 {
			d.Start = true
			c.Via, c.ViaReason = ViaSystemd, "the overlay has requires or after of its own"
		}
		if c.Via == ViaNone && (d.Mount != nil || len(d.Unmount) > 0 || d.Remount != nil) {
			c.Via = ViaSyscall
		}
	}
}
