package config

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// maxInstances bounds for_each, far above what a kernel mounts.
const maxInstances = 1_000_000

// instance is one overlay of a block on its way to the spec.
type instance struct {
	overlay *Overlay
	each    cty.Value // cty.NilVal without for_each
}

// lowerdir checks the path of a lowerdir and returns what refers to it sees.
func (m *module) lowerdir(b *block) cty.Value {
	a := b.attrs["path"]
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
func (m *module) mountpoints(b *block) cty.Value {
	e := m.evaluator(b.attrs["for_each"], b.attrs["mountpoint"])
	instances, ok := m.expand(b, e)
	if !ok {
		return cty.DynamicVal
	}
	m.instances[b.name] = instances
	a := b.attrs["mountpoint"]
	for _, inst := range instances {
		o := inst.overlay
		o.Range, o.MountpointRange, o.Source = b.header, b.header, m.abs[b.header.Filename]
		if a == nil {
			continue
		}
		ie := e.forInstance(o.Address, inst.each)
		o.MountpointRange = a.expr.Range()
		if ie.unset(a) {
			ie.invalid(a, "An overlay needs a mountpoint; this is null.")
		}
		if p, ok := ie.path(a, anyPath); ok {
			if reason := systemPathProblem(p); reason != "" {
				ie.invalid(a, "Nothing may be mounted at %s: it %s.", quote(p), reason)
				continue
			}
			o.Mountpoint = p
		}
	}
	if !m.used[node{kindOverlay, b.name}] {
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
	if b.attrs["for_each"] == nil {
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

// expand evaluates for_each.
func (m *module) expand(b *block, e *evaluator) ([]*instance, bool) {
	a := b.attrs["for_each"]
	if a == nil {
		return []*instance{{overlay: &Overlay{Address: Address{Name: b.name}}}}, true
	}
	v, ok := e.value(a)
	if !ok {
		if e.unset(a) {
			e.invalid(a, "for_each takes a set of strings, a map or an object; this is null. "+
				"Use toset([]) for no instance.")
		}
		return nil, false
	}
	t := v.Type()
	switch {
	case t.IsListType(), t.IsTupleType():
		e.invalid(a, "for_each takes a set of strings, a map or an object, not %s. Write toset(...) around it.", typeName(t))
		return nil, false
	case t.IsSetType() && v.LengthInt() > 0 && t.ElementType() != cty.String:
		e.invalid(a, "for_each takes a set of strings, not %s: instances are named by their keys.", typeName(t))
		return nil, false
	case !t.IsSetType() && !t.IsMapType() && !t.IsObjectType():
		e.invalid(a, "for_each takes a set of strings, a map or an object, not %s.", typeName(t))
		return nil, false
	case v.LengthInt() > maxInstances:
		e.invalid(a, "for_each has %d elements; %d are possible.", v.LengthInt(), maxInstances)
		return nil, false
	}
	out := make([]*instance, 0, v.LengthInt())
	for it := v.ElementIterator(); it.Next(); {
		key, val := it.Element()
		if key.IsNull() {
			e.invalid(a, "for_each holds null; instances are named by strings.")
			return nil, false
		}
		out = append(out, &instance{
			overlay: &Overlay{Address: Address{Name: b.name, Key: key.AsString(), Keyed: true}},
			each:    cty.ObjectVal(map[string]cty.Value{"key": key, "value": val}),
		})
	}
	return out, true
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
