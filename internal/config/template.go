package config

import (
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// template is an attribute whose value is a text that differs between instances
// by what stands in some places, as in "/srv/${each.key}/upper". Everything
// else in it is evaluated once, not once for each of thousands of instances.
type template struct {
	texts []string        // one more than there are holes
	holes []hcl.Traversal // each.key, each.value and what lies below it
}

// compile makes a template of an expression, nil if it is none. What ctx says
// of all but each must be final.
func compile(expr hclsyntax.Expression, ctx *hcl.EvalContext) *template {
	var parts []hclsyntax.Expression
	switch x := expr.(type) {
	case *hclsyntax.ScopeTraversalExpr:
		parts = []hclsyntax.Expression{x}
	case *hclsyntax.TemplateWrapExpr:
		parts = []hclsyntax.Expression{x.Wrapped}
	case *hclsyntax.TemplateExpr:
		parts = x.Parts
	}
	t := &template{texts: []string{""}}
	for _, part := range parts {
		if x, ok := part.(*hclsyntax.ScopeTraversalExpr); ok && x.Traversal.RootName() == "each" {
			t.holes = append(t.holes, x.Traversal)
			t.texts = append(t.texts, "")
			continue
		}
		s, ok := fixedText(part, ctx)
		if !ok {
			return nil
		}
		t.texts[len(t.texts)-1] += s
	}
	if len(t.holes) == 0 {
		return nil
	}
	return t
}

// fixedText is what part of a template stands for in every instance.
func fixedText(part hclsyntax.Expression, ctx *hcl.EvalContext) (string, bool) {
	for _, v := range part.Variables() {
		if v.RootName() == "each" {
			return "", false
		}
	}
	v, diags := part.Value(ctx)
	if len(diags) > 0 {
		return "", false
	}
	return knownText(v)
}

func knownText(v cty.Value) (string, bool) {
	if !v.IsKnown() || v.IsNull() || v.IsMarked() {
		return "", false
	}
	s, err := convert.Convert(v, cty.String)
	if err != nil || !s.IsKnown() || s.IsNull() {
		return "", false
	}
	return s.AsString(), true
}

// render gives the value for one instance. It returns false where evaluation
// has something to say, or a single hole is no text and keeps its type.
func (t *template) render(inst *instance) (cty.Value, bool) {
	var b strings.Builder
	for i, hole := range t.holes {
		s, ok := inst.text(hole)
		if !ok {
			return cty.NilVal, false
		}
		if i == 0 {
			b.Grow(len(t.texts[0]) + len(t.holes)*(len(s)+len(t.texts[1])))
		}
		b.WriteString(t.texts[i])
		b.WriteString(s)
	}
	b.WriteString(t.texts[len(t.holes)])
	return cty.StringVal(b.String()), true
}

// text is what a traversal from each on leads to, if that is a string.
func (inst *instance) text(t hcl.Traversal) (string, bool) {
	v := inst.value
	switch name := attrName(t, 1); {
	case name == "key" && len(t) == 2:
		return inst.overlay.Address.Key, true
	case name != "value" || v == cty.NilVal:
		return "", false
	case len(t) > 2:
		var diags hcl.Diagnostics
		if v, diags = t[2:].TraverseRel(v); len(diags) > 0 {
			return "", false
		}
	}
	if v.Type() != cty.String {
		return "", false
	}
	return knownText(v)
}
