package config

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// instance is one overlay of a block on its way to the spec.
type instance struct {
	overlay *Overlay
	value   cty.Value // each.value, cty.NilVal without for_each
}

// lowerdir checks the path of a lowerdir and returns what refers to it sees.
func (m *module) lowerdir(b *block) cty.Value {
	a := b.attr("path")
	if a == nil {
		return cty.DynamicVal
	}
	e := m.evaluator(a)
	if e.unset(a) {
		e.invalid(a, "A lowerdir needs a path; this is null.")
	}
	p, ok := e.path(a, layerPath)
	if !ok {
		return cty.DynamicVal
	}
	return cty.ObjectVal(map[string]cty.Value{"path": cty.StringVal(p)})
}

// mountpoints makes the instances of an overlay, with nothing but their
// mountpoints, and returns what refers to them sees.
func (m *module) mountpoints(d *declaration) cty.Value {
	b := d.block
	a := b.attr("mountpoint")
	e := m.evaluator(b.attr("for_each"), a)
	instances, ok := m.expand(b, e)
	if !ok {
		return cty.DynamicVal
	}
	d.instances = instances
	for _, inst := range instances {
		o := inst.overlay
		o.Range, o.MountpointRange, o.Source = b.header, b.header, m.abs[b.header.Filename]
		if a == nil {
			continue
		}
		e.enter(inst)
		o.MountpointRange = a.expr.Range()
		if e.unset(a) {
			e.invalid(a, "An overlay needs a mountpoint; this is null.")
		}
		if p, ok := e.path(a, anyPath); ok {
			if reason := systemPathProblem(p); reason != "" {
				e.invalid(a, "Nothing may be mounted at %s: it %s.", quote(p), reason)
				continue
			}
			o.Mountpoint = p
		}
	}
	if !d.used {
		return cty.DynamicVal
	}
	return visible(b, instances)
}

// visible is what other blocks see of an overlay.
func visible(b *block, instances []*instance) cty.Value {
	one := func(o *Overlay) cty.Value {
		v := cty.UnknownVal(cty.String)
		if o.Mountpoint != "" {
			v = cty.StringVal(o.Mountpoint)
		}
		return cty.ObjectVal(map[string]cty.Value{"mountpoint": v})
	}
	if b.attr("for_each") == nil {
		return one(instances[0].overlay)
	}
	if len(instances) == 0 {
		return cty.MapValEmpty(cty.Object(map[string]cty.Type{"mountpoint": cty.String}))
	}
	values := make(map[string]cty.Value, len(instances))
	for _, inst := range instances {
		values[inst.overlay.Address.Key] = one(inst.overlay)
	}
	return cty.MapVal(values)
}

// path returns an attribute that is a path.
func (e *evaluator) path(a *attr, rule pathRule) (string, bool) {
	v, ok := e.value(a)
	switch {
	case !ok:
		return "", false
	case v.Type() != cty.String:
		e.wrongType(a, v, "a path")
		return "", false
	}
	p := v.AsString()
	return p, e.checkPath(a, a.expr.Range(), p, rule)
}

// checkPath reports what is wrong with a path that came from part of an attribute.
func (e *evaluator) checkPath(a *attr, subject hcl.Range, p string, rule pathRule) bool {
	f := pathFlaw(p, rule)
	if f == (flaw{}) {
		return true
	}
	e.report(a, problem(subject, f.kind, "The path %s %s.", shorten(quote(p)), f.reason))
	return false
}

// shorten keeps a path of kilobytes from filling the screen.
func shorten(s string) string {
	const limit = 200
	if len(s) <= limit {
		return s
	}
	head, tail := s[:limit/2], s[len(s)-limit/4:]
	return validPrefix(head) + "..." + validSuffix(tail)
}
