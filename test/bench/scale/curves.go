package scale

import (
	"slices"
	"strings"

	"github.com/overlayd/overlayd/test/bench/report"
	"github.com/overlayd/overlayd/test/bench/report/chart"
)

// curve is a drawing of how the time grows with the number of overlays.
type curve struct {
	file     string
	what     string
	title    string
	desc     string
	subjects []string
}

var curves = []curve{
	{
		"bench-apply.svg", Apply, "From nothing to all overlays mounted and all units active",
		"Time against the number of overlays, both logarithmic",
		[]string{Overlayd, Fstab, Systemctl, Bare},
	},
	{
		"bench-destroy.svg", Destroy, "From all overlays mounted to nothing",
		"Time against the number of overlays, both logarithmic",
		[]string{Overlayd, Fstab, Systemctl, Bare},
	},
	{
		"bench-one.svg", AddSeen, "One more overlay among many: until it is mounted",
		"Time against the number of overlays, both logarithmic",
		[]string{Overlayd, Fstab, Systemctl, Bare},
	},
	{
		"bench-plan.svg", Plan, "Plan, when nothing has changed",
		"Time against the number of overlays, both logarithmic",
		[]string{Overlayd, Bare},
	},
}

// chart draws it for all systems; not if there is nothing to be drawn.
func (c curve) chart(r report.Report, systems []string) (out chart.Chart, ok bool) {
	out = chart.Chart{
		Title: c.title, Desc: c.desc,
		X: chart.Axis{Name: "number of overlays", Text: report.Number},
		Y: chart.Axis{Name: "time", Text: round},
	}
	for _, system := range systems {
		panel := chart.Panel{Title: system}
		for _, subject := range c.subjects {
			line := chart.Line{Name: subject}
			for _, n := range numbers(r) {
				if samples, ok := Measured(r, system, c.what, n, subject); ok {
					line.Points = append(line.Points, chart.Point{X: float64(n), Y: report.Median(samples)})
				}
			}
			if len(line.Points) > 0 {
				panel.Lines = append(panel.Lines, line)
				ok = true
			}
		}
		if len(panel.Lines) > 0 {
			out.Panels = append(out.Panels, panel)
		}
	}
	return out, ok
}

// numbers of overlays that something was measured with, side by side or alone.
func numbers(r report.Report) []int {
	var out []int
	for _, t := range r.Tables {
		if t.Name == Side || t.Name == Many {
			for _, row := range t.Rows {
				out = append(out, row.Overlays)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// round writes a round time: 10 ms, not 10.0 ms.
func round(v float64) string {
	number, unit, _ := strings.Cut(report.Seconds.Text(v), " ")
	if strings.Contains(number, ".") {
		number = strings.TrimRight(strings.TrimRight(number, "0"), ".")
	}
	return number + " " + unit
}
