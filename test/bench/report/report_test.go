package report_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/overlayd/overlayd/test/bench/report"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestStatistics(t *testing.T) {
	for _, c := range []struct {
		name             string
		samples          []float64
		median, p90, max float64
	}{
		{"none", nil, 0, 0, 0},
		{"one", []float64{3}, 3, 3, 3},
		{"two", []float64{4, 2}, 3, 4, 4},
		{"odd", []float64{9, 1, 5}, 5, 9, 9},
		{"even", []float64{1, 8, 2, 4}, 3, 8, 8},
		{"ten", []float64{10, 9, 8, 7, 6, 5, 4, 3, 2, 1}, 5.5, 9, 10},
		{"eleven", []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, 6, 10, 11},
		{"an outlier", []float64{1, 1, 1, 1, 1, 1, 1, 1, 1, 1000}, 1, 1, 1000},
	} {
		before := slices.Clone(c.samples)
		if got := report.Median(c.samples); got != c.median {
			t.Errorf("%s: median %v, not %v", c.name, got, c.median)
		}
		if got := report.Percentile(c.samples, 90); got != c.p90 {
			t.Errorf("%s: 90th percentile %v, not %v", c.name, got, c.p90)
		}
		if got := report.Percentile(c.samples, 100); got != c.max {
			t.Errorf("%s: maximum %v, not %v", c.name, got, c.max)
		}
		if !slices.Equal(before, c.samples) {
			t.Errorf("%s: the samples were put into another order", c.name)
		}
	}
}

func TestRatio(t *testing.T) {
	table := report.Table{Baseline: "floor", Rows: []report.Row{
		{Case: "10", Subject: "agent", Unit: report.Seconds, Samples: []float64{8}},
		{Case: "10", Subject: "floor", Unit: report.Seconds, Samples: []float64{1, 2, 3}},
		{Case: "100", Subject: "agent", Unit: report.Seconds, Samples: []float64{8}},
		{Case: "1000", Subject: "agent", Unit: report.Seconds, Samples: []float64{8}},
		{Case: "1000", Subject: "floor", Unit: report.Seconds, Samples: []float64{0}},
		{Case: "10", Subject: "memory", Unit: report.Bytes, Samples: []float64{8}},
		{Case: "10", Subject: "nothing", Unit: report.Seconds},
	}}
	for i, want := range []struct {
		ratio float64
		ok    bool
	}{{4, true}, {1, true}, {}, {}, {}, {}, {}} {
		if ratio, ok := table.Ratio(table.Rows[i]); ratio != want.ratio || ok != want.ok {
			t.Errorf("row %d: ratio %v, %v; want %v, %v", i, ratio, ok, want.ratio, want.ok)
		}
	}
	table.Baseline = ""
	if ratio, ok := table.Ratio(table.Rows[0]); ok {
		t.Errorf("without a baseline the ratio is %v", ratio)
	}
}

func TestUnits(t *testing.T) {
	for _, c := range []struct {
		unit  report.Unit
		value float64
		want  string
	}{
		{report.Seconds, 0, "0 ns"},
		{report.Seconds, 999e-9, "999 ns"},
		{report.Seconds, 999.6e-9, "1.00 µs"},
		{report.Seconds, 0.0001234, "123 µs"},
		{report.Seconds, 0.009999, "10.0 ms"},
		{report.Seconds, 0.9996, "1.00 s"},
		{report.Seconds, 12.345, "12.3 s"},
		{report.Seconds, 1234.5, "1,234 s"},
		{report.Bytes, 0, "0 B"},
		{report.Bytes, 1023, "1,023 B"},
		{report.Bytes, 1024, "1.00 KiB"},
		{report.Bytes, 64 << 20, "64.0 MiB"},
		{report.Bytes, 3 << 40, "3,072 GiB"},
		{report.Share, 0.0951, "9.51 %"},
		{report.Share, 1.5, "150 %"},
		{report.Times, 0.5, "0.50"},
		{report.Times, 0.0123, "0.012"},
		{report.Times, 0.00123, "0.0012"},
		{report.Times, 12.34, "12.3"},
		{report.Count, 0, "0"},
		{report.Count, 7, "7"},
		{report.Count, 1234567, "1,234,567"},
		{report.Count, -1000, "-1,000"},
	} {
		var b bytes.Buffer
		table := report.Table{Rows: []report.Row{{Subject: "x", Unit: c.unit, Samples: []float64{c.value}}}}
		if err := table.Write(&b); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(b.String(), "\n")
		if got := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(lines[1]), "x")); got != c.want {
			t.Errorf("%v %s is written %q, not %q", c.value, c.unit, got, c.want)
		}
	}
}

// example has a table of each form.
func example() report.Report {
	const few, many = "10 overlays", "1,000, 8 namespaces"
	return report.Report{
		Overlayd: "1.2.3", Kernel: "6.18.5", Processor: "A <b> & c", CPUs: 2,
		Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Load: []float64{0.25, 1},
		Tables: []report.Table{
			{
				Name: "reaction", Title: "A mount is taken away: until it is back", System: "Debian 13, systemd 257",
				Baseline: "bare loop",
				Note: "The clock starts before umount2(2), and the bare loop does nothing but to wait for the mount table " +
					"and to call mount(2).",
				Rows: []report.Row{
					{few, 10, "agent", report.Seconds, []float64{0.002, 0.001, 0.0035}, ""},
					{few, 10, "bare loop", report.Seconds, []float64{0.00025, 0.0002, 0.00031}, ""},
					{few, 10, "systemctl start", report.Seconds, []float64{0.0251, 0.0192, 1.23}, ""},
					{many, 1000, "agent", report.Seconds, []float64{0.0123}, ""},
					{many, 1000, "none", report.Seconds, nil, ""},
					{many, 1000, "broken", report.Seconds, nil, "cannot start: it has another opinion on what there is to do"},
				},
			},
			{
				Name: "idle", Title: "60 s without an event, 1,000 overlays", System: "Debian 13, systemd 257",
				Rows: []report.Row{
					{"agent", 1000, "CPU", report.Seconds, []float64{0}, ""},
					{"agent", 1000, "memory", report.Bytes, []float64{23456789}, ""},
				},
			},
			{
				Name: "long", Title: strings.Repeat("long ", 14) + "title", System: "Debian 12, systemd 252", Baseline: "b",
				Rows: []report.Row{
					{"a case that takes much of the line", 1, "a", report.Seconds, []float64{4, 2}, ""},
					{"a case that takes much of the line", 1, "b and " + strings.Repeat("c", 20), report.Seconds, []float64{2}, ""},
				},
			},
		},
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; run the test with -update and read the diff:\n%s", file, got)
	}
}

func TestTables(t *testing.T) {
	var b bytes.Buffer
	for _, table := range example().Tables {
		if err := table.Write(&b); err != nil {
			t.Fatal(err)
		}
	}
	for line := range strings.Lines(b.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	golden(t, "tables.txt", b.Bytes())
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	if err := example().WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	if !json.Valid(b.Bytes()) {
		t.Error("not JSON")
	}
	golden(t, "report.json", b.Bytes())
	b.Reset()
	if err := (report.Report{}).WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	if s := b.String(); strings.Contains(s, "null") {
		t.Errorf("lists without an entry are not empty lists:\n%s", s)
	}
}

// What was written is read back, and written again the same.
func TestReadJSON(t *testing.T) {
	var first, second bytes.Buffer
	if err := example().WriteJSON(&first); err != nil {
		t.Fatal(err)
	}
	back, err := report.ReadJSON(bytes.NewReader(first.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if err := back.WriteJSON(&second); err != nil {
		t.Fatal(err)
	}
	if first.String() != second.String() {
		t.Errorf("read back as\n%s", second.String())
	}
	for _, text := range []string{"", "{}", `{"format_version": "9"}`} {
		if _, err := report.ReadJSON(strings.NewReader(text)); err == nil {
			t.Errorf("%q is no error", text)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestWriteErrors(t *testing.T) {
	if err := example().WriteJSON(full{}); err == nil {
		t.Error("JSON that could not be written was no error")
	}
	if err := example().Tables[0].Write(full{}); err == nil {
		t.Error("a table that could not be written was no error")
	}
}
