package config

import (
	"math/big"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// evaluator evaluates attributes for one block, or one instance of it after the
// other.
//
// Whatever cannot be evaluated has been reported and is unknown from there on.
// Unknown values spread by themselves and nothing is reported of them, so one
// mistake gives one diagnostic.
type evaluator struct {
	m     *module
	attrs []*attr
	block *hcl.EvalContext // nil until something asks for it
	inst  *instance        // nil for the block
	// each is the context that knows each, nil until something asks for it.
	each *hcl.EvalContext
	// last is the attribute evaluated last, which is often asked for again.
	last     *attr
	lastMemo memo
}

// memo is the value of an attribute that is the same for all instances.
type memo struct {
	val cty.Value
	ok  bool
}

// evaluator returns one that knows what the given attributes refer to, and
// nothing else: a spec may have 10,000 locals and use two of them here.
func (m *module) evaluator(attrs ...*attr) *evaluator {
	return &evaluator{m: m, attrs: attrs}
}

// blockCtx returns what expressions are evaluated in that know nothing of each.
func (e *evaluator) blockCtx() *hcl.EvalContext {
	if e.block != nil {
		return e.block
	}
	found := map[string]map[string]cty.Value{}
	for _, a := range e.attrs {
		if a == nil {
			continue
		}
		for _, r := range a.refs {
			if found[r.to.kind] == nil {
				found[r.to.kind] = map[string]cty.Value{}
			}
			found[r.to.kind][r.to.name] = r.to.known()
		}
	}
	vars := map[string]cty.Value{"host": e.m.host}
	for kind, values := range found {
		vars[kind] = cty.ObjectVal(values)
	}
	e.block = &hcl.EvalContext{Variables: vars, Functions: e.m.funcs}
	return e.block
}

// known is the value of a node as far as it is known.
func (d *declaration) known() cty.Value {
	if d.value == cty.NilVal {
		return cty.DynamicVal
	}
	return d.value
}

// enter turns to an instance.
func (e *evaluator) enter(inst *instance) {
	e.inst, e.each, e.last = inst, nil, nil
}

// ctx returns what expressions are evaluated in.
func (e *evaluator) ctx() *hcl.EvalContext {
	if e.inst == nil || e.inst.value == cty.NilVal {
		return e.blockCtx()
	}
	if e.each == nil {
		e.each = e.blockCtx().NewChild()
		e.each.Variables = map[string]cty.Value{"each": cty.ObjectVal(map[string]cty.Value{
			"key": cty.StringVal(e.inst.overlay.Address.Key), "value": e.inst.value,
		})}
	}
	return e.each
}

// value evaluates an attribute. It returns false when the value is unknown or
// null, in full or, for unknown, in part.
func (e *evaluator) value(a *attr) (cty.Value, bool) {
	if a == nil {
		return cty.NullVal(cty.DynamicPseudoType), false
	}
	if a.bad {
		return cty.DynamicVal, false
	}
	if a.memo != nil {
		return a.memo.val, a.memo.ok
	}
	if e.last == a {
		return e.lastMemo.val, e.lastMemo.ok
	}
	v := e.evaluate(a)
	ok := v.IsWhollyKnown() && !v.IsNull()
	e.last, e.lastMemo = a, memo{v, ok}
	if !a.each {
		a.memo = &memo{v, ok}
	}
	return v, ok
}

func (e *evaluator) evaluate(a *attr) cty.Value {
	if a.each && e.inst != nil {
		if !a.compiled {
			a.compiled, a.template = true, compile(a.expr, e.blockCtx())
		}
		if a.template != nil {
			if v, ok := a.template.render(e.inst); ok {
				return v
			}
		}
	}
	if v, ok := e.m.direct(a.expr); ok {
		return v
	}
	v, diags := a.expr.Value(e.ctx())
	if diags.HasErrors() {
		v = cty.DynamicVal
		if !e.unknownInstance(a) {
			e.reportAll(a, diags)
		}
	}
	return v
}

// direct gives the value of an expression that is a text, the name of a node, or
// a list of these, for which a context with all that a block refers to would be
// the most part of the work.
func (m *module) direct(expr hclsyntax.Expression) (cty.Value, bool) {
	switch x := expr.(type) {
	case *hclsyntax.TemplateExpr:
		if x.IsStringLiteral() {
			v, diags := x.Parts[0].Value(nil)
			return v, len(diags) == 0
		}
	case *hclsyntax.ScopeTraversalExpr:
		if d := m.nodes[node{x.Traversal.RootName(), attrName(x.Traversal, 1)}]; d != nil && len(x.Traversal) == 2 {
			return d.known(), true
		}
	case *hclsyntax.TupleConsExpr:
		values := make([]cty.Value, len(x.Exprs))
		for i, el := range x.Exprs {
			v, ok := m.direct(el)
			if !ok {
				return cty.NilVal, false
			}
			values[i] = v
		}
		return cty.TupleVal(values), true
	}
	return cty.NilVal, false
}

// unknownInstance replaces the general message about an index that does not
// exist when it is the key of an overlay.
func (e *evaluator) unknownInstance(a *attr) bool {
	for _, r := range a.refs {
		if r.to.kind != kindOverlay || len(r.rest) == 0 {
			continue
		}
		index, ok := r.rest[0].(hcl.TraverseIndex)
		v := r.to.value
		if !ok || index.Key.Type() != cty.String || v == cty.NilVal || !v.IsKnown() || !v.CanIterateElements() {
			continue
		}
		if v.HasIndex(index.Key).True() {
			continue
		}
		var keys []string
		for k := range v.AsValueMap() {
			keys = append(keys, k)
		}
		key := index.Key.AsString()
		e.report(a, problem(r.rng, "Unknown reference", "%s has no instance %s.%s", r.to, quote(key),
			e.m.suggest.didYouMean(key, keys)))
		return true
	}
	return false
}

// unset tells whether an attribute is missing or null, as against unknown.
func (e *evaluator) unset(a *attr) bool {
	if a == nil {
		return true
	}
	v, ok := e.value(a)
	return !ok && v.IsKnown() && v.IsNull()
}

// report adds a diagnostic about an attribute.
func (e *evaluator) report(a *attr, d *hcl.Diagnostic) {
	if d.Context == nil {
		d.Context = &a.rng
	}
	if e.inst == nil || !a.each {
		e.m.diags.add(d)
		return
	}
	if d.Expression == nil {
		d.Expression, d.EvalContext = a.expr, e.ctx()
	}
	e.m.diags.addFor(e.inst.overlay.Address, d)
}

func (e *evaluator) reportAll(a *attr, diags hcl.Diagnostics) {
	for _, d := range diags {
		e.report(a, d)
	}
}

// invalid reports a value that is not what the attribute takes.
func (e *evaluator) invalid(a *attr, format string, args ...any) {
	e.report(a, problem(a.expr.Range(), "Invalid value for "+quote(a.name), format, args...))
}

// wrongType reports a value of another type.
func (e *evaluator) wrongType(a *attr, v cty.Value, want string) {
	e.invalid(a, "%s takes %s, not %s.", quote(a.name), want, typeName(v.Type()))
}

func (e *evaluator) text(a *attr) (string, bool) {
	v, ok := e.value(a)
	if !ok {
		return "", false
	}
	if !v.Type().IsPrimitiveType() || v.Type() == cty.Number && hugeNumber(v.AsBigFloat()) {
		e.wrongType(a, v, "a string")
		return "", false
	}
	s, err := convert.Convert(v, cty.String)
	if err != nil {
		e.wrongType(a, v, "a string")
		return "", false
	}
	return s.AsString(), true
}

func (e *evaluator) boolean(a *attr) (value, ok bool) {
	v, ok := e.value(a)
	if !ok {
		return false, false
	}
	if v.Type() == cty.String {
		switch s := v.AsString(); s {
		case "on", "yes", "1":
			e.invalid(a, "%s takes true or false, not %s. Did you mean true?", quote(a.name), quote(s))
			return false, false
		case "off", "no", "0":
			e.invalid(a, "%s takes true or false, not %s. Did you mean false?", quote(a.name), quote(s))
			return false, false
		}
	}
	b, err := convert.Convert(v, cty.Bool)
	if err != nil {
		e.wrongType(a, v, "true or false")
		return false, false
	}
	return b.True(), true
}

// oneOf returns a string that must be one of a few.
func (e *evaluator) oneOf(a *attr, allowed []string) (string, bool) {
	v, ok := e.value(a)
	if !ok {
		return "", false
	}
	list := enumerate(quoteAll(allowed), "or")
	switch {
	case v.Type() == cty.Bool && len(allowed) > 1 && slices.Contains(allowed, "on") && slices.Contains(allowed, "off"):
		word := "off"
		if v.True() {
			word = "on"
		}
		e.invalid(a, "%s takes %s, not %s. Did you mean %s?", quote(a.name), list, typeName(v.Type()), quote(word))
		return "", false
	case v.Type() != cty.String:
		e.wrongType(a, v, list)
		return "", false
	}
	s := v.AsString()
	if !slices.Contains(allowed, s) {
		e.invalid(a, "%s takes %s, not %s.%s", quote(a.name), list, quote(s),
			e.m.suggest.didYouMean(s, allowed))
		return "", false
	}
	return s, true
}

// texts returns a list of strings, in order.
func (e *evaluator) texts(a *attr) ([]string, bool) {
	v, ok := e.value(a)
	if !ok {
		return nil, false
	}
	if t := v.Type(); !t.IsListType() && !t.IsTupleType() && !t.IsSetType() {
		e.wrongType(a, v, "a list of strings")
		return nil, false
	}
	out := make([]string, 0, v.LengthInt())
	for it := v.ElementIterator(); it.Next(); {
		_, el := it.Element()
		if el.IsNull() || el.Type() != cty.String {
			e.invalid(a, "%s takes a list of strings; one element is %s.", quote(a.name), valueName(el))
			return nil, false
		}
		out = append(out, el.AsString())
	}
	return out, true
}

func valueName(v cty.Value) string {
	if v.IsNull() {
		return "null"
	}
	return typeName(v.Type())
}

// typeName is the type as it reads after "takes a string, not".
func typeName(t cty.Type) string {
	switch {
	case t.IsTupleType():
		return "a list"
	case t.IsObjectType():
		return "an object"
	case t == cty.Bool:
		return "a boolean"
	case t == cty.Number:
		return "a number"
	}
	return withArticle(t.FriendlyName())
}

func quoteAll(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = quote(w)
	}
	return out
}

// wholeNumber returns v as an int that is not larger than limit.
func wholeNumber(v cty.Value, limit int64) (int, bool) {
	i, accuracy := v.AsBigFloat().Int64()
	if accuracy != big.Exact || i < 0 || i > limit {
		return 0, false
	}
	return int(i), true
}
