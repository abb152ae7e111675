package plan

import (
	"slices"
	"sync"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/units"
)

// Diff makes the plan that turns what was observed into what is desired. With targets only their changes, and what
// those need, are in it. Diff is total: it never fails, and what cannot be done is a conflict.
func Diff(d Desired, o *Observed, targets []Target) Plan {
	p, _ := DiffWide(d, o, targets)
	return p
}

// DiffWide is Diff for a part of a spec, see [Desired.Around]: it takes in what turns out to matter for it, and gives
// the part that the plan is about. Where that is wider than d, what was observed for d was not enough: observe again.
func DiffWide(d Desired, o *Observed, targets []Target) (Plan, Desired) {
	for {
		p, more := diff(d, o, targets)
		if len(more) == 0 {
			return p, d
		}
		d = d.with(more)
	}
}

// diff makes the plan, or gives the mountpoints of further overlays that have to be in it.
func diff(d Desired, o *Observed, targets []Target) (p Plan, more []string) {
	b := newBuilder(d, o)
	b.findMoves()
	b.decideAll()
	b.deletes()
	b.orphans(d.Orphans)
	b.index()
	if more := b.wanting(); len(more) > 0 {
		return p, more
	}
	b.settle()
	if more := b.wanting(); len(more) > 0 { // more goes down, and comes up again
		return p, more
	}
	b.uppers()
	b.howToMount()
	if len(targets) > 0 {
		b.narrow(targets)
	}
	return b.finish(), nil
}

func newBuilder(d Desired, o *Observed) *builder {
	b := &builder{
		o: o, overlays: d.Overlays, scope: d.Scope, resets: d.Resets, whole: d.whole,
		byUnit: make(map[string]*goal, len(d.Overlays)), doomed: make(map[string]bool, len(d.Scope.Mountpoints)),
	}
	b.wanted, b.goals = goals(d, o)
	for _, at := range d.Scope.Mountpoints {
		b.doomed[at] = true
	}
	for _, g := range b.wanted {
		b.byUnit[g.name] = g
	}
	return b
}

// builder holds one run of Diff.
type builder struct {
	o         *Observed
	overlays  []Overlay // desired
	scope     Scope
	whole     *Index              // of the spec that is planned a part of, nil for all of it
	wanted    []*goal             // of each of overlays
	goals     map[string]*goal    // the same by mountpoint
	byUnit    map[string]*goal    // by unit name
	addresses map[string]struct{} // all that are desired, in the whole spec; filled in by desires
	spare     []string            // units of ours that none of the goals has, sorted; filled in by findMoves
	doomed    map[string]bool     // mountpoints in scope one by one
	resets    map[string]Reset    // by mountpoint
	moved     map[string][]string // address → units of ours at mountpoints it has left
	used      map[string]bool     // units that are moved away from

	changes []*Change
	family  family

	// Memory that is used again from one goal to the next.
	seen  sight
	stack []overlayfs.Mount
	needs []string
	text  []byte
}

// findMoves finds units whose address is desired at another mountpoint. The identity of a live overlay is its
// mountpoint, so a unit at a desired mountpoint is never moved away from, whatever its address.
func (b *builder) findMoves() {
	b.moved, b.used = map[string][]string{}, map[string]bool{}
	if b.scope.empty() {
		return
	}
	for name, u := range b.o.Units {
		if u.Ours && b.byUnit[name] == nil {
			b.spare = append(b.spare, name)
		}
	}
	slices.Sort(b.spare)
	for _, name := range b.spare {
		if u := b.o.Units[name]; b.inScope(u) && b.desires(u.Address) {
			b.moved[u.Address] = append(b.moved[u.Address], name)
			b.used[name] = true
		}
	}
}

// decideAll decides about all desired overlays, some at once: of one it does not matter what is done with another.
func (b *builder) decideAll() {
	b.changes = make([]*Change, len(b.wanted))
	part := 1024
	if len(b.goals) < len(b.wanted) { // two that are one
		part = len(b.wanted)
	}
	var wait sync.WaitGroup
	for from := 0; from < len(b.wanted); from += part {
		own := *b // with memory of its own
		wait.Go(func() {
			for i := from; i < min(len(b.wanted), from+part); i++ {
				b.changes[i] = own.decide(b.wanted[i])
			}
		})
	}
	wait.Wait()
}

// decide is the decision table for one desired overlay. It changes nothing but memory that is used again.
func (b *builder) decide(g *goal) *Change {
	c := &Change{
		Address: g.Address, Unit: g.name, Mountpoint: g.Mountpoint, Source: g.Place(), Kind: NoOp,
		After: g.view(),
	}
	u, applied := b.o.Units[g.name]
	applied = applied && u.Ours
	b.stack = b.o.Mounts.AppendAt(b.stack[:0], g.Mountpoint)
	stack := b.stack
	if n := len(stack); n > 0 && stack[n-1].Overlay != nil {
		c.Before = view(*stack[n-1].Overlay, g.Mountpoint)
	} else if applied {
		c.Before = view(u.Config, g.Mountpoint)
	}

	b.seen.look(g, b.o)
	if g.Applied != nil && !applied {
		return c // it was deleted since it was read
	}
	if g.Applied != nil && g.Applied.Err != "" {
		c.Kind = Update
		c.because("unit file cannot be read: %s", g.Applied.Err)
		return c
	}
	problems := append(g.foreign(b.o), g.hostProblems(b.o, &b.seen)...)
	problems = append(problems, b.claims(g, u, applied)...)
	if n := len(stack); n > 0 {
		problems = append(problems, g.lostData(&b.seen, stack[n-1])...)
	}
	live, diff, odd := b.classify(g, stack, applied)
	if odd != "" {
		problems = append(problems, odd)
	}
	if len(stack) == 0 {
		problems = append(problems, b.hidden(g)...)
	}
	for _, p := range problems {
		c.conflict("%s", p)
	}
	if c.Kind == Conflict {
		return c
	}

	c.Warnings = g.warnings(b.o, &b.seen)
	b.writeUnit(c, g, u, applied)
	if live == nil {
		b.notMounted(c, g, applied)
	} else {
		b.mounted(c, g, live, diff, u, applied)
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
	if r, ok := b.resets[g.Mountpoint]; ok {
		b.reset(c, g, u, r, stack)
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
	if !applied && len(b.moved[g.Address]) > 0 {
		u, applied = b.o.Units[b.moved[g.Address][0]], true
	}
	if !applied || c.Kind == Conflict {
		return
	}
	was := u.Config
	if was.Upper == "" || was.Upper == g.Upper || b.o.same(was.Upper, g.Upper) {
		b.guardIndex(c, g, was)
		return
	}
	switch {
	case g.DataDir != "" && u.Address != g.Address && !b.desires(u.Address):
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
	c.conflict("lowerdirs change under an upperdir with index or nfs_export on, and the kernel would refuse it as stale: " +
		"name another upperdir and workdir (what is in the old ones is kept), or first apply index = false and " +
		"nfs_export = false with the lowerdirs of before")
}

func (b *builder) desires(address string) bool {
	if b.addresses == nil && b.whole != nil {
		b.addresses = b.whole.addresses
	}
	if b.addresses == nil {
		b.addresses = make(map[string]struct{}, len(b.overlays))
		for i := range b.overlays {
			b.addresses[b.overlays[i].Address] = struct{}{}
		}
	}
	_, ok := b.addresses[address]
	return ok
}

func (b *builder) inScope(u UnitFile) bool {
	return b.scope.Contains(u.Source) || b.doomed[u.Where]
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
	var unit units.Mount
	unit, b.needs = g.unit(b.needs)
	if applied {
		unit.MadeMountpoint, unit.MadeData = u.MadeMountpoint, u.MadeData
		if u.Config.Upper != g.Upper {
			unit.MadeData = b.makesData(g)
		}
	} else {
		unit.MadeMountpoint = !b.seen.mountpoint.Exists
		unit.MadeData = b.makesData(g)
		for _, name := range b.moved[g.Address] {
			unit.MadeData = unit.MadeData || b.o.Units[name].MadeData && b.o.Units[name].Config.Upper == g.Upper
		}
	}
	if applied {
		b.text = unit.RenderTo(b.text)
	}
	if !applied || !units.SameText(b.text, u.Text) {
		write := unit // only what is written has to outlive this
		write.RequiresMountsFor = slices.Clone(write.RequiresMountsFor)
		c.Do.Write = &write
	}
	if applied && c.Do.Write != nil {
		c.Kind = Update
		b.unitReasons(c, g, u, &unit)
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
