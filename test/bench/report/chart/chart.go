package chart

import (
	"bufio"
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// Chart is a drawing.
type Chart struct {
	Title  string
	Desc   string // what there is to be seen, for those who cannot see it
	X, Y   Axis
	Panels []Panel // they share the width; two have enough of it
}

// Axis is one of the two.
type Axis struct {
	Name string
	Text func(v float64) string // how a value is written
}

// Panel has curves over the axes that all panels share.
type Panel struct {
	Title string
	Lines []Line
}

// Line is a curve. Those of one name look alike in all panels.
type Line struct {
	Name   string
	Points []Point
}

// Point has two positive numbers.
type Point struct{ X, Y float64 }

// Measures of the drawing.
const (
	pageWidth   = 770.0
	panelHeight = 270.0
	left        = 68.0 // for the numbers of the y axis
	between     = 24.0
	right       = 18.0
	top         = 96.0 // for title, legend and the titles of panels
	bottom      = 54.0
	inset       = 14.0 // within a panel, so that no mark lies on its border
)

// Write writes the drawing.
func (c Chart) Write(w io.Writer) error {
	d := &drawing{w: bufio.NewWriter(w), c: c}
	d.draw()
	if err := d.w.Flush(); err != nil {
		return fmt.Errorf("cannot write a drawing: %w", err)
	}
	return nil
}

type drawing struct {
	w     *bufio.Writer // it keeps its first error
	c     Chart
	x, y  span
	names []string // of all curves, in the order they appear

	panelWidth float64
}

// span is what an axis shows, in decimal logarithms.
type span struct{ from, to float64 }

func spanOf(values []float64) span {
	s := span{math.Inf(1), math.Inf(-1)}
	for _, v := range values {
		s = span{min(s.from, math.Log10(v)), max(s.to, math.Log10(v))}
	}
	if s.from > s.to {
		return span{0, 1}
	}
	if s.to-s.from < 0.1 {
		return span{s.from - 0.5, s.to + 0.5}
	}
	return s
}

// at is where a value is, from 0 to 1.
func (s span) at(v float64) float64 { return (math.Log10(v) - s.from) / (s.to - s.from) }

func (d *drawing) draw() {
	var xs, ys []float64
	for _, p := range d.c.Panels {
		for _, l := range p.Lines {
			if !slices.Contains(d.names, l.Name) {
				d.names = append(d.names, l.Name)
			}
			for _, at := range l.Points {
				if at.X > 0 && at.Y > 0 {
					xs, ys = append(xs, at.X), append(ys, at.Y)
				}
			}
		}
	}
	d.x, d.y = spanOf(xs), spanOf(ys)
	n := float64(len(d.c.Panels))
	d.panelWidth = (pageWidth-left-right+between)/max(n, 1) - between
	height := top + panelHeight + bottom
	d.put(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" `+
		`role="img" aria-labelledby="title desc">`+"\n", pageWidth, height, pageWidth, height)
	d.put(`<title id="title">%s</title>`+"\n", escape(d.c.Title))
	d.put(`<desc id="desc">%s</desc>`+"\n", escape(d.c.Desc))
	d.put("<style>\n%s</style>\n", style)
	d.put(`<rect class="page" width="%.0f" height="%.0f" rx="6"/>`+"\n", pageWidth, height)
	d.text("title", left, 26, d.c.Title)
	d.legend()
	slices.Sort(xs)
	xs = slices.Compact(xs)
	for i, p := range d.c.Panels {
		d.panel(p, left+float64(i)*(d.panelWidth+between), i == 0, xs)
	}
	d.text("middle name", left+(pageWidth-left-right)/2, height-12, d.c.X.Name)
	d.put("</svg>\n")
}

func (d *drawing) legend() {
	const sign, letter, gap = 34.0, 7.0, 22.0
	x := left
	for i, name := range d.names {
		d.put(`<path class="line c%d" d="M%.1f 50h24"/>`, look(i), x)
		d.mark(i, x+12, 50, "")
		d.text("", x+sign-4, 54, name)
		x += sign + letter*float64(len([]rune(name))) + gap
	}
}

func (d *drawing) panel(p Panel, x0 float64, first bool, xs []float64) {
	d.put("<g>\n")
	d.text("middle panel", x0+d.panelWidth/2, top-10, p.Title)
	for _, v := range ticks(d.y) {
		y := d.height(v)
		d.put(`<path class="grid" d="M%.1f %.1fh%.0f"/>`+"\n", x0, y, d.panelWidth)
		if first {
			d.text("end", x0-8, y+4, d.c.Y.Text(v))
		}
	}
	if first {
		d.put(`<text class="name" transform="translate(16 %.1f) rotate(-90)">%s</text>`+"\n", top+panelHeight/2+30,
			escape(d.c.Y.Name))
	}
	last := math.Inf(-1)
	for _, v := range xs {
		const room = 34 // that a number takes
		x := d.width(x0, v)
		d.put(`<path class="grid" d="M%.1f %.1fv%.0f"/>`+"\n", x, top, panelHeight)
		if x-last >= room {
			d.text("middle", x, top+panelHeight+18, d.c.X.Text(v))
			last = x
		}
	}
	d.put(`<rect class="frame" x="%.1f" y="%.1f" width="%.0f" height="%.0f"/>`+"\n", x0, top, d.panelWidth, panelHeight)
	for _, l := range p.Lines {
		i := slices.Index(d.names, l.Name)
		points := slices.DeleteFunc(slices.Clone(l.Points), func(p Point) bool { return p.X <= 0 || p.Y <= 0 })
		slices.SortFunc(points, func(a, b Point) int { return cmp.Compare(a.X, b.X) })
		var path strings.Builder
		for j, at := range points {
			fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(j, 1)], d.width(x0, at.X), d.height(at.Y))
		}
		if len(points) > 1 {
			d.put(`<path class="line c%d" d="%s"/>`+"\n", look(i), path.String())
		}
		for _, at := range points {
			d.mark(i, d.width(x0, at.X), d.height(at.Y), fmt.Sprintf("%s, %s: %s", l.Name, d.c.X.Text(at.X), d.c.Y.Text(at.Y)))
		}
	}
	d.put("</g>\n")
}

func (d *drawing) width(x0, v float64) float64 { return x0 + inset + d.x.at(v)*(d.panelWidth-2*inset) }

func (d *drawing) height(v float64) float64 {
	return top + panelHeight - inset - d.y.at(v)*(panelHeight-2*inset)
}

// ticks are round values within a span, few enough to be written beside each other.
func ticks(s span) []float64 {
	const most = 9
	for _, steps := range [][]float64{{1, 1.5, 2, 3, 4, 5, 7}, {1, 2, 5}, {1, 3}, {1}} {
		var out []float64
		for e := math.Floor(s.from); e <= s.to; e++ {
			for _, m := range steps {
				if v := m * math.Pow(10, e); math.Log10(v) >= s.from && math.Log10(v) <= s.to {
					out = append(out, v)
				}
			}
		}
		if len(out) <= most || len(steps) == 1 {
			return out
		}
	}
	return nil
}

// marks are of about the same size, drawn around the place where the pen is.
var marks = []string{
	"m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",    // disc
	"m-3.5-3.5h7v7h-7z",                     // square
	"m0-5l4.5 8h-9z",                        // triangle
	"m0-5l5 5l-5 5l-5-5z",                   // diamond
	"m-4.5-4l4.5 8l4.5-8z",                  // triangle upside down
	"m-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z", // cross
}

func look(i int) int { return i % len(marks) }

func (d *drawing) mark(i int, x, y float64, title string) {
	if title != "" {
		title = "<title>" + escape(title) + "</title>"
	}
	d.put(`<path class="mark c%d" d="M%.1f %.1f%s">%s</path>`+"\n", look(i), x, y, marks[look(i)], title)
}

func (d *drawing) text(class string, x, y float64, text string) {
	if class != "" {
		class = fmt.Sprintf(` class="%s"`, class)
	}
	d.put(`<text%s x="%.1f" y="%.1f">%s</text>`+"\n", class, x, y, escape(text))
}

func (d *drawing) put(format string, args ...any) { fmt.Fprintf(d.w, format, args...) }

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder has no errors
	return b.String()
}

// style has the colours of Okabe and Ito, brighter on a dark page.
const style = `text { font: 13px system-ui, sans-serif; fill: #24292f; }
.title { font-size: 16px; font-weight: 600; }
.panel { font-weight: 600; }
.name { fill: #57606a; }
.middle { text-anchor: middle; }
.end { text-anchor: end; }
.page { fill: #ffffff; }
.grid { stroke: #d8dee4; fill: none; }
.frame { stroke: #8c959f; fill: none; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.mark { stroke: #ffffff; stroke-width: 1; }
.line.c0 { stroke: #0072b2; stroke-width: 3; } .mark.c0 { fill: #0072b2; }
.line.c1 { stroke: #b86f00; } .mark.c1 { fill: #b86f00; }
.line.c2 { stroke: #d13f00; } .mark.c2 { fill: #d13f00; }
.line.c3 { stroke: #00805e; } .mark.c3 { fill: #00805e; }
.line.c4 { stroke: #a8487f; } .mark.c4 { fill: #a8487f; }
.line.c5 { stroke: #57606a; } .mark.c5 { fill: #57606a; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; }
.name { fill: #9198a1; }
.page { fill: #0d1117; }
.grid { stroke: #262c36; }
.frame { stroke: #656c76; }
.mark { stroke: #0d1117; }
.line.c0 { stroke: #56b4e9; } .mark.c0 { fill: #56b4e9; }
.line.c1 { stroke: #e69f00; } .mark.c1 { fill: #e69f00; }
.line.c2 { stroke: #ff7f50; } .mark.c2 { fill: #ff7f50; }
.line.c3 { stroke: #2ec4a0; } .mark.c3 { fill: #2ec4a0; }
.line.c4 { stroke: #e08fc0; } .mark.c4 { fill: #e08fc0; }
.line.c5 { stroke: #9198a1; } .mark.c5 { fill: #9198a1; }
}
`
