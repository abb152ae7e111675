package scale

import (
	"fmt"

	"github.com/overlayd/overlayd/test/bench/report"
)

// goal is something that a run is held against.
type goal struct {
	text  string
	unit  report.Unit
	limit float64
	least bool // the limit is the least that is good, not the most
	value func(r report.Report, system string) (float64, bool)
}

const (
	usual    = 2000  // overlays on one host
	very     = 10000 // overlays on one host that are many
	few      = 1000  // the growth from here
	many     = 4000  // to there
	playbook = 100   // overlays that Ansible gets
)

var goals = []goal{
	{
		text: "apply of 2,000: at most as long as fstab", unit: report.Times, limit: 1,
		value: ratio(Apply, usual, Overlayd, Fstab),
	},
	{
		text: "apply of 2,000: systemctl takes 4 times as long", unit: report.Times, limit: 4, least: true,
		value: ratio(Apply, usual, Systemctl, Overlayd),
	},
	{
		text: "apply of 2,000: at most 1.5 times the bare loop", unit: report.Times, limit: 1.5,
		value: ratio(Apply, usual, Overlayd, Bare),
	},
	{
		text: "destroy of 2,000: systemctl takes 10 times as long", unit: report.Times, limit: 10, least: true,
		value: ratio(Destroy, usual, Systemctl, Overlayd),
	},
	{
		text: "plan of 10,000, no change: at most 3 times the bare loop", unit: report.Times, limit: 3,
		value: ratio(Plan, very, Overlayd, Bare),
	},
	{
		text: "plan of 10,000: memory", unit: report.Bytes, limit: 150 << 20,
		value: median(PlanPeak, very),
	},
	{
		text: "one more among 2,000: mounted", unit: report.Seconds, limit: 0.1,
		value: median(AddSeen, usual),
	},
	{
		text: "one changed among 2,000: mounted", unit: report.Seconds, limit: 0.1,
		value: median(ChangeSeen, usual),
	},
	{
		text: "apply of 100: Ansible takes 100 times as long", unit: report.Times, limit: 100, least: true,
		value: ratio(Apply, playbook, Playbook, Overlayd),
	},
	growth(Plan), growth(Apply), growth(Destroy), growth(Status), growth(Drift),
}

func growth(what string) goal {
	return goal{
		text: what + ": 4,000 against 1,000 overlays", unit: report.Times, limit: 5,
		value: func(r report.Report, system string) (float64, bool) {
			a, okA := Measured(r, system, what, many, Overlayd)
			b, okB := Measured(r, system, what, few, Overlayd)
			return quotient(a, b), okA && okB
		},
	}
}

// ratio is of two who were measured side by side.
func ratio(what string, overlays int, subject, against string) func(report.Report, string) (float64, bool) {
	return func(r report.Report, system string) (float64, bool) {
		for _, t := range r.Tables {
			a, okA := samplesOf(t, system, what, overlays, subject)
			b, okB := samplesOf(t, system, what, overlays, against)
			if okA && okB {
				return quotient(a, b), true
			}
		}
		return 0, false
	}
}

func median(what string, overlays int) func(report.Report, string) (float64, bool) {
	return func(r report.Report, system string) (float64, bool) {
		samples, ok := Measured(r, system, what, overlays, Overlayd)
		return report.Median(samples), ok
	}
}

func quotient(a, b []float64) float64 {
	if base := report.Median(b); base > 0 {
		return report.Median(a) / base
	}
	return 0
}

// judge says how a system did.
func (g goal) judge(r report.Report, system string) string {
	v, ok := g.value(r, system)
	if !ok {
		return "not measured"
	}
	text := g.unit.Text(v)
	if g.least && v >= g.limit || !g.least && v <= g.limit {
		return text + ", met"
	}
	by := v / g.limit
	if g.least {
		by = g.limit / v
	}
	return fmt.Sprintf("**%s, missed** by a factor of %s", text, report.Times.Text(by))
}

func (g goal) bound() string {
	word := "at most "
	if g.least {
		word = "at least "
	}
	return word + g.unit.Text(g.limit)
}
