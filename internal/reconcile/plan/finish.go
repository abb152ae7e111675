package plan

import (
	"cmp"
	"slices"
)

// finish fills in what the schedule needs, decides about overlayd.target, and puts the changes in order of execution.
func (b *builder) finish() Plan {
	used := b.upperdirs()
	for _, c := range b.changes {
		c.Keeps = slices.DeleteFunc(c.Keeps, func(dir string) bool { return dir == "" || used[dir] })
		for i := range c.Do.Unmount {
			l := &c.Do.Unmount[i]
			if l.Upper != "" {
				l.Holds = []string{b.o.key(l.Upper), b.o.key(l.Work)}
			}
			l.Below, l.Depth = b.family.parents[l.Mountpoint], b.depth(l.Mountpoint)
		}
		if c.Do.Mount != nil {
			c.Do.Below = slices.Clone(b.goals[c.Mountpoint].parents)
		}
		if upper, work := c.data(b.goals); upper != "" {
			c.Do.Holds = []string{b.o.key(upper), b.o.key(work)}
		}
	}
	slices.SortFunc(b.changes, func(x, y *Change) int {
		return cmp.Or(cmp.Compare(x.Address, y.Address), cmp.Compare(x.Unit, y.Unit))
	})
	p := Plan{Changes: make([]Change, 0, len(b.changes)), Target: b.target()}
	for _, c := range b.changes {
		p.Changes = append(p.Changes, *c)
	}
	p.order()
	return p
}

// upperdirs gives the upperdirs that are desired, in the whole spec.
func (b *builder) upperdirs() map[string]bool {
	keeps := func(c *Change) bool { return len(c.Keeps) > 0 }
	if !slices.ContainsFunc(b.changes, keeps) {
		return nil // nobody asks
	}
	used := map[string]bool{}
	for _, g := range b.goals {
		used[g.Upper] = true
	}
	if b.whole != nil {
		for i := range b.whole.d.Overlays {
			used[b.whole.d.Overlays[i].Upper] = true
		}
	}
	return used
}

// depth counts the live overlays below each other under a mountpoint.
func (b *builder) depth(mountpoint string) int {
	n := 0
	for _, p := range b.family.parents[mountpoint] {
		n = max(n, 1+b.depth(p))
	}
	return n
}

// target decides about overlayd.target: it is there as long as a unit of ours is.
func (b *builder) target() TargetAction {
	if b.o.Target.Exists && !b.o.Target.Ours {
		return TargetKeep
	}
	changes, left := false, false
	removed := map[string]bool{}
	for _, c := range b.changes {
		changes = changes || c.Kind != NoOp && c.Kind != Conflict
		left = left || c.Do.Write != nil
		for _, name := range c.Do.Remove {
			removed[name] = true
		}
	}
	for name, u := range b.o.Units {
		if left {
			break
		}
		left = u.Ours && !removed[name]
	}
	switch {
	case !left && b.o.Target.Exists:
		return TargetRemove
	case left && changes && (!b.o.Target.Current || !b.o.Target.Enabled):
		return TargetWrite
	}
	return TargetKeep
}

// order sorts the changes as they are carried out: what happens before the unit files are written, what happens with
// them, what happens after, then conflicts and no-ops.
func (p *Plan) order() {
	s := p.Steps(func(int) bool { return true })
	when := map[string]int{}
	next := 1
	note := func(steps []Step) {
		for _, step := range steps {
			unit := p.Changes[step.Change].Unit
			if when[unit] == 0 {
				when[unit] = next
				next++
			}
		}
	}
	note(s.Down)
	for i := range p.Changes {
		if c := &p.Changes[i]; c.Kind != NoOp && c.Kind != Conflict && len(c.Do.Unmount) == 0 && c.Do.Mount == nil &&
			c.Do.Remount == nil && c.Do.Reset == nil {
			when[c.Unit] = next
			next++
		}
	}
	for _, g := range s.Groups {
		for _, step := range g {
			if k := step.Kind; k == StepMount || k == StepRestart || k == StepRemount || k == StepReset {
				note([]Step{step})
			}
		}
	}
	// The rank of each change, and not a comparison of changes, which are large.
	ranks := make([]rank, len(p.Changes))
	for i := range p.Changes {
		c := &p.Changes[i]
		ranks[i] = rank{when: when[c.Unit], index: i}
		switch c.Kind {
		case Conflict:
			ranks[i].last = 1
		case NoOp:
			ranks[i].last = 2
		default:
		}
	}
	if slices.IsSortedFunc(ranks, rank.compare) {
		return
	}
	slices.SortFunc(ranks, rank.compare)
	sorted := make([]Change, len(ranks))
	for i, r := range ranks {
		sorted[i] = p.Changes[r.index]
	}
	p.Changes = sorted
}

// rank is the place of a change in the order of execution.
type rank struct{ last, when, index int }

func (r rank) compare(o rank) int {
	return cmp.Or(cmp.Compare(r.last, o.last), cmp.Compare(r.when, o.when), cmp.Compare(r.index, o.index))
}
