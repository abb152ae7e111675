package config

import (
	"cmp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

type visit int

const (
	unvisited visit = iota
	visiting
	visited
)

// resolveAll evaluates everything that can be referred to, what is used before
// what uses it.
func (m *module) resolveAll() {
	all := slices.Clone(m.order)
	slices.SortFunc(all, func(a, b *declaration) int {
		return cmp.Or(strings.Compare(a.kind, b.kind), strings.Compare(a.name, b.name))
	})
	for _, d := range all {
		m.resolve(d)
	}
}

func (m *module) resolve(d *declaration) {
	switch d.state {
	case visited:
		return
	case visiting:
		m.reportCycle(m.path[slices.Index(m.path, d):])
		return
	case unvisited:
	}
	d.state = visiting
	m.path = append(m.path, d)
	for _, a := range d.needs() {
		if a == nil {
			continue
		}
		for _, r := range a.refs {
			m.resolve(r.to)
		}
	}
	m.path = m.path[:len(m.path)-1]
	d.state = visited
	if d.cyclic {
		// Unknown, which makes everything that uses it unknown and reports nothing.
		d.value = cty.DynamicVal
		return
	}
	m.compute(d)
}

// needs returns the attributes on which the value of a node depends, nil for
// those that are not there. Those that nobody can refer to, such as the
// lowerdirs of an overlay, are not among them: two overlays may well name each
// other's mountpoints.
func (d *declaration) needs() [2]*attr {
	switch d.kind {
	case "local":
		return [2]*attr{d.local}
	case kindLowerdir:
		return [2]*attr{d.block.attr("path")}
	case kindOverlay:
		return [2]*attr{d.block.attr("for_each"), d.block.attr("mountpoint")}
	}
	return [2]*attr{}
}

func (m *module) compute(d *declaration) {
	switch d.kind {
	case "var": // set before
	case "local":
		d.value, d.set = m.local(d.local)
	case kindLowerdir:
		d.value = m.lowerdir(d.block)
	default:
		d.value = m.mountpoints(d)
	}
}

// reportCycle tells of a cycle once, from whichever of its nodes it was entered.
func (m *module) reportCycle(cycle []*declaration) {
	if !slices.ContainsFunc(cycle, func(d *declaration) bool { return !d.cyclic }) {
		return
	}
	first := 0
	for i, d := range cycle {
		d.cyclic = true
		if before(d.rng, cycle[first].rng) {
			first = i
		}
	}
	cycle = append(slices.Clone(cycle[first:]), cycle[:first]...)
	steps := make([]string, 0, len(cycle)+1)
	var subject hcl.Range
	for i, d := range cycle {
		r := d.referenceTo(cycle[(i+1)%len(cycle)])
		if i == 0 {
			subject = r
		}
		steps = append(steps, d.String()+" ("+place(r)+")")
	}
	steps = append(steps, cycle[0].String())
	m.diags.add(problem(subject, "Cycle", "These depend on each other: %s.", strings.Join(steps, " -> ")))
}

// referenceTo returns where one node refers to another.
func (d *declaration) referenceTo(to *declaration) hcl.Range {
	for _, a := range d.needs() {
		if a == nil {
			continue
		}
		for _, r := range a.refs {
			if r.to == to {
				return r.rng
			}
		}
	}
	return d.rng
}

func before(a, b hcl.Range) bool {
	if a.Filename != b.Filename {
		return a.Filename < b.Filename
	}
	return a.Start.Byte < b.Start.Byte
}
