package report

import (
	"slices"
	"time"
)

// Report is what one run measured, and where.
type Report struct {
	Overlayd  string    // version
	Kernel    string    // release
	Processor string    // by its maker's name, of the machine that everything ran on
	CPUs      int       // of it
	Started   time.Time // of the first measurement
	Load      []float64 // load averages of the last minute, before each table and at the end: was the machine quiet?
	Tables    []Table
}

// Table is one measurement.
type Table struct {
	Name     string // for programs: "reaction"
	Title    string // for people, up to 80 columns
	System   string // what it was measured on: "Debian 13, systemd 257"
	Baseline string // the subject that the others of the same case are compared with, or ""
	Note     string // what has to be known to read it, or ""
	Rows     []Row
}

// Row is what was measured of one subject in one case.
type Row struct {
	Case     string // what is alike for all subjects that are compared: "1,000 overlays"
	Overlays int    // in the mount table
	Subject  string // who or what was measured: "agent"
	Unit     Unit
	Samples  []float64 // in base units, in the order they were taken
	Failed   string    // why there are no more samples, or ""
}

// Ratio compares the median of a row with that of the baseline in the same case. There is none without a baseline that
// is above zero.
func (t Table) Ratio(r Row) (ratio float64, ok bool) {
	if t.Baseline == "" {
		return 0, false
	}
	i := slices.IndexFunc(t.Rows, func(other Row) bool {
		return other.Case == r.Case && other.Subject == t.Baseline && other.Unit == r.Unit
	})
	if i < 0 {
		return 0, false
	}
	base := Median(t.Rows[i].Samples)
	if base <= 0 || len(r.Samples) == 0 {
		return 0, false
	}
	return Median(r.Samples) / base, true
}
