package scale_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/overlayd/overlayd/test/bench/report"
	"github.com/overlayd/overlayd/test/bench/scale"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const (
	old    = "Debian 12, systemd 252"
	recent = "Debian 13, systemd 257"
)

func row(overlays int, what, who string, unit report.Unit, samples ...float64) report.Row {
	return report.Row{Case: what, Overlays: overlays, Subject: who, Unit: unit, Samples: samples}
}

// side is a table of a run that does twice as well as it should, or half.
func side(system string, overlays int, apply, one float64) report.Table {
	seconds := func(what, who string, samples ...float64) report.Row {
		return row(overlays, what, who, report.Seconds, samples...)
	}
	n := float64(overlays) / 1000
	return report.Table{
		Name: scale.Side, System: system, Title: report.Number(float64(overlays)) + " overlays", Baseline: scale.Overlayd,
		Rows: []report.Row{
			seconds(scale.Apply, scale.Overlayd, n*apply, 2*n*apply, 0.5*n*apply),
			seconds(scale.Apply, scale.Fstab, 2*n),
			seconds(scale.Apply, scale.Systemctl, 8*n),
			seconds(scale.Apply, scale.Bare, n),
			seconds(scale.Plan, scale.Overlayd, 0.1*n),
			seconds(scale.Plan, scale.Bare, 0.05*n),
			seconds(scale.Status, scale.Overlayd, n*n),
			seconds(scale.AddSeen, scale.Overlayd, one),
			seconds(scale.Destroy, scale.Overlayd, n),
			seconds(scale.Destroy, scale.Systemctl, 20*n),
		},
	}
}

func example() report.Report {
	broken := side(recent, 2000, 4, 0.2)
	broken.Rows = append(broken.Rows, report.Row{
		Case: scale.Destroy, Overlays: 2000, Subject: scale.Fstab, Unit: report.Seconds, Failed: "cannot umount: `busy`",
	})
	return report.Report{
		Overlayd: "1.2.3", Kernel: "6.18.5", Processor: "Some", CPUs: 2, Load: []float64{0.25, 1},
		Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Tables: []report.Table{
			broken,
			side(old, 1000, 1, 0.05), side(old, 2000, 1, 0.05), side(old, 4000, 1, 0.05),
			scale.Grown([]report.Table{side(old, 1000, 1, 0.05), side(old, 4000, 1, 0.05)}),
			{
				Name: scale.Many, System: old, Title: "10,000 overlays", Baseline: scale.Overlayd,
				Rows: []report.Row{
					row(10000, scale.Plan, scale.Overlayd, report.Seconds, 1),
					row(10000, scale.Plan, scale.Bare, report.Seconds, 0.4),
					row(10000, scale.PlanPeak, scale.Overlayd, report.Bytes, 100<<20),
				},
			},
			{
				Name: "reaction", System: recent, Title: "Something else", Note: "With a note.", Baseline: "loop",
				Rows: []report.Row{
					{Case: "few", Overlays: 1, Subject: "agent", Unit: report.Seconds, Samples: []float64{3, 1, 2}},
					{Case: "few", Overlays: 1, Subject: "loop", Unit: report.Seconds, Samples: []float64{1}},
					{Case: "few", Overlays: 1, Subject: "none", Unit: report.Seconds, Failed: "cannot"},
				},
			},
		},
	}
}

func pages(t *testing.T, r report.Report) map[string][]byte {
	t.Helper()
	files, err := scale.Pages(r)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestPage(t *testing.T) {
	got := pages(t, example())["benchmarks.md"]
	file := filepath.Join("testdata", "benchmarks.md")
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
	for line := range strings.Lines(string(got)) {
		line = strings.TrimSuffix(line, "\n")
		if utf8.RuneCountInString(line) > 120 && !strings.HasPrefix(line, "|") && !strings.HasPrefix(line, "![") {
			t.Errorf("too long: %s", line)
		}
	}
}

// Each curve is on the page, and what is on the page is there.
func TestCurves(t *testing.T) {
	files := pages(t, example())
	var linked []string
	for _, m := range regexp.MustCompile(`!\[[^]]+\]\(([^)]+)\)`).FindAllSubmatch(files["benchmarks.md"], -1) {
		linked = append(linked, string(m[1]))
	}
	if len(linked) != len(files)-1 || len(linked) < 4 {
		t.Errorf("%d files, and the page has %q", len(files), linked)
	}
	for _, name := range linked {
		if !bytes.HasPrefix(files[name], []byte("<svg ")) {
			t.Errorf("%s is %.20q", name, files[name])
		}
	}
	plan := string(files["bench-plan.svg"])
	for _, want := range []string{"overlayd, 10,000: 1.00 s", "bare loop, 4,000: 200 ms", old, recent} {
		if strings.Contains(want, ":") {
			want = strings.Replace(want, "1.00 s", "1 s", 1)
		}
		if !strings.Contains(plan, want) {
			t.Errorf("the curve of plan has no %q:\n%s", want, plan)
		}
	}
	if strings.Contains(plan, "fstab") {
		t.Error("fstab has a plan")
	}
}

// A run of nothing is a page, too.
func TestNothing(t *testing.T) {
	files := pages(t, report.Report{})
	if len(files) != 1 || bytes.Contains(files["benchmarks.md"], []byte("![")) {
		t.Errorf("there are %d files, the page is\n%s", len(files), files["benchmarks.md"])
	}
}

func TestGrown(t *testing.T) {
	few, many := side(old, 1000, 1, 0.05), side(old, 4000, 1, 0.1)
	got := map[string]float64{}
	for _, r := range scale.Grown([]report.Table{few, many}).Rows {
		if r.Subject != scale.Overlayd || r.Unit != report.Times {
			t.Errorf("a row of %s, %s", r.Subject, r.Unit)
		}
		got[r.Case] = report.Median(r.Samples)
	}
	for what, want := range map[string]float64{
		scale.Apply: 4, scale.Plan: 4, scale.Status: 16, scale.AddSeen: 2, scale.Destroy: 4,
	} {
		if got[what] != want {
			t.Errorf("%s has grown %v times, not %v", what, got[what], want)
		}
	}
	for _, tables := range [][]report.Table{nil, {few}, {many}} {
		if rows := scale.Grown(tables).Rows; len(rows) > 0 {
			t.Errorf("%d tables have grown: %v", len(tables), rows)
		}
	}
}

func TestArrange(t *testing.T) {
	rows := []report.Row{
		{Case: scale.Destroy, Subject: scale.Overlayd},
		{Case: scale.Apply, Subject: scale.Bare},
		{Case: scale.Apply, Subject: scale.Overlayd},
		{Case: scale.Plan, Subject: scale.Bare},
		{Case: scale.Plan, Subject: scale.Overlayd},
	}
	scale.Arrange(rows)
	var got []string
	for _, r := range rows {
		got = append(got, r.Case+" "+r.Subject)
	}
	want := []string{
		"apply overlayd", "apply bare loop", "plan, no change overlayd", "plan, no change bare loop", "destroy overlayd",
	}
	if !slices.Equal(got, want) {
		t.Errorf("arranged as %q", got)
	}
}
