package manpage

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// cell is one of a table: its text in roff, and how many columns that takes on one line, and its longest word.
type cell struct {
	text  string
	width int
	word  int
}

// newCell makes one of text in roff, and the same text without any markup.
func newCell(text, plain string) cell {
	c := cell{text: text, width: columns(plain)}
	for _, w := range strings.FieldsFunc(plain, func(r rune) bool { return r == ' ' || r == '/' }) {
		c.word = max(c.word, columns(w)+1) // and the slash
	}
	return c
}

const (
	gap       = 3  // columns between columns, tbl's default
	narrowest = 16 // columns that a wrapped column should have
)

// table lays out rows, of which the first is the heading, for tbl(1). If they do not fit on a line, the widest columns
// share what the others leave, and wrap. tbl by itself takes a share of the line for each wrapped column, whatever the
// others need, and lets the table run over the edge.
func table(rows [][]cell) string {
	natural, least := make([]int, len(rows[0])), make([]int, len(rows[0]))
	for _, row := range rows {
		for i, c := range row {
			natural[i], least[i] = max(natural[i], c.width), max(least[i], c.word, narrowest)
		}
	}
	wraps := wrapped(natural, least)
	formats := make([]string, len(natural))
	for i := range formats {
		formats[i] = "l"
		if wraps[i] {
			formats[i] = "lx"
		}
	}
	var out strings.Builder
	out.WriteString(".PP\n.TS\n" + strings.Join(formats, " ") + ".\n")
	for i, row := range rows {
		line := make([]string, len(natural))
		for j, c := range row {
			text := c.text
			switch {
			case i == 0:
				text = font("B", text)
			case wraps[j] && text != "":
				// Text blocks do not take over the settings of the page. Paths may break.
				text = "T{\n.ad l\n.nh\n" + guard(strings.ReplaceAll(text, "/", `/\:`)) + "\nT}"
			}
			if j == 0 {
				text = guard(text)
			}
			if slices.Contains([]string{"_", "=", `\e_`, `\e^`}, text) {
				text = `\&` + text // else a rule, or a cell spanned
			}
			line[j] = text
		}
		out.WriteString(strings.Join(line, "\t") + "\n")
		if i == 0 {
			out.WriteString("_\n")
		}
	}
	out.WriteString(".TE\n")
	return out.String()
}

// wrapped says which columns must wrap so that all fit on a line, given how wide each is on one line, and what it needs
// at least.
func wrapped(natural, least []int) []bool {
	wraps := make([]bool, len(natural))
	for {
		need, widest := gap*(len(natural)-1), -1
		for i, w := range natural {
			if wraps[i] {
				need += least[i]
				continue
			}
			need += w
			if widest < 0 || w > natural[widest] {
				widest = i
			}
		}
		if need <= width || widest < 0 {
			return wraps
		}
		wraps[widest] = true
	}
}

// columns is how wide text is on a terminal.
func columns(s string) int { return utf8.RuneCountInString(s) }
