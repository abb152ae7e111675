package config

import (
	"slices"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// maxInstances bounds for_each, far above what a kernel mounts.
const maxInstances = 1_000_000

// expand evaluates for_each.
func (m *module) expand(b *block, e *evaluator) ([]*instance, bool) {
	a := b.attr("for_each")
	if a == nil {
		return []*instance{{overlay: &Overlay{Address: Address{Name: b.name}}}}, true
	}
	if keys := e.set(a); keys != nil && len(keys) <= maxInstances {
		out := newInstances(b, len(keys))
		for i, key := range keys {
			out[i].overlay.Address.Key, out[i].value = key, cty.StringVal(key)
		}
		return out, true
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
	out := newInstances(b, v.LengthInt())
	i := 0
	for it := v.ElementIterator(); it.Next(); i++ {
		key, val := it.Element()
		if key.IsNull() {
			e.invalid(a, "for_each holds null; instances are named by strings.")
			return nil, false
		}
		out[i].overlay.Address.Key, out[i].value = key.AsString(), val
	}
	return out, true
}

// newInstances makes n instances of a block, without their keys.
func newInstances(b *block, n int) []*instance {
	out := make([]*instance, n)
	for i := range out {
		out[i] = &instance{overlay: &Overlay{Address: Address{Name: b.name, Keyed: true}}}
	}
	return out
}

// set returns the elements, in order, of an attribute that is toset(LIST), or a
// variable or a local that is such a set. It returns nil for everything else,
// and for what is not altogether right; that is evaluated as it is written.
//
// It is there because of what cty takes to give the elements of a set: it sorts
// them each time, with a comparison that makes this the greater part of loading
// a spec.
func (e *evaluator) set(a *attr) []string {
	if a.bad {
		return nil
	}
	switch x := a.expr.(type) {
	case *hclsyntax.ScopeTraversalExpr:
		if len(a.refs) == 1 && len(a.refs[0].rest) == 0 {
			return a.refs[0].to.set
		}
	case *hclsyntax.FunctionCallExpr:
		_, elements := e.toSet(x)
		return elements
	}
	return nil
}

// toSet evaluates the argument of toset and returns it with its elements, nil
// if it is no list of known strings.
func (e *evaluator) toSet(x *hclsyntax.FunctionCallExpr) (list cty.Value, elements []string) {
	if x.Name != "toset" || len(x.Args) != 1 || x.ExpandFinal {
		return cty.NilVal, nil
	}
	list, diags := x.Args[0].Value(e.ctx())
	if len(diags) > 0 {
		return cty.NilVal, nil
	}
	return list, elementsOf(list)
}

// elementsOf returns the elements that a list of known strings has as a set,
// nil if it is none or empty.
func elementsOf(list cty.Value) []string {
	t := list.Type()
	if !t.IsTupleType() && t != cty.List(cty.String) || list.IsMarked() || !list.IsKnown() || list.IsNull() {
		return nil
	}
	out := make([]string, 0, list.LengthInt())
	for it := list.ElementIterator(); it.Next(); {
		_, v := it.Element()
		if v.Type() != cty.String || v.IsMarked() || !v.IsKnown() || v.IsNull() {
			return nil
		}
		out = append(out, v.AsString())
	}
	if len(out) == 0 {
		return nil
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// local evaluates a local. It returns the elements, too, if they come cheap.
func (m *module) local(a *attr) (v cty.Value, elements []string) {
	if a.bad {
		return cty.DynamicVal, nil
	}
	e := m.evaluator(a)
	if x, ok := a.expr.(*hclsyntax.FunctionCallExpr); ok {
		if list, elements := e.toSet(x); elements != nil {
			if v, err := m.funcs[x.Name].Call([]cty.Value{list}); err == nil {
				return v, elements
			}
		}
		return e.evaluate(a), nil
	}
	return e.evaluate(a), e.set(a)
}
