package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/overlayd/overlayd/test/bench/probe"
	"github.com/overlayd/overlayd/test/bench/report"
)

func TestScenarios(t *testing.T) {
	all := names()
	if slices.Contains(all, "") || len(slices.Compact(slices.Sorted(slices.Values(all)))) != len(all) {
		t.Errorf("each measurement needs a name of its own: %q", all)
	}
	for _, s := range scenarios {
		if s.run == nil {
			t.Errorf("%s measures nothing", s.name)
		}
	}
}

func TestFew(t *testing.T) {
	for rounds, want := range map[int]int{1: 1, 4: 1, 5: 2, 100: 25} {
		if got := (&env{sizes: sizes{rounds: rounds}}).few(); got != want {
			t.Errorf("of %d rounds %d, not %d", rounds, got, want)
		}
	}
}

// A request is the same when it arrives.
func TestRequests(t *testing.T) {
	for _, r := range []request{
		{Rounds: &probe.Rounds{By: probe.ByLoop, Count: 3, Agent: 4}},
		{Drop: &drop{5, []probe.File{{Path: "/p", Text: "a \"b\"\n", Mountpoint: "/m"}}}},
		{Storm: &storm{6, time.Second}},
		{Process: &process{7, true}},
		{Settle: &settle{8, []int{1, 9}}},
		{Step: &probe.Step{Way: probe.ByBare, Do: probe.Plan, Overlays: 10, Patience: time.Minute}},
	} {
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var back request
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(back)
		if err != nil || string(again) != string(text) {
			t.Errorf("sent %s, arrived %s, %v", text, again, err)
		}
	}
}

func TestInside(t *testing.T) {
	var out strings.Builder
	for _, text := range []string{"", "{", "{}", "null"} {
		if err := runInside(t.Context(), text, strings.NewReader(""), &out); err == nil {
			t.Errorf("%q is no error", text)
		}
	}
	text, err := json.Marshal(request{Process: &process{PID: os.Getpid()}})
	if err != nil {
		t.Fatal(err)
	}
	if err := runInside(t.Context(), string(text), strings.NewReader(""), &out); err != nil {
		t.Fatal(err)
	}
	var p probe.Process
	if err := json.Unmarshal([]byte(out.String()), &p); err != nil || p.Resident == 0 {
		t.Errorf("answered %q: %v", out.String(), err)
	}
}

func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		text string
		want []int
		ok   bool
	}{
		{"", nil, true},
		{"100", []int{100}, true},
		{"500,100,500", []int{100, 500}, true},
		{"100,", nil, false},
		{"0", nil, false},
		{"-1", nil, false},
		{"50001", nil, false},
		{"1e3", nil, false},
	} {
		if got, err := parseNumbers(c.text); !slices.Equal(got, c.want) || (err == nil) != c.ok {
			t.Errorf("%q: %v, %v", c.text, got, err)
		}
	}
}

// What failed before it had measured anything has no table.
func TestSingle(t *testing.T) {
	for _, c := range []struct{ rows, tables int }{{0, 0}, {2, 1}} {
		run := single(func(context.Context, *env) (report.Table, error) {
			return report.Table{Rows: make([]report.Row, c.rows)}, os.ErrInvalid
		})
		tables, err := run(t.Context(), &env{})
		if len(tables) != c.tables || !errors.Is(err, os.ErrInvalid) {
			t.Errorf("%d rows: %d tables, %v", c.rows, len(tables), err)
		}
	}
}

// What an earlier run has written is told again.
func TestRetell(t *testing.T) {
	dir := t.TempDir()
	o := options{from: filepath.Join(dir, "bench.json"), docs: dir}
	var out strings.Builder
	if err := retell(o, &out); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	table := report.Table{Name: "x", Title: "A title", Rows: []report.Row{{Case: "c"}}}
	r := report.Report{Overlayd: "1.2.3", Tables: []report.Table{table}}
	if err := save(r, o.from); err != nil {
		t.Fatal(err)
	}
	if err := retell(o, &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "A title") {
		t.Errorf("told as\n%s", out.String())
	}
	text, err := os.ReadFile(filepath.Join(dir, "benchmarks.md"))
	if err != nil || !strings.Contains(string(text), "1.2.3") {
		t.Errorf("the page is %q, %v", text, err)
	}
	if err := os.WriteFile(o.from, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := retell(o, &out); err == nil || !strings.Contains(err.Error(), o.from) {
		t.Errorf("a file that is no report: %v", err)
	}
}

func TestSave(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "new", "bench.json")
	if err := save(report.Report{Overlayd: "1"}, file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil || !json.Valid(text) {
		t.Errorf("wrote %q: %v", text, err)
	}
	if err := save(report.Report{}, filepath.Join(file, "bench.json")); err == nil {
		t.Error("a file that cannot be written is no error")
	}
}
