package scale

import (
	"slices"

	"github.com/overlayd/overlayd/test/bench/report"
)

// Names of measurements.
const (
	Side    = "scale"   // all ways side by side
	Many    = "many"    // overlayd with very many overlays
	Growth  = "growth"  // how the cost grows with their number
	Ansible = "ansible" // against configuration management
)

// Who does it.
const (
	Overlayd  = "overlayd"
	Fstab     = "fstab"
	Systemctl = "systemctl"
	Bare      = "bare loop"
	Playbook  = "Ansible"
)

// What is measured.
const (
	Apply        = "apply"
	ApplyCommand = "apply, command"
	Plan         = "plan, no change"
	Again        = "apply, no change"
	Status       = "status"
	Drift        = "drift"
	AddSeen      = "one more, mounted"
	AddEnded     = "one more, command"
	ChangeSeen   = "one changed, mounted"
	ChangeEnded  = "one changed, command"
	Destroy      = "destroy"
	PlanPeak     = "plan, memory"
	ApplyPeak    = "apply, memory"
)

// Cases is the order in which they are told.
var Cases = []string{
	Apply, ApplyCommand, Plan, Again, Status, Drift, AddSeen, AddEnded, ChangeSeen, ChangeEnded, Destroy, PlanPeak,
	ApplyPeak,
}

// Subjects is the order of those who do it.
var Subjects = []string{Overlayd, Fstab, Systemctl, Bare, Playbook}

// Arrange puts rows in the order in which they are told.
func Arrange(rows []report.Row) {
	slices.SortStableFunc(rows, func(a, b report.Row) int {
		if d := slices.Index(Cases, a.Case) - slices.Index(Cases, b.Case); d != 0 {
			return d
		}
		return slices.Index(Subjects, a.Subject) - slices.Index(Subjects, b.Subject)
	})
}

// Measured finds what was measured of somebody with so many overlays on one system.
func Measured(r report.Report, system, what string, overlays int, subject string) (samples []float64, ok bool) {
	for _, t := range r.Tables {
		if samples, ok = samplesOf(t, system, what, overlays, subject); ok {
			return samples, true
		}
	}
	return nil, false
}

func samplesOf(t report.Table, system, what string, overlays int, subject string) ([]float64, bool) {
	if t.System != system || t.Name != Side && t.Name != Many && t.Name != Ansible {
		return nil, false
	}
	for _, row := range t.Rows {
		if row.Case == what && row.Overlays == overlays && row.Subject == subject && len(row.Samples) > 0 {
			return row.Samples, true
		}
	}
	return nil, false
}

// Grown is a table of how many times as much each step costs overlayd with 4,000 overlays as with 1,000. It has a row
// for each one that was measured with both numbers.
func Grown(tables []report.Table) report.Table {
	t := report.Table{Name: Growth, Title: "4,000 overlays against 1,000: so many times as much"}
	if len(tables) > 0 {
		t.System = tables[0].System
	}
	r := report.Report{Tables: tables}
	for _, what := range Cases {
		a, okA := Measured(r, t.System, what, many, Overlayd)
		b, okB := Measured(r, t.System, what, few, Overlayd)
		if okA && okB {
			t.Rows = append(t.Rows, report.Row{
				Case: what, Overlays: many, Subject: Overlayd, Unit: report.Times, Samples: []float64{quotient(a, b)},
			})
		}
	}
	return t
}

// SideNote says what is measured, side by side.
const SideNote = `All units are active, or none, in the end, and the command has ended. fstab: its lines and all
directories are there before; daemon-reload and mount -a; umount of all. systemctl: the units that overlayd writes and
all directories are there before; daemon-reload and one systemctl start of all; one systemctl stop of all. bare loop:
mkdir, unit files and links, reload and mount(2); umount(2), unlink and reload; for plan it reads all units and the
mount table; its start is not counted. mounted: from the start of the first command until a file shows through the
mount. one changed: it gets another layer.`
