package report

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"
)

// Report is what one run measured, and where.
type Report struct {
	Overlayd string    // version
	Kernel   string    // release
	CPUs     int       // of the machine that everything ran on
	Started  time.Time // of the first measurement
	Load     []float64 // load averages of the last minute, before each table and at the end: was the machine quiet?
	Tables   []Table
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

const formatVersion = "1.0"

type jsonReport struct {
	FormatVersion string      `json:"format_version"`
	Overlayd      string      `json:"overlayd"`
	Kernel        string      `json:"kernel"`
	CPUs          int         `json:"cpus"`
	Started       time.Time   `json:"started"`
	Load          []float64   `json:"load"`
	Measurements  []jsonTable `json:"measurements"`
}

type jsonTable struct {
	Name     string    `json:"name"`
	Title    string    `json:"title"`
	System   string    `json:"system"`
	Baseline *string   `json:"baseline"`
	Rows     []jsonRow `json:"rows"`
}

type jsonRow struct {
	Case     string    `json:"case"`
	Overlays int       `json:"overlays"`
	Subject  string    `json:"subject"`
	Unit     Unit      `json:"unit"`
	Count    int       `json:"count"`
	Median   float64   `json:"median"`
	P90      float64   `json:"p90"`
	Max      float64   `json:"max"`
	Ratio    *float64  `json:"ratio"`
	Samples  []float64 `json:"samples"`
}

// WriteJSON writes everything, in base units: seconds, bytes, shares of one.
func (r Report) WriteJSON(w io.Writer) error {
	out := jsonReport{
		FormatVersion: formatVersion, Overlayd: r.Overlayd, Kernel: r.Kernel, CPUs: r.CPUs, Started: r.Started,
		Load: append([]float64{}, r.Load...), Measurements: []jsonTable{},
	}
	for _, t := range r.Tables {
		table := jsonTable{Name: t.Name, Title: t.Title, System: t.System, Rows: []jsonRow{}}
		if t.Baseline != "" {
			table.Baseline = &t.Baseline
		}
		for _, row := range t.Rows {
			j := jsonRow{
				Case: row.Case, Overlays: row.Overlays, Subject: row.Subject, Unit: row.Unit, Count: len(row.Samples),
				Median: Median(row.Samples), P90: Percentile(row.Samples, 90), Max: Percentile(row.Samples, 100),
				Samples: append([]float64{}, row.Samples...),
			}
			if ratio, ok := t.Ratio(row); ok {
				j.Ratio = &ratio
			}
			table.Rows = append(table.Rows, j)
		}
		out.Measurements = append(out.Measurements, table)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(out); err != nil {
		return fmt.Errorf("cannot write what was measured: %w", err)
	}
	return nil
}
