package config

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// pieceSize is about how much text is parsed at once. Before the parser begins,
// all of a text has become tokens, which take thirty times the memory of the
// text, and several times that while their number grows.
const pieceSize = 2 << 10

// parseSpec reads one file of blocks. Its text is kept for diagnostics even
// when it is wrong.
func (m *module) parseSpec(src source) (*hclsyntax.Body, bool) {
	blocks, ok := parsePieces(src.text, src.name, pieceSize)
	if !ok {
		return m.parse(src)
	}
	m.sources[src.name] = &hcl.File{Bytes: src.text, Nav: outlineOf(blocks)}
	return &hclsyntax.Body{Blocks: blocks}, true
}

// parse reads one file at once.
func (m *module) parse(src source) (*hclsyntax.Body, bool) {
	if d := unfit(src.text, src.name); d != nil {
		m.sources[src.name] = &hcl.File{Bytes: src.text}
		m.diags.add(d)
		return nil, false
	}
	file, diags := hclsyntax.ParseConfig(src.text, src.name, hcl.InitialPos)
	if file == nil {
		file = &hcl.File{Bytes: src.text}
	}
	m.sources[src.name] = file
	m.diags.addAll(diags)
	body, ok := file.Body.(*hclsyntax.Body)
	return body, ok && !diags.HasErrors()
}

// parsePieces parses a text that holds nothing but blocks, some of them at a
// time. It returns false if there is anything else or anything to report: that
// takes the whole text.
//
// A piece ends where a line that is "}" does. If that is not the end of a block
// after all, but within a heredoc, a comment or another block, then what is
// before it does not parse by itself.
func parsePieces(text []byte, name string, size int) (hclsyntax.Blocks, bool) {
	if !utf8.Valid(text) {
		return nil, false
	}
	var blocks hclsyntax.Blocks
	for pos := hcl.InitialPos; len(text) > 0; {
		piece := text[:pieceEnd(text, size)]
		if tooDeep(piece, name) != nil {
			return nil, false
		}
		file, diags := hclsyntax.ParseConfig(piece, name, pos)
		body, ok := file.Body.(*hclsyntax.Body)
		if !ok || len(diags) > 0 || len(body.Attributes) > 0 {
			return nil, false
		}
		blocks = append(blocks, body.Blocks...)
		pos.Line += bytes.Count(piece, []byte("\n"))
		pos.Byte += len(piece)
		text = text[len(piece):]
	}
	return blocks, true
}

// pieceEnd returns where the first piece of a text ends.
func pieceEnd(text []byte, size int) int {
	const end = "\n}\n"
	for at := size; at < len(text); {
		i := bytes.Index(text[at:], []byte(end))
		if i < 0 {
			break
		}
		at += i + len(end)
		// What is beyond ASCII may be a byte order mark, which the scanner would
		// skip at the start of a text and nowhere else.
		if at < len(text) && text[at] < utf8.RuneSelf {
			return at
		}
	}
	return len(text)
}

// outline tells in which block of a file something is, for those who show
// diagnostics. Unlike the one of the parser it does not keep all that was
// parsed, and does not look at each block.
type outline []outlined

type outlined struct {
	start, end int
	kind       string
	labels     []string
}

func outlineOf(blocks hclsyntax.Blocks) outline {
	out := make(outline, len(blocks))
	for i, b := range blocks {
		r := b.Range()
		out[i] = outlined{r.Start.Byte, r.End.Byte, b.Type, b.Labels}
	}
	return out
}

// ContextString is what hcl's writer of diagnostics asks a file for.
func (o outline) ContextString(offset int) string {
	i, _ := slices.BinarySearchFunc(o, offset, func(b outlined, offset int) int { return b.end - 1 - offset })
	if i == len(o) || offset < o[i].start {
		return ""
	}
	var s strings.Builder
	s.WriteString(o[i].kind)
	for _, l := range o[i].labels {
		fmt.Fprintf(&s, " %q", l)
	}
	return s.String()
}
