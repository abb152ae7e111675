package config

import (
	"maps"
	"math/big"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"golang.org/x/text/unicode/norm"
)

// reference is the use of a node in an expression.
type reference struct {
	to   *declaration
	rng  hcl.Range
	rest hcl.Traversal // what follows the name
}

// scope says what an expression may refer to.
type scope struct {
	nodes bool // var, local, lowerdir, overlay, host
	each  bool
}

// check looks at every expression of the spec, evaluated later or not, for
// names that do not exist.
func (m *module) check() {
	for _, d := range m.order {
		switch {
		case d.local != nil:
			m.checkAttr(d.local, scope{nodes: true})
		case d.kind == "var":
			for _, name := range []string{"description", "default"} {
				m.checkAttr(d.block.attr(name), scope{})
			}
		case d.kind == kindOverlay:
			forEach := d.block.attr("for_each")
			for _, a := range d.block.all() {
				m.checkAttr(a, scope{nodes: true, each: forEach != nil && a != forEach})
			}
		default:
			for _, a := range d.block.all() {
				m.checkAttr(a, scope{nodes: true})
			}
		}
	}
	if m.settings != nil {
		for _, a := range m.settings.all() {
			m.checkAttr(a, scope{nodes: true})
		}
	}
}

func (m *module) checkAttr(a *attr, s scope) {
	if a == nil {
		return
	}
	for _, t := range a.expr.Variables() {
		if d := m.checkTraversal(a, t, s); d != nil {
			d.Context = &a.rng
			m.diags.add(d)
			a.bad = true
		}
	}
	for _, d := range m.checkSyntax(a.expr) {
		d.Context = &a.rng
		m.diags.add(d)
		a.bad = a.bad || d.Severity == hcl.DiagError
	}
}

func (m *module) checkTraversal(a *attr, t hcl.Traversal, s scope) *hcl.Diagnostic {
	rng := t.SourceRange()
	root := t.RootName()
	known := []string{"var", "local", kindLowerdir, kindOverlay, "host", "each"}
	switch {
	case !slices.Contains(known, root):
		return m.unknownRoot(t, known)
	case root == "each":
		if !s.nodes {
			break
		}
		a.each = true
		switch name := attrName(t, 1); {
		case !s.each:
			return problem(rng, "No each here",
				"each.key and each.value are known inside of an overlay with for_each, and not in for_each itself.")
		case name != "key" && name != "value":
			return problem(rng, "Unknown reference", "There are each.key and each.value only.")
		}
		return nil
	}
	if !s.nodes {
		return problem(rng, "No references here", "%s of a variable is a plain value: it cannot refer to %s.",
			quote(a.name), root)
	}
	name := attrName(t, 1)
	if name == "" {
		return problem(rng, "Incomplete reference",
			"%s is not a value by itself: a name written out must follow it, as in %s.NAME.", root, root)
	}
	if root == "host" {
		if name != "name" {
			return problem(rng, "Unknown reference", "There is host.name only.")
		}
		return nil
	}
	to := m.nodes[node{root, name}]
	if to == nil {
		hint := m.suggest.didYouMean(name, m.names[root])
		return problem(rng, "Unknown reference", "No %s %s is declared in this spec.%s", noun(root), quote(name), hint)
	}
	a.refs = append(a.refs, reference{to: to, rng: rng, rest: t[2:]})
	to.used = true
	return to.checkRest(rng, t[2:])
}

// checkRest checks what follows a lowerdir or an overlay.
func (d *declaration) checkRest(rng hcl.Range, rest hcl.Traversal) *hcl.Diagnostic {
	if len(rest) == 0 || d.kind != kindLowerdir && d.kind != kindOverlay {
		return nil
	}
	name := attrName(rest, 0)
	many := d.block.attr("for_each") != nil
	switch {
	case d.kind == kindLowerdir && name != "path":
		return problem(rng, "Unknown reference", "A lowerdir has a path and nothing else: write %s or %s.path.", d, d)
	case d.kind == kindOverlay && !many && name == "":
		return problem(rng, "Not an instance", "%s has no for_each, so there is one of it: write %s.mountpoint.", d, d)
	case d.kind == kindOverlay && !many && name != "mountpoint":
		return problem(rng, "Unknown reference", "Of an overlay others see the mountpoint only: write %s.mountpoint.", d)
	case d.kind == kindOverlay && many && name == "mountpoint" && len(rest) == 1:
		return problem(rng, "Which instance?", "%s has for_each: write %s[\"KEY\"].mountpoint.", d, d)
	}
	return nil
}

func (m *module) unknownRoot(t hcl.Traversal, known []string) *hcl.Diagnostic {
	root := t.RootName()
	if len(t) == 1 {
		return problem(t.SourceRange(), "Unknown reference",
			"%s is not a value. A text is written in quotes: %s.", root, quote(root))
	}
	return problem(t.SourceRange(), "Unknown reference", "There is no %s.%s", root, m.suggest.didYouMean(root, known))
}

// attrName returns the name that a traversal has at position i, "" if there is
// none or it is an index.
func attrName(t hcl.Traversal, i int) string {
	if i >= len(t) {
		return ""
	}
	if a, ok := t[i].(hcl.TraverseAttr); ok {
		return a.Name
	}
	return ""
}

// maxExponent bounds numbers. A number with a huge exponent is cheap until
// something turns it into text.
const maxExponent = 4096

// checkSyntax finds what can be told from the expression alone.
func (m *module) checkSyntax(expr hclsyntax.Expression) []*hcl.Diagnostic {
	var out []*hcl.Diagnostic
	visit := func(n hclsyntax.Node) hcl.Diagnostics {
		switch e := n.(type) {
		case *hclsyntax.FunctionCallExpr:
			if _, ok := m.funcs[e.Name]; !ok {
				out = append(out, problem(e.NameRange, "Unknown function", "There is no function %s.%s",
					quote(e.Name), m.suggest.didYouMean(e.Name, slices.Collect(maps.Keys(m.funcs)))))
			}
		case *hclsyntax.LiteralValueExpr:
			if e.Val.Type() == cty.Number && e.Val.IsKnown() && !e.Val.IsNull() && hugeNumber(e.Val.AsBigFloat()) {
				out = append(out, problem(e.SrcRange, "Number out of range",
					"The number is too large or too close to zero."))
			}
			if d := m.checkNormal(e.SrcRange, e.Val); d != nil {
				out = append(out, d)
			}
		default:
		}
		return nil
	}
	// The visitor above never returns diagnostics.
	_ = hclsyntax.VisitAll(expr, visit)
	return out
}

func hugeNumber(f *big.Float) bool {
	e := f.MantExp(nil)
	return f.IsInf() || e > maxExponent || e < -maxExponent
}

// checkNormal warns of text that HCL changes: every string of the language is
// brought into Unicode's normal form C, so the decomposed name of a directory
// made elsewhere would silently name another one.
func (m *module) checkNormal(rng hcl.Range, v cty.Value) *hcl.Diagnostic {
	file := m.sources[rng.Filename]
	if v.Type() != cty.String || file == nil || !rng.CanSliceBytes(file.Bytes) {
		return nil
	}
	text := rng.SliceBytes(file.Bytes)
	if norm.NFC.IsNormal(text) {
		return nil
	}
	return warning(rng, "Text changed by normalisation",
		"%+q is not in Unicode's normal form C, and HCL reads it as %+q. A directory whose name is written the first way "+
			"can be named through a symlink.", text, norm.NFC.Bytes(text))
}
