package config

import (
	"slices"
	"strings"
)

// maxStacking is how many overlays may stand on each other: the kernel's
// FILESYSTEM_MAX_STACK_DEPTH.
const maxStacking = 2

// linkLayers notes which layers are lowerdirs of the spec and which lie on
// other overlays.
func (r *relations) linkLayers(o *Overlay) {
	for i := range o.Lowerdirs {
		r.link(&o.Lowerdirs[i], nil)
	}
}

// link connects one layer. The overlay self, when there is one, does not count.
func (r *relations) link(l *Layer, self *Overlay) {
	l.Ref, l.Overlay = r.lower[l.Path], nil
	if on := r.used[l.Path].mount; on != nil && on != self {
		address := on.Address
		l.Overlay = &address
		if l.Ref == "" {
			l.Ref = address.String()
		}
		return
	}
	for _, u := range r.above(l.Path) {
		if on := u.mount; on != nil && on != self {
			address := on.Address
			l.Overlay = &address
			return
		}
	}
}

// stack computes how high each overlay stands.
type stack struct {
	r      *relations
	all    map[Address]*Overlay
	state  map[*Overlay]visit
	height map[*Overlay]int
	path   []*Overlay
	cyclic map[*Overlay]bool
}

// checkStacking reports overlays that stand on each other in a circle, and
// those that stand too high.
func (r *relations) checkStacking(overlays []*Overlay) {
	onOther := func(o *Overlay) bool {
		return slices.ContainsFunc(o.Lowerdirs, func(l Layer) bool { return l.Overlay != nil })
	}
	if !slices.ContainsFunc(overlays, onOther) {
		return
	}
	s := &stack{
		r:      r,
		all:    map[Address]*Overlay{},
		state:  map[*Overlay]visit{},
		height: map[*Overlay]int{},
		cyclic: map[*Overlay]bool{},
	}
	for _, o := range overlays {
		s.all[o.Address] = o
	}
	for _, o := range overlays {
		s.visit(o)
	}
}

// visit returns the height of o: 1 on plain directories.
func (s *stack) visit(o *Overlay) int {
	switch s.state[o] {
	case visited:
		return s.height[o]
	case visiting:
		s.reportCycle(s.path[slices.Index(s.path, o):])
		return 0
	case unvisited:
	}
	s.state[o] = visiting
	s.path = append(s.path, o)
	height := 1
	for _, l := range o.Lowerdirs {
		if l.Overlay == nil {
			continue
		}
		below := s.all[*l.Overlay]
		h := s.visit(below) + 1
		height = max(height, h)
		// One that stands even higher does so because of one that is reported.
		if h == maxStacking+1 && !s.cyclic[below] {
			s.r.report(o, problem(l.Range, "Too many overlays on each other",
				"%s has %s as a layer, which has an overlay as a layer itself. The kernel takes %d levels.",
				o.Address, below.Address, maxStacking))
		}
	}
	s.path = s.path[:len(s.path)-1]
	s.state[o], s.height[o] = visited, height
	if s.cyclic[o] {
		s.height[o] = maxStacking + 1 // reported already
	}
	return s.height[o]
}

func (s *stack) reportCycle(cycle []*Overlay) {
	if !slices.ContainsFunc(cycle, func(o *Overlay) bool { return !s.cyclic[o] }) {
		return
	}
	first := 0
	for i, o := range cycle {
		s.cyclic[o] = true
		if before(o.Range, cycle[first].Range) {
			first = i
		}
	}
	cycle = append(slices.Clone(cycle[first:]), cycle[:first]...)
	steps := make([]string, 0, len(cycle)+1)
	for i, o := range cycle {
		steps = append(steps, o.Address.String()+" ("+place(layerOn(o, cycle[(i+1)%len(cycle)]).Range)+")")
	}
	steps = append(steps, cycle[0].Address.String())
	s.r.m.diags.add(problem(layerOn(cycle[0], cycle[1%len(cycle)]).Range, "Cycle",
		"These are layers of each other: %s.", strings.Join(steps, " -> ")))
}

// layerOn returns the layer of o that lies on another overlay.
func layerOn(o, on *Overlay) Layer {
	for _, l := range o.Lowerdirs {
		if l.Overlay != nil && *l.Overlay == on.Address {
			return l
		}
	}
	return Layer{Range: o.Range}
}
