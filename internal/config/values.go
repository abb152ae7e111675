package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// envPrefix is what the environment's values begin with.
const envPrefix = "OVERLAYD_VAR_"

// givenValue is a value for a variable from outside of the spec.
type givenValue struct {
	rng  hcl.Range
	expr hclsyntax.Expression // from a file
	text string               // from the command line or the environment
	// start is where text begins within what is shown to the user.
	start hcl.Pos
	// optional values may name variables that do not exist.
	optional bool
}

// givenValues keeps the values in order, the weakest first.
type givenValues struct {
	names  []string
	values []givenValue
}

// given collects the values from outside: the environment, files found in
// the spec's directories, then the command line. It returns false if a file
// did not parse.
func (m *module) given(in input) (*givenValues, bool) {
	g, whole := &givenValues{}, true
	environ := map[string]string{}
	for _, kv := range in.environ {
		name, text, _ := strings.Cut(kv, "=")
		if name, ok := strings.CutPrefix(name, envPrefix); ok {
			if _, twice := environ[name]; !twice { // as getenv(3) has it
				environ[name] = text
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(environ)) {
		v := m.shown(envPrefix+name, environ[name], 0)
		v.optional = true
		g.add(name, v)
	}
	for _, src := range in.auto {
		whole = m.valueFile(g, src) && whole
	}
	for _, v := range in.values {
		if v.file != nil {
			whole = m.valueFile(g, *v.file) && whole
			continue
		}
		name, _, ok := strings.Cut(v.arg, "=")
		label := "--var"
		if hclsyntax.ValidIdentifier(name) {
			label += " " + name
		}
		shown := m.shown(label, v.arg, len(name)+1)
		if !ok || !hclsyntax.ValidIdentifier(name) {
			m.diags.add(problem(shown.rng, "Invalid --var", "A value is given as NAME=VALUE, not %s.", shorten(quote(v.arg))))
			continue
		}
		g.add(name, shown)
	}
	return g, whole
}

func (g *givenValues) add(name string, v givenValue) {
	g.names = append(g.names, name)
	g.values = append(g.values, v)
}

// shown makes text that is in no file available to diagnostics.
func (m *module) shown(label, text string, offset int) givenValue {
	name := label
	for i := 2; m.sources[name] != nil; i++ {
		name = fmt.Sprintf("%s (%d)", label, i)
	}
	m.sources[name] = &hcl.File{Bytes: []byte(text)}
	offset = min(offset, len(text))
	start := hcl.Pos{Line: 1, Column: offset + 1, Byte: offset}
	end := hcl.Pos{Line: 1, Column: len(text) + 1, Byte: len(text)}
	return givenValue{rng: hcl.Range{Filename: name, Start: start, End: end}, text: text[offset:], start: start}
}

// valueFile reads NAME = VALUE lines.
func (m *module) valueFile(g *givenValues, src source) bool {
	body, ok := m.parse(src)
	if !ok {
		return false
	}
	for _, b := range body.Blocks {
		m.diags.add(problem(b.TypeRange, "Unexpected block", "A file of values holds NAME = VALUE only."))
	}
	attrs := slices.SortedFunc(maps.Values(body.Attributes), func(a, b *hclsyntax.Attribute) int {
		return a.SrcRange.Start.Byte - b.SrcRange.Start.Byte
	})
	for _, a := range attrs {
		g.add(a.Name, givenValue{rng: a.SrcRange, expr: a.Expr})
	}
	return true
}

// variables gives each variable its value.
func (m *module) variables(g *givenValues) {
	last := map[string]givenValue{}
	for i, name := range g.names {
		v := g.values[i]
		if m.nodes[node{"var", name}] == nil {
			if !v.optional {
				m.diags.add(problem(v.rng, "Value for an undeclared variable", "No variable %s is declared in this spec.%s",
					quote(name), m.suggest.didYouMean(name, m.names["var"])))
			}
			continue
		}
		last[name] = v
	}
	for _, name := range m.names["var"] {
		d := m.nodes[node{"var", name}]
		v, ok := last[name]
		d.value = m.variable(d, v, ok)
	}
}

// variableType is the declared type of a variable.
type variableType struct {
	ty       cty.Type
	defaults *typeexpr.Defaults
	declared bool
}

func (m *module) variable(d *declaration, v givenValue, isGiven bool) cty.Value {
	b := d.block
	e := m.evaluator()
	if s, ok := e.text(b.attr("description")); ok && strings.ContainsRune(s, 0) {
		e.invalid(b.attr("description"), "A description holds no NUL byte.")
	}
	vt := variableType{ty: cty.DynamicPseudoType}
	if a := b.attr("type"); a != nil {
		ty, defaults, diags := typeexpr.TypeConstraintWithDefaults(a.expr)
		if diags.HasErrors() {
			m.diags.addAll(diags)
			return cty.DynamicVal
		}
		vt = variableType{ty, defaults, true}
	}
	fallback := cty.NilVal
	if a := b.attr("default"); a != nil {
		v, _ := e.value(a)
		converted, err := d.convert(vt, v)
		if err != nil {
			e.invalid(a, "The default is not of the variable's type: %s.", explain(err))
			return cty.DynamicVal
		}
		fallback = converted
	}
	switch {
	case isGiven:
		d.set = nil
		return m.givenTo(d, v, vt, fallback)
	case fallback == cty.NilVal:
		m.diags.add(problem(b.header, "No value for a variable",
			"%s has no default and nobody gives it a value. Use --var '%s=...', a --var-file, a file ending in .auto.vars.hcl "+
				"beside the spec, or the environment variable %s%s.", d, d.name, envPrefix, d.name))
		return cty.UnknownVal(vt.ty)
	}
	return fallback
}

// givenTo evaluates and converts a value from outside.
func (m *module) givenTo(d *declaration, v givenValue, vt variableType, fallback cty.Value) cty.Value {
	var val cty.Value
	switch {
	case v.expr == nil && vt.literal(fallback):
		if flaw := notUTF8([]byte(v.text), v.rng.Filename); flaw != nil {
			flaw.Subject = &v.rng
			m.diags.add(flaw)
			return cty.DynamicVal
		}
		val = cty.StringVal(v.text)
	default:
		expr := v.expr
		if expr == nil {
			if flaw := unfit([]byte(v.text), v.rng.Filename); flaw != nil {
				flaw.Subject = &v.rng
				m.diags.add(flaw)
				return cty.DynamicVal
			}
			parsed, diags := hclsyntax.ParseExpression([]byte(v.text), v.rng.Filename, v.start)
			if diags.HasErrors() {
				m.diags.addAll(diags)
				return cty.DynamicVal
			}
			expr = parsed
		}
		bad := false
		for _, flaw := range m.checkSyntax(expr) {
			m.diags.add(flaw)
			bad = bad || flaw.Severity == hcl.DiagError
		}
		if bad {
			return cty.DynamicVal
		}
		found, diags := expr.Value(nil)
		if diags.HasErrors() {
			m.diags.addAll(diags)
			return cty.DynamicVal
		}
		val = found
	}
	converted, err := d.convert(vt, val)
	if err != nil {
		m.diags.add(problem(v.rng, "Invalid value for "+d.String(), "The value is not of the variable's type (%s): %s.",
			place(d.rng), explain(err)))
		return cty.DynamicVal
	}
	return converted
}

// convert brings a value for a variable into its type.
func (d *declaration) convert(vt variableType, v cty.Value) (cty.Value, error) {
	converted, err := vt.convert(v)
	if err == nil && vt.ty == cty.Set(cty.String) {
		d.set = elementsOf(v)
	}
	return converted, err
}

// literal tells whether text from the command line is the value itself, not an
// expression. A variable without a type is of the kind its default shows.
func (vt variableType) literal(fallback cty.Value) bool {
	if vt.declared {
		return vt.ty.IsPrimitiveType()
	}
	return fallback == cty.NilVal || fallback.Type().IsPrimitiveType() || fallback.IsNull()
}

func (vt variableType) convert(v cty.Value) (cty.Value, error) {
	if vt.defaults != nil && !v.IsNull() && v.IsKnown() {
		v = vt.defaults.Apply(v)
	}
	return convert.Convert(v, vt.ty)
}

// explain says where in a value the error is.
func explain(err error) string {
	var pathErr cty.PathError
	if !errors.As(err, &pathErr) || len(pathErr.Path) == 0 {
		return err.Error()
	}
	var b strings.Builder
	for i, step := range pathErr.Path {
		switch s := step.(type) {
		case cty.GetAttrStep:
			if i > 0 {
				b.WriteByte('.')
			}
			b.WriteString(s.Name)
		case cty.IndexStep:
			switch {
			case !s.Key.IsKnown():
			case s.Key.Type() == cty.String:
				fmt.Fprintf(&b, "[%s]", quote(s.Key.AsString()))
			case s.Key.Type() == cty.Number:
				fmt.Fprintf(&b, "[%s]", s.Key.AsBigFloat().Text('f', -1))
			}
		}
	}
	if b.Len() == 0 {
		return err.Error()
	}
	return b.String() + ": " + err.Error()
}
