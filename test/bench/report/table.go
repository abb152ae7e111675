package report

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

const width = 80

// Write writes a table for people, with an empty line after it. Where more than one sample was taken of something,
// there are median, 90th percentile and maximum. What has failed is told below it.
func (t Table) Write(w io.Writer) error {
	var lines []string
	lines = append(lines, ends(t.Title, t.System)...)
	cells := t.cells()
	var widths []int
	for _, row := range cells {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range cells {
		lines = append(lines, line(row, widths)...)
	}
	lines = append(lines, wrap(t.Note)...)
	for _, r := range t.Rows {
		if r.Failed != "" {
			lines = append(lines, wrap(fmt.Sprintf("%s, %s: %s", r.Case, r.Subject, r.Failed))...)
		}
	}
	if _, err := fmt.Fprintln(w, strings.Join(append(lines, ""), "\n")); err != nil {
		return fmt.Errorf("cannot write a table: %w", err)
	}
	return nil
}

// words are the columns that are aligned to the left; the others have numbers.
const words = 2

func (t Table) cells() [][]string {
	several := false
	for _, r := range t.Rows {
		several = several || len(r.Samples) > 1
	}
	var out [][]string
	if several || t.Baseline != "" {
		head := []string{"", "", "median"}
		if several {
			head = append(head, "p90", "max")
		}
		if t.Baseline != "" {
			head = append(head, "ratio")
		}
		out = append(out, head)
	}
	last := ""
	for i, r := range t.Rows {
		row := []string{r.Case, r.Subject}
		if i > 0 && r.Case == last {
			row[0] = ""
		}
		last = r.Case
		value := "-"
		switch {
		case len(r.Samples) > 0:
			value = r.Unit.Text(Median(r.Samples))
		case r.Failed != "":
			value = "failed"
		}
		row = append(row, value)
		switch {
		case len(r.Samples) > 1:
			row = append(row, r.Unit.Text(Percentile(r.Samples, 90)), r.Unit.Text(Percentile(r.Samples, 100)))
		case several:
			row = append(row, "", "")
		}
		if t.Baseline != "" {
			cell := ""
			if ratio, ok := t.Ratio(r); ok {
				cell = Times.Text(ratio)
			}
			row = append(row, cell)
		}
		out = append(out, row)
	}
	return out
}

// line sets a row out: the words on the left, the numbers on the right, where they stand below each other in every
// table that has as many. Words that leave no room for the numbers have a line for themselves.
func line(row []string, widths []int) []string {
	const gap, number = 2, 8
	var left, right strings.Builder
	for i, cell := range row {
		room := widths[i] - utf8.RuneCountInString(cell)
		if i < words {
			left.WriteString("  " + cell + strings.Repeat(" ", room))
			continue
		}
		room = max(room, number-utf8.RuneCountInString(cell))
		right.WriteString(strings.Repeat(" ", gap+room) + cell)
	}
	return ends(left.String(), right.String())
}

// ends puts one text at the left edge and another one at the right edge, on two lines if need be.
func ends(left, right string) []string {
	left = strings.TrimRight(left, " ")
	end := func(n int) string { return strings.TrimRight(strings.Repeat(" ", max(n, 0))+right, " ") }
	room := width - utf8.RuneCountInString(right)
	gap := room - utf8.RuneCountInString(left)
	if gap < 1 {
		return []string{left, end(room)}
	}
	return []string{left + end(gap)}
}

// wrap breaks a note into lines.
func wrap(text string) []string {
	const indent = "  "
	var lines []string
	line := indent
	for word := range strings.FieldsSeq(text) {
		if line != indent && utf8.RuneCountInString(line+word) > width {
			lines = append(lines, strings.TrimRight(line, " "))
			line = indent
		}
		line += word + " "
	}
	if line != indent {
		lines = append(lines, strings.TrimRight(line, " "))
	}
	return lines
}
