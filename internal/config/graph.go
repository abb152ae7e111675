package config

import (
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
	nodes := slices.Clone(m.order)
	slices.SortFunc(nodes, func(a, b node) int {
		return strings.Compare(a.String(), b.String())
	})
	for _, n := range nodes {
		m.resolve(n)
	}
}

func (m *module) resolve(n node) {
	switch m.state[n] {
	case visited:
		return
	case visiting:
		m.reportCycle(m.path[slices.Index(m.path, n):])
		return
	case unvisited:
	}
	m.state[n] = visiting
	m.path = append(m.path, n)
	for _, a := range m.needs(n) {
		for _, r := range a.refs {
			m.resolve(r.node)
		}
	}
	m.path = m.path[:len(m.path)-1]
	m.state[n] = visited
	if m.cyclic[n] {
		// Unknown, which makes everything that uses it unknown and reports nothing.
		m.values[n] = cty.DynamicVal
		return
	}
	m.values[n] = m.compute(n)
}

// needs returns the attributes on which the value of a node depends. Those that
// nobody can refer to, such as the lowerdirs of an overlay, are not among them:
// two overlays may well name each other's mountpoints.
func (m *module) needs(n node) []*attr {
	decl := m.nodes[n]
	var attrs []*attr
	switch n.kind {
	case "local":
		return []*attr{decl.local}
	case kindLowerdir:
		attrs = []*attr{decl.block.attrs["path"]}
	case kindOverlay:
		attrs = []*attr{decl.block.attrs["for_each"], decl.block.attrs["mountpoint"]}
	}
	return slices.DeleteFunc(attrs, func(a *attr) bool { return a == nil })
}

func (m *module) compute(n node) cty.Value {
	decl := m.nodes[n]
	switch n.kind {
	case "var":
		return m.values[n] // set before
	case "local":
		e := m.evaluator(decl.local)
		v, _ := e.value(decl.local)
		return v
	case kindLowerdir:
		return m.lowerdir(decl.block)
	default:
		return m.mountpoints(decl.block)
	}
}

// reportCycle tells of a cycle once, from whichever of its nodes it was entered.
func (m *module) reportCycle(cycle []node) {
	if !slices.ContainsFunc(cycle, func(n node) bool { return !m.cyclic[n] }) {
		return
	}
	first := 0
	for i, n := range cycle {
		m.cyclic[n] = true
		if before(m.nodes[n].rng, m.nodes[cycle[first]].rng) {
			first = i
		}
	}
	cycle = append(slices.Clone(cycle[first:]), cycle[:first]...)
	steps := make([]string, 0, len(cycle)+1)
	var subject hcl.Range
	for i, n := range cycle {
		r := m.referenceTo(n, cycle[(i+1)%len(cycle)])
		if i == 0 {
			subject = r
		}
		steps = append(steps, n.String()+" ("+place(r)+")")
	}
	steps = append(steps, cycle[0].String())
	m.diags.add(problem(subject, "Cycle", "These depend on each other: %s.", strings.Join(steps, " -> ")))
}

// referenceTo returns where one node refers to another.
func (m *module) referenceTo(from, to node) hcl.Range {
	for _, a := range m.needs(from) {
		for _, r := range a.refs {
			if r.node == to {
				return r.rng
			}
		}
	}
	return m.nodes[from].rng
}

func before(a, b hcl.Range) bool {
	if a.Filename != b.Filename {
		return a.Filename < b.Filename
	}
	return a.Start.Byte < b.Start.Byte
}
