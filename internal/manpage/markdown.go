package manpage

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// section is one of a page: its title, and its text in roff.
type section struct{ title, body string }

// fromMarkdown makes sections of a document: one for each heading of the second level. The first, without a title, is
// what stands before them, and below the title of the document.
//
// It knows what the project's documents are written in, and refuses what it does not know, so that nothing gets lost.
func fromMarkdown(name string, source []byte) ([]section, error) {
	m := goldmark.New(goldmark.WithExtensions(extension.Table))
	w := writer{source: source}
	sections := []section{{}}
	for n := m.Parser().Parse(text.NewReader(source)).FirstChild(); n != nil; n = n.NextSibling() {
		h, ok := n.(*ast.Heading)
		last := &sections[len(sections)-1]
		switch {
		case !ok:
			last.body += w.block(n)
		case h.Level == 1 && n.PreviousSibling() == nil:
		case h.Level == 2:
			sections = append(sections, section{title: w.plain(n)})
		case h.Level == 3:
			last.body += ".SS " + quoted(w.plain(n)) + "\n"
		case h.Level == 4:
			last.body += ".PP\n" + font("B", prose(w.plain(n))) + "\n"
		default:
			w.refuse(n, fmt.Sprintf("a heading of level %d", h.Level))
		}
	}
	if w.problem != "" {
		return nil, fmt.Errorf("cannot make a manual page of %s:%s", name, w.problem)
	}
	return sections, nil
}

// writer makes roff of Markdown.
type writer struct {
	source  []byte
	problem string // the first, with its line
	tight   []bool // of the lists around
}

func (w *writer) refuse(n ast.Node, what string) {
	if w.problem != "" {
		return
	}
	for n.Type() == ast.TypeInline {
		n = n.Parent()
	}
	for n.Lines().Len() == 0 && n.FirstChild() != nil && n.FirstChild().Type() == ast.TypeBlock {
		n = n.FirstChild()
	}
	line := 1
	if n.Lines().Len() > 0 {
		line += bytes.Count(w.source[:n.Lines().At(0).Start], []byte("\n"))
	}
	w.problem = fmt.Sprintf("%d: there is no way to show %s", line, what)
}

// block is a block of Markdown in roff.
func (w *writer) block(n ast.Node) string {
	switch n := n.(type) {
	case *ast.Paragraph, *ast.TextBlock:
		return ".PP\n" + guard(w.inline(n)) + "\n"
	case *ast.FencedCodeBlock, *ast.CodeBlock:
		return verbatim(string(n.Lines().Value(w.source)))
	case *ast.List:
		return w.list(n)
	case *extast.Table:
		var rows [][]cell
		for row := n.FirstChild(); row != nil; row = row.NextSibling() {
			var cells []cell
			for c := row.FirstChild(); c != nil; c = c.NextSibling() {
				cells = append(cells, newCell(w.inline(c), w.plain(c)))
			}
			rows = append(rows, cells)
		}
		return table(rows)
	case *ast.ThematicBreak:
		return ""
	}
	w.refuse(n, "a "+n.Kind().String())
	return ""
}

// list is a list of any depth. The items of a tight one follow each other without an empty line.
func (w *writer) list(l *ast.List) string {
	var out strings.Builder
	if w.defines(l) {
		for each := l.FirstChild(); each != nil; each = each.NextSibling() {
			term, meaning, _ := cutTerm(w.inline(each.FirstChild()))
			out.WriteString(item(strings.ReplaceAll(term, "\n", " "), meaning))
			out.WriteString(w.rest(each.FirstChild().NextSibling(), "7"))
		}
		return out.String()
	}
	w.tight = append(w.tight, l.IsTight)
	number := l.Start
	for each := l.FirstChild(); each != nil; each = each.NextSibling() {
		mark, indent := `\(bu`, "2"
		if l.IsOrdered() {
			mark, indent = strconv.Itoa(number)+".", "4"
			number++
		}
		first := each.FirstChild()
		fmt.Fprintf(&out, ".IP %s %s\n", mark, indent)
		if first != nil && (first.Kind() == ast.KindParagraph || first.Kind() == ast.KindTextBlock) {
			out.WriteString(guard(w.inline(first)) + "\n")
			first = first.NextSibling()
		}
		if l.IsTight && each == l.FirstChild() {
			out.WriteString(".PD 0\n")
		}
		out.WriteString(w.rest(first, indent))
	}
	w.tight = w.tight[:len(w.tight)-1]
	if l.IsTight {
		out.WriteString(".PD\n")
		if n := len(w.tight); n > 0 && w.tight[n-1] {
			out.WriteString(".PD 0\n")
		}
	}
	return out.String()
}

// rest is what follows the first paragraph of an item, as far to the right as that.
func (w *writer) rest(n ast.Node, indent string) string {
	if n == nil {
		return ""
	}
	var out strings.Builder
	out.WriteString(".RS " + indent + "\n")
	for ; n != nil; n = n.NextSibling() {
		out.WriteString(w.block(n))
	}
	out.WriteString(".RE\n")
	return out.String()
}

// defines tells whether a list is one of words and what they mean: each item begins with a word in bold, and has a
// colon some place after it.
func (w *writer) defines(l *ast.List) bool {
	for each := l.FirstChild(); each != nil; each = each.NextSibling() {
		text := each.FirstChild()
		if text == nil || text.FirstChild() == nil {
			return false
		}
		if e, ok := text.FirstChild().(*ast.Emphasis); !ok || e.Level != 2 {
			return false
		}
		if _, _, ok := cutTerm(w.inline(text)); !ok {
			return false
		}
	}
	return !l.IsOrdered()
}

var colon = regexp.MustCompile(`:[ \n]`)

// cutTerm separates a word from what it means.
func cutTerm(text string) (term, meaning string, ok bool) {
	at := colon.FindStringIndex(text)
	if at == nil {
		return "", "", false
	}
	return text[:at[0]], text[at[1]:], true
}

// inline is the text in a block, in roff.
func (w *writer) inline(parent ast.Node) string {
	var out strings.Builder
	for n := parent.FirstChild(); n != nil; n = n.NextSibling() {
		switch n := n.(type) {
		case *ast.Text:
			out.WriteString(prose(w.unescaped(n)))
			switch {
			case n.HardLineBreak():
				out.WriteString("\n.br\n")
			case n.SoftLineBreak():
				out.WriteString("\n")
			}
		case *ast.String:
			out.WriteString(prose(string(n.Value)))
		case *ast.CodeSpan:
			out.WriteString(span(w.plain(n)))
		case *ast.Emphasis:
			name := "I"
			if n.Level > 1 {
				name = "B"
			}
			out.WriteString(font(name, strings.ReplaceAll(w.inline(n), `\fR`, `\f`+name)))
		case *ast.Link:
			out.WriteString(w.inline(n))
			if to := string(n.Destination); strings.Contains(to, "://") {
				out.WriteString(" " + address(to))
			}
		case *ast.AutoLink:
			out.WriteString(address(string(n.URL(w.source))))
		default:
			w.refuse(n, "a "+n.Kind().String())
		}
	}
	return out.String()
}

// unescaped is text without the backslashes that Markdown wants.
func (w *writer) unescaped(n *ast.Text) string {
	value := n.Value(w.source)
	if n.IsRaw() { // code
		return strings.ReplaceAll(string(value), "\n", " ")
	}
	return string(util.ResolveEntityNames(util.ResolveNumericReferences(util.UnescapePunctuations(value))))
}

// plain is the text of a node without any markup.
func (w *writer) plain(parent ast.Node) string {
	var out strings.Builder
	for n := parent.FirstChild(); n != nil; n = n.NextSibling() {
		switch n := n.(type) {
		case *ast.Text:
			out.WriteString(w.unescaped(n))
			if n.SoftLineBreak() || n.HardLineBreak() {
				out.WriteString(" ")
			}
		case *ast.String:
			out.Write(n.Value)
		default:
			out.WriteString(w.plain(n))
		}
	}
	return out.String()
}

// address is a link's, which may break after a slash.
func address(to string) string {
	return `\(la` + strings.ReplaceAll(code(to), "/", `/\:`) + `\(ra`
}
