package scale

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/overlayd/overlayd/test/bench/report"
)

// Pages are the files that tell of a run: a page of Markdown, and the curves on it.
func Pages(r report.Report) (map[string][]byte, error) {
	files := map[string][]byte{}
	p := &page{r: r}
	for _, t := range r.Tables {
		if !slices.Contains(p.systems, t.System) {
			p.systems = append(p.systems, t.System)
		}
	}
	slices.Sort(p.systems)
	p.head()
	p.goals()
	p.line("## Curves")
	for _, c := range curves {
		drawing, ok := c.chart(r, p.systems)
		if !ok {
			continue
		}
		var b bytes.Buffer
		if err := drawing.Write(&b); err != nil {
			return nil, err
		}
		files[c.file] = b.Bytes()
		p.line(fmt.Sprintf("![%s](%s)", drawing.Title+". "+drawing.Desc, c.file))
	}
	p.sideBySide()
	p.others()
	files["benchmarks.md"] = p.text.Bytes()
	return files, nil
}

type page struct {
	r       report.Report
	systems []string
	text    bytes.Buffer
}

// line adds a line, or a paragraph, and an empty line.
func (p *page) line(text string) { p.text.WriteString(text + "\n\n") }

// prose adds a paragraph, broken into lines.
func (p *page) prose(text string) {
	const width = 120
	column := 0
	for word := range strings.FieldsSeq(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case column > 0 && column+1+n > width:
			p.text.WriteByte('\n')
			column = 0
		case column > 0:
			p.text.WriteByte(' ')
			column++
		}
		p.text.WriteString(word)
		column += n
	}
	p.text.WriteString("\n\n")
}

func (p *page) table(rows [][]string) {
	for i, row := range rows {
		p.text.WriteString("| " + strings.Join(row, " | ") + " |\n")
		if i > 0 {
			continue
		}
		p.text.WriteString("|---|")
		for range row[1:] {
			p.text.WriteString("---:|")
		}
		p.text.WriteByte('\n')
	}
	p.text.WriteByte('\n')
}

func (p *page) head() {
	p.line("# Benchmarks")
	p.line("<!-- Made by make bench. What is changed here by hand is lost. -->")
	p.prose("`make bench` boots disposable Debian systems with a real systemd, installs the package, and measures " +
		"overlayd beside what else could be done in its place: in one run, taking turns, so that the ratios hold on " +
		"other computers, too. This is its last run. Times are medians; the number in parentheses behind one is how " +
		"many times as long it is as overlayd's.")
	load := 0.0
	for _, l := range p.r.Load {
		load = max(load, l)
	}
	p.table([][]string{
		{"Measured", p.r.Started.Format("2006-01-02 15:04 UTC")},
		{"overlayd", p.r.Overlayd},
		{"Linux", p.r.Kernel},
		{"Computer", fmt.Sprintf("%d CPUs, %s", p.r.CPUs, or(p.r.Processor, "of unknown make"))},
		{"Systems", strings.Join(p.systems, "; ")},
		{"Samples of each", p.counts()},
		{"Load average at most", fmt.Sprintf("%.2f", load)},
	})
	p.line("To run it again, as root on a computer that does nothing else, whole or in part:")
	p.line("```sh\nmake bench\nmake bench BENCH='-suites trixie -run scale -sizes 100,500'\n" +
		"make bench BENCH=-help\n```")
	p.prose("All samples are in `bin/bench.json` then. `-docs docs` writes this page and its curves, with `-from` " +
		"those of an earlier run.")
}

// counts says how many samples the medians are of.
func (p *page) counts() string {
	least, most := 0, 0
	for _, t := range p.r.Tables {
		for _, row := range t.Rows {
			if n := len(row.Samples); n > 0 {
				most = max(most, n)
				if least == 0 || n < least {
					least = n
				}
			}
		}
	}
	if least == most {
		return strconv.Itoa(most)
	}
	return fmt.Sprintf("%d to %d", least, most)
}

func or(text, without string) string {
	if text == "" {
		return without
	}
	return text
}

func (p *page) goals() {
	p.line("## Goals")
	rows := [][]string{append([]string{"Goal", "Limit"}, p.systems...)}
	for _, g := range goals {
		row := []string{g.text, g.bound()}
		for _, system := range p.systems {
			row = append(row, g.judge(p.r, system))
		}
		rows = append(rows, row)
	}
	p.table(rows)
}

// sideBySide tells of all ways with each number of overlays.
func (p *page) sideBySide() {
	p.line("## Side by side")
	p.prose(SideNote)
	p.prose("\"apply, command\" is when the command ends, \"apply\" when systemd knows of all mounts, too: of events in " +
		"the mount table it takes in five at once, and the others when a second has gone by. With few overlays that " +
		"second is most of what there is to be measured.")
	for _, system := range p.systems {
		for _, t := range p.r.Tables {
			if t.System != system || t.Name != Side {
				continue
			}
			p.line("### " + t.Title + ", " + system)
			p.compare(t)
		}
	}
}

// compare has a row for each case and a column for each subject.
func (p *page) compare(t report.Table) {
	head := []string{""}
	var subjects []string
	for _, s := range Subjects {
		if slices.ContainsFunc(t.Rows, func(r report.Row) bool { return r.Subject == s }) {
			subjects = append(subjects, s)
			head = append(head, s)
		}
	}
	rows := [][]string{head}
	for _, what := range Cases {
		row := []string{what}
		some := false
		for _, s := range subjects {
			i := slices.IndexFunc(t.Rows, func(r report.Row) bool { return r.Case == what && r.Subject == s })
			if i < 0 {
				row = append(row, "")
				continue
			}
			some = true
			row = append(row, cell(t, t.Rows[i]))
		}
		if some {
			rows = append(rows, row)
		}
	}
	p.table(rows)
	p.failures(t)
}

// cell is a median, with its ratio unless it is what the others are held against.
func cell(t report.Table, r report.Row) string {
	if len(r.Samples) == 0 {
		return "failed"
	}
	text := r.Unit.Text(report.Median(r.Samples))
	if ratio, ok := t.Ratio(r); ok && r.Subject != t.Baseline {
		text += " (" + report.Times.Text(ratio) + ")"
	}
	return text
}

func (p *page) failures(t report.Table) {
	for _, r := range t.Rows {
		if r.Failed != "" {
			p.prose(fmt.Sprintf("%s, %s failed: `%s`", r.Case, r.Subject, strings.ReplaceAll(r.Failed, "`", "'")))
		}
	}
}

// others tells of all other measurements.
func (p *page) others() {
	p.line("## More")
	for _, t := range p.r.Tables {
		switch t.Name {
		case Side, Growth: // Told above: growth is among the goals.
		case Many, Ansible:
			p.line("### " + t.Title + ", " + t.System)
			p.compare(t)
		default:
			p.line("### " + t.Title + ", " + t.System)
			p.plain(t)
		}
	}
}

func (p *page) plain(t report.Table) {
	rows := [][]string{{"", "", "median", "p90", "max"}}
	if t.Baseline != "" {
		rows[0] = append(rows[0], "times "+t.Baseline)
	}
	for _, r := range t.Rows {
		row := []string{r.Case, r.Subject, "failed", "", ""}
		if len(r.Samples) > 0 {
			row[2] = r.Unit.Text(report.Median(r.Samples))
		}
		if len(r.Samples) > 1 {
			row[3], row[4] = r.Unit.Text(report.Percentile(r.Samples, 90)), r.Unit.Text(report.Percentile(r.Samples, 100))
		}
		if t.Baseline != "" {
			text := ""
			if ratio, ok := t.Ratio(r); ok {
				text = report.Times.Text(ratio)
			}
			row = append(row, text)
		}
		rows = append(rows, row)
	}
	p.table(rows)
	if t.Note != "" {
		p.prose(t.Note)
	}
	p.failures(t)
}
