package config

import (
	"bytes"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// maxDepth bounds how deep an expression is nested, by brackets and operators.
// The parser and evaluation recurse, and nothing recovers from a stack that
// overflows.
const maxDepth = 5000

// unfit reports text that must not reach the parser.
func unfit(text []byte, name string) *hcl.Diagnostic {
	if d := notUTF8(text, name); d != nil {
		return d
	}
	return tooDeep(text, name)
}

// notUTF8 is needed because the scanner takes some invalid bytes for letters.
func notUTF8(text []byte, name string) *hcl.Diagnostic {
	if utf8.Valid(text) {
		return nil
	}
	at := 0
	for at < len(text) {
		r, size := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		at += size
	}
	pos := hcl.Pos{
		Line:   1 + bytes.Count(text[:at], []byte("\n")),
		Column: 1 + utf8.RuneCount(text[1+bytes.LastIndexByte(text[:at], '\n'):at]),
		Byte:   at,
	}
	end := pos
	end.Column++
	end.Byte++
	return problem(hcl.Range{Filename: name, Start: pos, End: end}, "Not UTF-8",
		"The byte 0x%02x is not part of a text in UTF-8.", text[at])
}

func tooDeep(text []byte, name string) *hcl.Diagnostic {
	if !maybeDeep(text) {
		return nil
	}
	// What is wrong with the tokens is reported by the parser.
	tokens, _ := hclsyntax.LexConfig(text, name, hcl.InitialPos)
	type bracket struct {
		depth int
		brace bool // where a newline ends an expression
	}
	open := []bracket{{brace: true}}
	depth := 0
	for _, t := range tokens {
		top := open[len(open)-1]
		switch t.Type {
		case hclsyntax.TokenOParen, hclsyntax.TokenOBrack, hclsyntax.TokenOBrace, hclsyntax.TokenTemplateInterp,
			hclsyntax.TokenTemplateControl, hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc:
			depth++
			open = append(open, bracket{depth, t.Type == hclsyntax.TokenOBrace})
		case hclsyntax.TokenCParen, hclsyntax.TokenCBrack, hclsyntax.TokenCBrace, hclsyntax.TokenTemplateSeqEnd,
			hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc:
			if len(open) > 1 {
				open = open[:len(open)-1]
				depth = top.depth - 1
				if t.Type == hclsyntax.TokenCBrack {
					depth++ // a[0][0] is one term on top of another
				}
			}
		case hclsyntax.TokenComma:
			depth = top.depth
		case hclsyntax.TokenNewline:
			if top.brace {
				depth = top.depth
			}
		case hclsyntax.TokenIdent, hclsyntax.TokenNumberLit, hclsyntax.TokenQuotedLit, hclsyntax.TokenStringLit,
			hclsyntax.TokenComment, hclsyntax.TokenEOF, hclsyntax.TokenNil:
		default: // operators
			depth++
		}
		if depth > maxDepth {
			return problem(t.Range, "Too deeply nested", "An expression is nested more than %d deep.", maxDepth)
		}
	}
	return nil
}

// maybeDeep spares nearly every text the lexer: depth takes characters.
func maybeDeep(text []byte) bool {
	n := 0
	for _, c := range text {
		switch c {
		case '(', '[', '{', '"', '!', '+', '-', '*', '/', '%', '&', '|', '=', '<', '>', '?', ':', '.':
			n++
		}
	}
	return n > maxDepth
}
