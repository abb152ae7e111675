package main

import (
	"strings"

	"github.com/rivo/uniseg"
)

// widestColumn is how wide a column gets in a table that is wider than its terminal.
const widestColumn = 32

// align makes lines of the rows of a table, which have no colours yet. room is how many columns the terminal has for
// them, 0 for no terminal. Where a line would not fit, a long cell moves only the rest of its own row: else one long
// name breaks all the lines. So what varies most belongs into the last column, which nothing is aligned to.
func align(rows [][]string, room int) []string {
	widths := columnWidths(rows, 0)
	if room > 0 {
		total := -2
		for _, w := range widths {
			total += w + 2
		}
		if total > room {
			widths = columnWidths(rows, widestColumn)
		}
	}
	lines := make([]string, 0, len(rows))
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", max(widths[i]-uniseg.StringWidth(cell), 0)+2))
			}
		}
		lines = append(lines, b.String())
	}
	return lines
}

// columnWidths are those of the widest cells, of which the ones wider than most do not count, if most is not 0.
func columnWidths(rows [][]string, most int) []int {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			if w := uniseg.StringWidth(cell); most == 0 || w <= most {
				widths[i] = max(widths[i], w)
			}
		}
	}
	return widths
}
