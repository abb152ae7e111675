package report

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

const formatVersion = "1.0"

type jsonReport struct {
	FormatVersion string      `json:"format_version"`
	Overlayd      string      `json:"overlayd"`
	Kernel        string      `json:"kernel"`
	Processor     string      `json:"processor"`
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
	Note     string    `json:"note"`
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
	Error    *string   `json:"error"`
	Samples  []float64 `json:"samples"`
}

// WriteJSON writes everything, in base units: seconds, bytes, shares of one.
func (r Report) WriteJSON(w io.Writer) error {
	out := jsonReport{
		FormatVersion: formatVersion, Overlayd: r.Overlayd, Kernel: r.Kernel, Processor: r.Processor, CPUs: r.CPUs,
		Started: r.Started, Load: append([]float64{}, r.Load...), Measurements: []jsonTable{},
	}
	for _, t := range r.Tables {
		table := jsonTable{Name: t.Name, Title: t.Title, System: t.System, Note: t.Note, Rows: []jsonRow{}}
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
			if row.Failed != "" {
				j.Error = &row.Failed
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

// ReadJSON reads what WriteJSON wrote. Medians and ratios are reckoned anew, from the samples.
func ReadJSON(r io.Reader) (Report, error) {
	var in jsonReport
	if err := json.NewDecoder(r).Decode(&in); err != nil {
		return Report{}, fmt.Errorf("cannot read what was measured: %w", err)
	}
	if in.FormatVersion != formatVersion {
		return Report{}, fmt.Errorf("cannot read what was measured: its format is %q, not %q", in.FormatVersion,
			formatVersion)
	}
	out := Report{
		Overlayd: in.Overlayd, Kernel: in.Kernel, Processor: in.Processor, CPUs: in.CPUs, Started: in.Started,
		Load: in.Load,
	}
	for _, table := range in.Measurements {
		t := Table{Name: table.Name, Title: table.Title, System: table.System, Note: table.Note}
		if table.Baseline != nil {
			t.Baseline = *table.Baseline
		}
		for _, j := range table.Rows {
			row := Row{Case: j.Case, Overlays: j.Overlays, Subject: j.Subject, Unit: j.Unit, Samples: j.Samples}
			if j.Error != nil {
				row.Failed = *j.Error
			}
			t.Rows = append(t.Rows, row)
		}
		out.Tables = append(out.Tables, t)
	}
	return out, nil
}
