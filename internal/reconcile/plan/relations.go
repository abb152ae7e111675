package plan

import (
	"path"
	"slices"
	"strconv"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

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
	if c.Do.Mount == nil {
		return ""
	}
	g := b.goals[c.Mountpoint]
	if g == nil {
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
	case change == nil && ours(*m):
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
	return standsOn(g.config.Lower, g.Mountpoint, path.Dir(g.Mountpoint), func(p string) bool {
		return b.family.live[p] != nil
	})
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
	if b.aliases() {
		b.settle() // what stands on them waits
	}
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
func (b *builder) aliases() (found bool) {
	type dir struct {
		c          *Change  // nil for an overlay that this part of the spec does not have
		o          *Overlay // whose it is
		what, path string
	}
	first := make(map[overlayfs.FileID]dir, 2*len(b.changes))
	missing := map[dirID]dir{}
	look := func(k dirID, d dir) {
		exists := k == dirID{id: k.id}
		other, known := first[k.id]
		if !exists {
			other, known = missing[k]
		}
		if !known {
			if exists {
				first[k.id] = d
			} else {
				missing[k] = d
			}
			return
		}
		if other.o == d.o {
			return // the goal's own overlaps are found elsewhere
		}
		for _, each := range []struct{ at, to dir }{{d, other}, {other, d}} {
			if each.at.c != nil {
				each.at.c.conflict("%s %s is the same directory as %s %s of %s: give each overlay its own",
					each.at.what, each.at.path, each.to.what, each.to.path, each.to.o.Address)
				found = true
			}
		}
	}
	if b.whole == nil {
		for _, c := range b.changes {
			if g := b.goals[c.Mountpoint]; g != nil && !g.ReadOnly() && b.byUnit[c.Unit] == g {
				look(g.upper, dir{c, g.Overlay, "upperdir", g.Upper})
				look(g.work, dir{c, g.Overlay, "workdir", g.Work})
			}
		}
		return found
	}
	matters := make(map[dirID]bool, 2*len(b.goals)) // what is in conflict elsewhere in the spec is not asked for
	for _, g := range b.goals {
		if !g.ReadOnly() {
			matters[g.upper], matters[g.work] = true, true
		}
	}
	for i := range b.whole.d.Overlays {
		o := &b.whole.d.Overlays[i]
		if o.ReadOnly() {
			continue
		}
		for _, d := range []dir{{nil, o, "upperdir", o.Upper}, {nil, o, "workdir", o.Work}} {
			if k := b.o.dirID(d.path); matters[k] {
				if b.goals[o.Mountpoint] != nil {
					d.c = b.family.byMount[o.Mountpoint]
				}
				look(k, d)
			}
		}
	}
	return found
}

// shared says of an overlay that stays mounted who else writes to its upperdir.
func (b *builder) shared(c *Change) string {
	if c.Kind == Conflict || c.Do.Mount != nil {
		return ""
	}
	g := b.goals[c.Mountpoint]
	if g == nil || g.ReadOnly() {
		return ""
	}
	for _, at := range b.family.holders[g.Upper] {
		if at == g.Mountpoint {
			continue
		}
		own := ""
		if m := b.family.live[g.Mountpoint]; m != nil {
			own = m.Dev
		}
		// A bind mount of the overlay is the same overlay at another place: one super block, one writer.
		if b.family.live[at].Dev != own {
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
				return dir.what + " " + dir.path + " is in use by " + whereElse(u) + ": end that process, then try again"
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
		if d.Mount != nil && b.o.Systemd {
			if g := b.goals[c.Mountpoint]; g != nil && len(g.After)+len(g.Requires) > 0 {
				d.Start = true
				c.Via, c.ViaReason = ViaSystemd, "the overlay has requires or after of its own"
			}
		}
		if c.Via == ViaNone && (d.Mount != nil || len(d.Unmount) > 0 || d.Remount != nil) {
			c.Via = ViaSyscall
		}
	}
}
