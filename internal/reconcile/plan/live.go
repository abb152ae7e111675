package plan

import (
	"slices"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// classify looks at what stands at the mountpoint: nothing, one overlay, a stack of ours on one upperdir (live is its
// top), or something odd that is not ours to touch. diff is in what live differs from the goal.
func (b *builder) classify(g *goal, stack []overlayfs.Mount, applied bool) (
	live *overlayfs.Mount, diff overlayfs.Difference, odd string,
) {
	if len(stack) == 0 {
		return nil, diff, ""
	}
	top := &stack[len(stack)-1]
	for _, m := range stack {
		if m.Overlay == nil {
			what := m.Source + " (" + m.FSType + ")"
			switch {
			case len(stack) == 1:
				return nil, diff, what + " is mounted at " + g.Mountpoint + ": unmount it, or choose another mountpoint"
			case m.ID == top.ID:
				return nil, diff, what + " is mounted on top of " + g.Mountpoint + ": unmount it"
			default:
				return nil, diff, what + " is mounted below the overlay at " + g.Mountpoint +
					": choose another mountpoint, or a directory inside it"
			}
		}
	}
	diff = b.compare(g, top)
	if len(stack) == 1 {
		if !applied && !diff.None() && top.Source != Label {
			return nil, diff, "an overlay that is not overlayd's is mounted at " + g.Mountpoint + " (lowerdirs " +
				list(top.Overlay.Lower) + "): unmount it, or declare it as it is to adopt it"
		}
		return top, diff, ""
	}
	for _, m := range stack {
		if !ours(m) || m.Overlay.Upper != top.Overlay.Upper {
			return nil, diff, "several overlays that differ are mounted on top of each other at " + g.Mountpoint +
				": unmount those that do not belong there (umount " + g.Mountpoint + " takes the top one away)"
		}
	}
	return top, diff, ""
}

// hidden finds the overlay's own mount where something that was mounted over a directory above has put it out of reach.
func (b *builder) hidden(g *goal) []string {
	for _, m := range b.o.Mounts.Hidden(g.Mountpoint) {
		if over, ok := b.o.Mounts.Covering(g.Mountpoint); ok && m.Overlay != nil {
			return []string{"an overlay is mounted at " + g.Mountpoint + ", and hidden: " + over.Source + " (" + over.FSType +
				") was mounted over " + over.Mountpoint + " later: unmount that"}
		}
	}
	return nil
}

func (b *builder) compare(g *goal, m *overlayfs.Mount) overlayfs.Difference {
	same := b.o.same
	if m.Source == Label {
		// We mount layers by paths without symlinks. One that is reached through a symlink now was switched under the
		// mount, whose text and directory stay as they were.
		same = nil
	}
	diff := overlayfs.Compare(g.config, *m, b.o.Defaults, b.seen.sameFS(), same)
	if m.Source == Label {
		// A mount of ours has the flags we gave it. One that the spec has dropped, or that somebody set, shows only here.
		for _, f := range ownFlags {
			if has(m.Flags, f) && !has(g.config.Options, f) {
				diff.Flags = true
				diff.Reasons = append(diff.Reasons, f+" is set, and not wanted")
			}
		}
	}
	return diff
}

// ownFlags are the per-mount flags that no mount has unless it was given them. ro is compared by package overlayfs, and
// relatime is the kernel's default.
var ownFlags = []string{"nosuid", "nodev", "noexec", "noatime", "nodiratime", "strictatime"}

// compareApplied compares the goal with what its unit file mounts.
func (b *builder) compareApplied(g *goal) overlayfs.Difference {
	c := b.o.Units[g.name].Config
	return b.compare(g, &overlayfs.Mount{
		FSType: "overlay", Source: Label, Mountpoint: g.Mountpoint, Overlay: &c, Flags: perMount(c.Options),
	})
}

// notMounted: nothing stands at the mountpoint.
func (b *builder) notMounted(c *Change, g *goal, applied bool) {
	if b.o.Offline {
		switch {
		case !applied:
			c.Kind = Create
		case len(g.dirs(b.o, b.goals)) > 0:
			c.Kind = Update
			c.because("directories are missing")
		case c.Do.Write != nil || len(c.Do.Link) > 0:
			c.Kind = Update
		}
		return
	}
	c.Do.Mount = &g.config
	switch {
	case !applied:
		c.Kind = Create
		g.surprises(c, &b.seen)
	case c.Kind == Update:
		c.because("not mounted")
	default:
		c.Kind = Repair
		c.because("not mounted")
	}
}

// mounted: one overlay, or several equal ones, stand at the mountpoint.
func (b *builder) mounted(
	c *Change, g *goal, live *overlayfs.Mount, diff overlayfs.Difference, u UnitFile, applied bool,
) {
	switch {
	case diff.None() && applied:
		// The mount is right; Update if writeUnit found something, else no_op.
	case diff.None() && live.Source == Label:
		c.Kind = Update
		c.because("unit file was deleted")
	case diff.None():
		c.Kind = Adopt
		c.because("mounted by somebody else, exactly as declared")
	case !diff.FlagsOnly() || !applied:
		c.Kind = Replace
		if applied && u.Err == "" && b.compareApplied(g).None() {
			c.Kind = Repair
		}
		c.first(diff.Reasons)
		b.takeDown(c, *live, g.name)
		c.Do.Mount = &g.config
	default:
		// Only per-mount flags differ; the kernel changes those in place, and nothing else.
		if applied && !b.compareApplied(g).None() {
			c.Kind = Update
		} else {
			c.Kind = Repair
		}
		c.first(diff.Reasons)
		c.Do.Remount = perMount(g.config.Options)
	}
}

// unstack takes a stack of ours down and mounts it once. Taking the upper ones away would not do: each mount that comes
// on top empties the workdir of the one below, which can copy nothing up from then on (5.10 to 6.18).
func (b *builder) unstack(c *Change, g *goal, stack []overlayfs.Mount) {
	if c.Kind == NoOp || c.Kind == Update {
		c.Kind = Repair
	}
	c.because("mounted %d times on top of itself, and only the topmost mount works", len(stack))
	c.Do.Unmount, c.Do.Remount = nil, nil
	for _, m := range slices.Backward(stack) {
		b.takeDown(c, m, g.name)
	}
	c.Do.Mount = &g.config
}

func (b *builder) takeDown(c *Change, live overlayfs.Mount, unit string) {
	c.Disruptive = true
	c.Do.Unmount = append(c.Do.Unmount, Live{
		Mountpoint: live.Mountpoint, Unit: unit, Upper: live.Overlay.Upper, Work: live.Overlay.Work, Dev: live.Dev,
	})
}

func perMount(o overlayfs.Options) overlayfs.Options {
	out := overlayfs.Options{}
	for name, value := range o {
		if overlayfs.ClassOf(name) == overlayfs.ClassPerMount {
			out[name] = value
		}
	}
	return out
}
