package plan

import (
	"cmp"
	"slices"
	"strings"
)

// StepKind is what one step does to a mount.
type StepKind int

// The kinds of step.
const (
	StepUnmount StepKind = iota // take Live down, by system call or stop job
	StepMount                   // put the change's mount up, by system call or start job
	StepRestart                 // both in one restart job, so that systemd stops and starts the dependents
	StepRemount                 // set per-mount flags in place
	StepReset                   // give the client a fresh upperdir, while nothing is mounted on it
	StepRevive                  // start the units again that a stop job took down with the mount
)

// Step is one thing done to one mount.
type Step struct {
	Kind   StepKind
	Change int  // index into Plan.Changes
	Live   Live // what StepUnmount and StepRestart take down
}

// Schedule is the order of an apply around the writing of the unit files.
type Schedule struct {
	Down   []Step   // before the unit files change: deletes, and mountpoints that are left
	Groups [][]Step // after it; the steps of a group run in order, the groups are independent of each other
}

// Steps gives the order in which the changes that run selects, by their index, are carried out.
//
// Unmounts go from the top of a stack of overlays to its bottom, mounts the other way. Changes that share an upperdir
// or stand on each other are one group, in which all goes down before anything goes up: swapped upperdirs have no other
// order. Everything else is a group of its own, mounted again right after it was unmounted.
func (p Plan) Steps(run func(i int) bool) Schedule {
	s := &scheduler{changes: p.Changes, selected: make([]bool, len(p.Changes)), at: make(map[string]int)}
	for i := range p.Changes {
		c := &p.Changes[i]
		s.selected[i] = c.Kind != Conflict && c.Kind != NoOp && run(i)
		if c.Do.Mount != nil {
			s.at[c.Mountpoint] = i
		}
	}
	s.findEarly()
	return Schedule{Down: s.down(), Groups: s.groups()}
}

type scheduler struct {
	changes  []Change
	selected []bool
	at       map[string]int  // mountpoint → change that mounts there
	early    map[string]bool // mountpoints that are taken down before the unit files change
}

// leaves tells whether an unmount is final for its mountpoint: a delete, or the old place of a move. Those happen
// before the unit files change, since a unit file must not go while its mount cannot.
func leaves(c *Change, l Live) bool { return c.Do.Mount == nil || l.Mountpoint != c.Mountpoint }

// findEarly finds what is taken down first: mountpoints that are left, and whatever stands on those.
func (s *scheduler) findEarly() {
	s.early = map[string]bool{}
	for again := true; again; {
		again = false
		for i, ok := range s.selected {
			if !ok {
				continue
			}
			c := &s.changes[i]
			for _, l := range c.Do.Unmount {
				onEarly := slices.ContainsFunc(l.Below, func(p string) bool { return s.early[p] })
				if !s.early[l.Mountpoint] && (onEarly || leaves(c, l)) {
					s.early[l.Mountpoint] = true
					again = true
				}
			}
		}
	}
}

// Waves parts Down where a step waits for those before it. The steps of one wave are independent of each other: none of
// their overlays stands on another, none of their mountpoints is below another, or the same, and no two are of one
// change, which ends when the first of them fails.
func (s Schedule) Waves() [][]Step {
	var out [][]Step
	for rest := s.Down; len(rest) > 0; {
		changes := map[int]bool{rest[0].Change: true}
		n := 1
		for n < len(rest) && compareDown(rest[0], rest[n]) == 0 && rest[n].Live.Mountpoint != rest[n-1].Live.Mountpoint &&
			!changes[rest[n].Change] {
			changes[rest[n].Change] = true
			n++
		}
		out, rest = append(out, rest[:n]), rest[n:]
	}
	return out
}

func (s *scheduler) down() []Step {
	var out []Step
	for i, ok := range s.selected {
		if ok {
			out = append(out, s.unmounts(i, true)...)
		}
	}
	sortDown(out)
	return out
}

func (s *scheduler) unmounts(i int, early bool) []Step {
	var out []Step
	for _, l := range s.changes[i].Do.Unmount {
		if s.early[l.Mountpoint] == early {
			out = append(out, Step{Kind: StepUnmount, Change: i, Live: l})
		}
	}
	return out
}

// sortDown orders unmounts as compareDown does, and then by name.
func sortDown(steps []Step) {
	slices.SortStableFunc(steps, func(a, b Step) int {
		return cmp.Or(compareDown(a, b), cmp.Compare(a.Live.Mountpoint, b.Live.Mountpoint))
	})
}

// compareDown tells which of two unmounts goes first, 0 if none has to: what stands on another does, and a child's depth
// is more than its parent's; then the longer path, since a mount below a mountpoint keeps it busy.
func compareDown(a, b Step) int {
	return cmp.Or(
		cmp.Compare(b.Live.Depth, a.Live.Depth),
		cmp.Compare(strings.Count(b.Live.Mountpoint, "/"), strings.Count(a.Live.Mountpoint, "/")),
	)
}

// rank is the number of overlays that will be below a change; parents have a smaller one than their children.
func (s *scheduler) rank(i int) int {
	n := 0
	for _, p := range s.changes[i].Do.Below {
		if parent, ok := s.at[p]; ok && parent != i {
			n = max(n, 1+s.rank(parent))
		}
	}
	return n
}

func (s *scheduler) groups() [][]Step {
	var out [][]Step
	for _, members := range s.related() {
		out = append(out, s.group(members))
	}
	// Groups that take something down come first: if they fail, nothing new was put on top of a host in trouble.
	slices.SortStableFunc(out, func(a, b []Step) int {
		return cmp.Or(-cmp.Compare(weight(a), weight(b)),
			cmp.Compare(s.changes[a[0].Change].Address, s.changes[b[0].Change].Address))
	})
	return out
}

func weight(steps []Step) int {
	if k := steps[0].Kind; k == StepUnmount || k == StepRestart {
		return 1
	}
	return 0
}

// related parts the selected changes into groups, those with steps after the unit files are written.
func (s *scheduler) related() [][]int {
	root := make([]int, len(s.changes))
	var find func(int) int
	find = func(i int) int {
		if root[i] != i {
			root[i] = find(root[i])
		}
		return root[i]
	}
	var nodes []int
	firstWith := map[string]int{} // key of an upperdir or workdir, or a mountpoint → first change seen with it
	join := func(key string, i int) {
		if j, ok := firstWith[key]; ok {
			root[find(i)] = find(j)
		} else {
			firstWith[key] = i
		}
	}
	for i := range s.changes {
		root[i] = i
		c := &s.changes[i]
		if !s.selected[i] || c.Do.Mount == nil && c.Do.Remount == nil && c.Do.Reset == nil {
			continue
		}
		nodes = append(nodes, i)
	}
	for _, i := range nodes {
		c := &s.changes[i]
		join("at "+c.Mountpoint, i)
		for _, h := range c.Do.Holds {
			join("dir "+h, i)
		}
		for _, p := range c.Do.Below {
			join("at "+p, i)
		}
		for _, l := range c.Do.Unmount {
			for _, h := range l.Holds {
				join("dir "+h, i)
			}
			for _, p := range l.Below {
				join("at "+p, i)
			}
		}
	}
	members := map[int][]int{}
	var order []int
	for _, i := range nodes {
		r := find(i)
		if members[r] == nil {
			order = append(order, r)
		}
		members[r] = append(members[r], i)
	}
	out := make([][]int, 0, len(order))
	for _, r := range order {
		out = append(out, members[r])
	}
	return out
}

// group gives the steps of changes that belong together.
func (s *scheduler) group(members []int) []Step {
	if len(members) == 1 {
		i := members[0]
		down := s.unmounts(i, false)
		do := &s.changes[i].Do
		if len(down) == 1 && down[0].Live.ViaSystemd && do.Mount != nil && do.Reset == nil {
			return []Step{{Kind: StepRestart, Change: i, Live: down[0].Live}}
		}
	}
	var down, reset, up, revive []Step
	ranks := make(map[int]int, len(members))
	for _, i := range members {
		ranks[i] = s.rank(i)
		down = append(down, s.unmounts(i, false)...)
	}
	sortDown(down)
	slices.SortStableFunc(members, func(a, b int) int {
		return cmp.Or(cmp.Compare(ranks[a], ranks[b]), cmp.Compare(s.changes[a].Address, s.changes[b].Address))
	})
	for _, i := range members {
		do := s.changes[i].Do
		if do.Reset != nil {
			reset = append(reset, Step{Kind: StepReset, Change: i})
		}
		if do.Mount != nil {
			up = append(up, Step{Kind: StepMount, Change: i})
		}
		if do.Remount != nil {
			up = append(up, Step{Kind: StepRemount, Change: i})
		}
	}
	for _, i := range members {
		c := &s.changes[i]
		if slices.ContainsFunc(c.Do.Unmount, func(l Live) bool { return l.ViaSystemd && !leaves(c, l) }) {
			revive = append(revive, Step{Kind: StepRevive, Change: i})
		}
	}
	return slices.Concat(down, reset, up, revive)
}
