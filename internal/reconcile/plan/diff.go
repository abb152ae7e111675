package plan

import (
	"cmp"
	"slices"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/units"
)

// Diff makes the plan that turns what was observed into what is desired. With targets only their changes, and what
// those need, are in it. Diff is total: it never fails, and what cannot be done is a conflict.
func Diff(d Desired, o *Observed, targets []Target) Plan {
	b := &builder{
		o: o, scope: d.Scope, goals: goals(d, o), byUnit: map[string]*goal{},
		addresses: make(map[string]bool, len(d.Overlays)), doomed: make(map[string]bool, len(d.Scope.Mountpoints)),
	}
	for _, at := range d.Scope.Mountpoints {
		b.doomed[at] = true
	}
	for _, g := range b.goals {
		b.byUnit[g.name] = g
		b.addresses[g.Address] = true
	}
	b.findMoves()
	for _, want := range d.Overlays {
		b.changes = append(b.changes, b.decide(b.goals[want.Mountpoint]))
	}
	b.deletes()
	b.orphans(d.Orphans)
	b.index()
	b.settle()
	b.uppers()
	b.howToMount()
	if len(targets) > 0 {
		b.narrow(targets)
	}
	return b.finish()
}

// builder holds one run of Diff.
type builder struct {
	o         *Observed
	scope     Scope
	goals     map[string]*goal    // by mountpoint
	byUnit    map[string]*goal    // by unit name
	addresses map[string]bool     // all that are desired
	doomed    map[string]bool     // mountpoints in scope one by one
	moved     map[string][]string // address → units of ours at mountpoints it has left
	used      map[string]bool     // units that are moved away from

	changes []*Change
	family  family
}

// findMoves finds units whose address is desired at another mountpoint. The identity of a live overlay is its
// mountpoint, so a unit at a desired mountpoint is never moved away from, whatever its address.
func (b *builder) findMoves() {
	b.moved, b.used = map[string][]string{}, map[string]bool{}
	for name, u := range b.o.Units {
		if u.Ours && b.byUnit[name] == nil && b.addresses[u.Address] && b.inScope(u) {
			b.moved[u.Address] = append(b.moved[u.Address], name)
			b.used[name] = true
		}
	}
	for _, names := range b.moved {
		slices.Sort(names)
	}
}

// decide is the decision table for one desired overlay.
func (b *builder) decide(g *goal) *Change {
	c := &Change{
		Address: g.Address, Unit: g.name, Mountpoint: g.Mountpoint, Source: g.Place(), Kind: NoOp,
		After: view(g.config, g.Mountpoint),
	}
	u, applied := b.o.Units[g.name]
	applied = applied && u.Ours
	stack := b.o.Mounts.At(g.Mountpoint)
	if len(stack) > 0 && stack[len(stack)-1].Overlay != nil {
		c.Before = view(*stack[len(stack)-1].Overlay, g.Mountpoint)
	} else if applied {
		c.Before = view(b.o.Units[g.name].Config, g.Mountpoint)
	}

	if g.Applied != nil && g.Applied.Err != "" {
		c.Kind = Update
		c.because("unit file cannot be read: %s", g.Applied.Err)
		return c
	}
	problems := append(g.foreign(b.o), g.hostProblems(b.o)...)
	problems = append(problems, b.claims(g, u, applied)...)
	if n := len(stack); n > 0 {
		problems = append(problems, g.lostData(b.o, stack[n-1])...)
	}
	live, odd := b.classify(g, stack, applied)
	if odd != "" {
		problems = append(problems, odd)
	}
	for _, p := range problems {
		c.conflict("%s", p)
	}
	if c.Kind == Conflict {
		return c
	}

	c.Warnings = g.warnings(b.o)
	b.writeUnit(c, g, u, applied)
	if live == nil {
		b.notMounted(c, g, applied)
	} else {
		b.mounted(c, g, *live, u, applied)
	}
	if len(stack) > 1 && c.Kind != Conflict {
		b.unstack(c, g, stack)
	}
	b.moveAway(c, g)
	c.Do.Dirs = nil
	if c.Do.Mount != nil || b.o.Offline {
		c.Do.Dirs = g.dirs(b.o, b.goals)
	}
	b.guardData(c, g, u, applied)
	if c.Kind == NoOp && (!b.o.Target.Current || !b.o.Target.Enabled) {
		c.Kind = Update
		c.because("overlayd.target is missing or not enabled")
	}
	return c
}

// claims finds out who else the mountpoint belongs to.
func (b *builder) claims(g *goal, u UnitFile, applied bool) []string {
	var out []string
	if applied && u.Version > units.Version {
		out = append(out, "a later version of overlayd wrote its unit "+u.Path+": use that version")
	}
	if applied && u.Source != "" && u.Source != g.Source && !b.inScope(u) && !b.o.Gone[u.Source] {
		out = append(out, g.Mountpoint+" belongs to "+u.Source+", which declares it as "+u.Address+
			": remove it there and apply that first, or choose another mountpoint")
	}
	return out
}

// classify looks at what stands at the mountpoint: nothing, one overlay, a stack of ours on one upperdir (live is its
// top), or something odd that is not ours to touch.
func (b *builder) classify(g *goal, stack []overlayfs.Mount, applied bool) (live *overlayfs.Mount, odd string) {
	if len(stack) == 0 {
		return nil, ""
	}
	top := stack[len(stack)-1]
	for _, m := range stack {
		if m.Overlay == nil {
			what := m.Source + " (" + m.FSType + ")"
			switch {
			case len(stack) == 1:
				return nil, what + " is mounted at " + g.Mountpoint + ": unmount it, or choose another mountpoint"
			case m.ID == top.ID:
				return nil, what + " is mounted on top of " + g.Mountpoint + ": unmount it"
			default:
				return nil, what + " is mounted below the overlay at " + g.Mountpoint +
					": choose another mountpoint, or a directory inside it"
			}
		}
	}
	if len(stack) == 1 {
		differs := !b.compare(g, top).None()
		if !applied && differs && top.Source != Label {
			return nil, "an overlay that is not overlayd's is mounted at " + g.Mountpoint + " (lowerdirs " +
				list(top.Overlay.Lower) + "): unmount it, or declare it as it is to adopt it"
		}
		return &top, ""
	}
	for _, m := range stack {
		if !ours(m) || m.Overlay.Upper != top.Overlay.Upper {
			return nil, "several overlays that differ are mounted on top of each other at " + g.Mountpoint +
				": unmount those that do not belong there (umount " + g.Mountpoint + " takes the top one away)"
		}
	}
	return &top, ""
}

func (b *builder) compare(g *goal, m overlayfs.Mount) overlayfs.Difference {
	same := b.o.same
	if m.Source == Label {
		// We mount layers by paths without symlinks. One that is reached through a symlink now was switched under the
		// mount, whose text and directory stay as they were.
		same = nil
	}
	diff := overlayfs.Compare(g.config, m, b.o.Defaults, g.sameFS(b.o), same)
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
	return b.compare(g, overlayfs.Mount{
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
		g.surprises(c, b.o)
	case c.Kind == Update:
		c.because("not mounted")
	default:
		c.Kind = Repair
		c.because("not mounted")
	}
}

// mounted: one overlay, or several equal ones, stand at the mountpoint.
func (b *builder) mounted(c *Change, g *goal, live overlayfs.Mount, u UnitFile, applied bool) {
	diff := b.compare(g, live)
	switch {
	case diff.None() && applied:
		// The mount is right; Update if writeUnit found something, else no_op.
	case diff.None() && live.Source == Label:
		c.Kind = Update
		c.because("unit file was deleted")
	case diff.None():
		c.Kind = Adopt
		c.because("mounted by somebody else, exactly as declared")
	case diff.Layers || diff.Options || !applied:
		c.Kind = Replace
		if applied && u.Err == "" && b.compareApplied(g).None() {
			c.Kind = Repair
		}
		c.first(diff.Reasons)
		b.takeDown(c, live, g.name)
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

// moveAway adds what the overlay left behind at a former mountpoint.
func (b *builder) moveAway(c *Change, g *goal) {
	for _, name := range b.moved[g.Address] {
		old := b.o.Units[name]
		c.because("mountpoint changed: %s → %s", old.Where, g.Mountpoint)
		c.Do.Remove = append(c.Do.Remove, name)
		for _, target := range linkedFrom(b.o, name) {
			c.Do.Unlink = append(c.Do.Unlink, [2]string{target, name})
		}
		if old.MadeMountpoint {
			c.Do.Clean = append(c.Do.Clean, old.Where)
		}
		stack := b.o.Mounts.At(old.Where)
		if len(stack) > 0 {
			top := stack[len(stack)-1]
			if len(stack) > 1 || top.Overlay == nil {
				c.conflict("its former mountpoint %s holds more than its overlay: unmount what else is mounted there",
					old.Where)
				return
			}
			c.Kind = Replace
			c.Before = view(*top.Overlay, old.Where)
			b.takeDown(c, top, name)
			continue
		}
		if c.Kind == NoOp || c.Kind == Repair || c.Kind == Create {
			c.Kind = Update
		}
		c.Before = view(b.o.Units[name].Config, old.Where)
	}
}

// guardData refuses what would silently part a client from its data.
func (b *builder) guardData(c *Change, g *goal, u UnitFile, applied bool) {
	name := g.name
	if !applied && len(b.moved[g.Address]) > 0 {
		name = b.moved[g.Address][0]
		u, applied = b.o.Units[name], true
	}
	if !applied || c.Kind == Conflict {
		return
	}
	was := b.o.Units[name].Config
	if was.Upper == "" || was.Upper == g.Upper || b.o.same(was.Upper, g.Upper) {
		b.guardIndex(c, g, was)
		return
	}
	switch {
	case g.DataDir != "" && u.Address != g.Address && !b.addresses[u.Address]:
		c.conflict("%s is now %s, which would start with an empty upperdir: to keep the client's data add "+
			"upperdir = %q and workdir = %q, to start afresh destroy %s first",
			u.Address, g.Address, was.Upper, was.Work, u.Address)
	case g.PreventDestroy && u.PreventDestroy:
		c.conflict("upperdir changes from %s to %s, and prevent_destroy is set: set it to false and apply, then "+
			"change the upperdir", was.Upper, orNone(g.Upper))
	default:
		c.because("what the client wrote stays in the old upperdir, %s", was.Upper)
		c.Keeps = append(c.Keeps, was.Upper)
	}
}

// guardIndex: with an index, the kernel remembers the lower layers in the upper, and answers ESTALE for others.
func (b *builder) guardIndex(c *Change, g *goal, was overlayfs.Config) {
	indexed := func(o overlayfs.Options) bool { return o["index"] == "on" || o["nfs_export"] == "on" }
	if g.ReadOnly() || slices.Equal(was.Lower, g.config.Lower) || !indexed(was.Options) && !indexed(g.config.Options) {
		return
	}
	if !b.o.path(g.Upper).Exists {
		return
	}
	c.conflict("lowerdirs change under an upperdir with index or nfs_export on, and the kernel would refuse it as " +
		"stale: give the client a fresh upperdir, or turn index and nfs_export off")
}

func (b *builder) inScope(u UnitFile) bool {
	return b.scope.Contains(u.Source) || b.doomed[u.Where]
}

// deletes adds a change for each unit of ours in scope that nothing desires.
func (b *builder) deletes() {
	for _, name := range sortedKeys(b.o.Units) {
		u := b.o.Units[name]
		if !u.Ours || b.byUnit[name] != nil || b.used[name] || !b.inScope(u) {
			continue
		}
		b.changes = append(b.changes, b.deletion(name, u))
	}
}

// orphans adds a delete for each live overlay of ours that is to go and has no unit file.
func (b *builder) orphans(mountpoints []string) {
	for _, at := range mountpoints {
		name := units.Name(at)
		stack := b.o.Mounts.At(at)
		if b.o.Units[name].Ours || b.byUnit[name] != nil || len(stack) == 0 || !ours(stack[len(stack)-1]) {
			continue
		}
		c := &Change{
			Address: at, Unit: name, Mountpoint: at, Kind: Delete, Before: view(*stack[len(stack)-1].Overlay, at),
		}
		c.because("mounted by overlayd, but its unit file is gone: apply the spec that declares it, or overlayd destroy %s", at)
		for _, m := range slices.Backward(stack) {
			if !ours(m) {
				c.conflict("%s (%s) is mounted there too: unmount it first", m.Source, m.FSType)
				break
			}
			b.takeDown(c, m, name)
		}
		if c.Kind != Conflict {
			c.Keeps = append(c.Keeps, stack[0].Overlay.Upper)
			for _, target := range linkedFrom(b.o, name) {
				c.Do.Unlink = append(c.Do.Unlink, [2]string{target, name})
			}
		}
		b.changes = append(b.changes, c)
	}
}

func (b *builder) deletion(name string, u UnitFile) *Change {
	c := &Change{
		Address: cmp.Or(u.Address, name), Unit: name, Mountpoint: u.Where, Source: u.Source, Kind: Delete,
		Before: view(b.o.Units[name].Config, u.Where),
	}
	if b.scope.Contains(u.Source) {
		c.because("no longer declared in %s", u.Source)
	}
	stack := b.o.Mounts.At(u.Where)
	for _, m := range stack {
		if m.Overlay == nil || len(stack) > 1 && (!ours(m) || m.Overlay.Upper != u.Config.Upper) {
			c.conflict("%s (%s) is mounted at %s: unmount it, then apply", m.Source, m.FSType, u.Where)
			return c
		}
	}
	if u.Version > units.Version {
		c.conflict("a later version of overlayd wrote its unit: use that version")
		return c
	}
	if u.PreventDestroy {
		c.conflict("prevent_destroy is set: put the block back with prevent_destroy = false and apply, then remove it")
		return c
	}
	for _, m := range slices.Backward(stack) {
		b.takeDown(c, m, name)
	}
	c.Do.Detach = u.OnBusy == "detach"
	c.Do.Remove = []string{name}
	for _, target := range linkedFrom(b.o, name) {
		c.Do.Unlink = append(c.Do.Unlink, [2]string{target, name})
	}
	if u.MadeMountpoint {
		c.Do.Clean = append(c.Do.Clean, u.Where)
	}
	if upper := u.Config.Upper; upper != "" {
		c.Keeps = append(c.Keeps, upper)
		if u.MadeData {
			c.Made = []string{upper, u.Config.Work}
		}
	}
	return c
}

// makesData tells whether the client's directories are overlayd's: it makes them now, or its marker says that it did.
func (b *builder) makesData(g *goal) bool {
	if g.ReadOnly() {
		return false
	}
	fresh := func(p string) bool {
		return !b.o.path(p).Exists || g.DataDir != "" && within(p, g.DataDir) && b.o.Marked[g.DataDir]
	}
	return fresh(g.Upper) && fresh(g.Work)
}

// writeUnit compares the unit file with what it should be, and says what is written and linked.
func (b *builder) writeUnit(c *Change, g *goal, u UnitFile, applied bool) {
	unit := g.unit
	if applied {
		unit.MadeMountpoint, unit.MadeData = u.MadeMountpoint, u.MadeData
		if b.o.Units[g.name].Config.Upper != g.Upper {
			unit.MadeData = b.makesData(g)
		}
	} else {
		unit.MadeMountpoint = !b.o.path(g.Mountpoint).Exists
		unit.MadeData = b.makesData(g)
		for _, name := range b.moved[g.Address] {
			unit.MadeData = unit.MadeData || b.o.Units[name].MadeData && b.o.Units[name].Config.Upper == g.Upper
		}
	}
	if !applied || !units.SameText(unit.Render(), []byte(u.Text)) {
		c.Do.Write = &unit
	}
	if applied && c.Do.Write != nil {
		c.Kind = Update
		b.unitReasons(c, g, u)
	}
	for _, target := range g.WantedBy {
		if !b.o.Wants[target][g.name] {
			c.Do.Link = append(c.Do.Link, [2]string{target, g.name})
		}
	}
	if applied {
		for _, target := range u.WantedBy {
			if !slices.Contains(g.WantedBy, target) && b.o.Wants[target][g.name] {
				c.Do.Unlink = append(c.Do.Unlink, [2]string{target, g.name})
			}
		}
		if len(c.Do.Link) > 0 && c.Do.Write == nil {
			c.Kind = Update
			c.because("not enabled: the link in %s.wants is missing", c.Do.Link[0][0])
		}
	}
}
