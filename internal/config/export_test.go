package config

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

var (
	// EscapeKey is what a key becomes in the name of a directory.
	EscapeKey = escapeKey
	// ElementsOf, Ordinary and ValidName are short cuts.
	ElementsOf = elementsOf
	Ordinary   = ordinary
	ValidName  = validName
	// ParsePieces parses a text in pieces of about some size.
	ParsePieces = parsePieces
)

// Flawed tells what the long way thinks of a path.
func Flawed(p string) bool { return closeLook(p, layerPath) != flaw{} }

// ContextString is what the outline of blocks says of an offset.
func ContextString(blocks hclsyntax.Blocks, offset int) string {
	return outlineOf(blocks).ContextString(offset)
}

// Rendered is the value of an expression by way of a template, cty.NilVal if
// that is left to evaluation.
func Rendered(expr hclsyntax.Expression, ctx *hcl.EvalContext, key string, value cty.Value) cty.Value {
	t := compile(expr, ctx)
	if t == nil {
		return cty.NilVal
	}
	v, _ := t.render(&instance{overlay: &Overlay{Address: Address{Key: key}}, value: value})
	return v
}
