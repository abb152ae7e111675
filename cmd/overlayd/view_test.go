package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/overlayd/overlayd/internal/agent/state"
	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

var update = flag.Bool("update", false, "write the golden files of the views")

// colours shows escape sequences as words, so that golden files can be read, and a terminal that shows them is safe.
var colours = strings.NewReplacer(
	"\x1b[0m", "}", "\x1b[1m", "{bold ", "\x1b[2m", "{dim ", "\x1b[31m", "{red ", "\x1b[31;1m", "{RED ",
	"\x1b[32m", "{green ",
	"\x1b[32;1m", "{GREEN ", "\x1b[33m", "{yellow ", "\x1b[36m", "{cyan ",
)

func golden(t *testing.T, name string, show func(w io.Writer)) {
	t.Helper()
	var b bytes.Buffer
	show(&b)
	got := colours.Replace(b.String())
	if strings.Contains(got, "\x1b") {
		t.Errorf("an escape sequence without a name in %q", got)
	}
	if of, _, isJSON := strings.Cut(name, "_json"); isJSON {
		if of == "agent" {
			of = "status#/properties/agent"
		}
		if err := schemas.Fits(of, got); err != nil {
			t.Error(err)
		}
	}
	file := filepath.Join("testdata/view", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is otherwise (go test ./cmd/overlayd -run View -update writes it): want -, got +\n%s", file, diff)
	}
}

// every is a plan with each kind of change.
func every() plan.Plan {
	view := func(name string, lowerdirs ...string) *plan.View {
		return &plan.View{
			Lowerdirs: lowerdirs, Upperdir: "/srv/data/" + name + "/upper", Workdir: "/srv/data/" + name + "/work",
			Mountpoint: "/srv/clients/" + name,
			Options:    overlayfs.Options{"index": "off", "redirect_dir": "on", "nosuid": "", "nodev": ""},
		}
	}
	change := func(kind plan.Kind, name string, reasons ...string) plan.Change {
		return plan.Change{
			Address: "overlay." + name, Kind: kind, Unit: "srv-clients-" + name + ".mount",
			Mountpoint: "/srv/clients/" + name, Source: "/etc/overlayd/site.hcl:12", Reasons: reasons,
			Before: view(name, "/srv/base"), After: view(name, "/srv/base"),
		}
	}
	create := change(plan.Create, `client["grace"]`)
	create.Before, create.After = nil, view("grace", "/srv/tools", "/srv/base")
	readOnly := change(plan.Create, "docs")
	readOnly.Before, readOnly.After = nil, &plan.View{
		Lowerdirs: []string{"/srv/more", "/srv/docs"}, Mountpoint: "/srv/clients/docs", Options: overlayfs.Options{},
	}
	adopt := change(plan.Adopt, "byhand", "mounted by somebody else, exactly as declared")
	replace := change(plan.Replace, "ada", "lowerdirs changed: + /srv/tools, - /srv/old")
	replace.Before, replace.After = view("ada", "/srv/old", "/srv/base"), view("ada", "/srv/tools", "/srv/base")
	replace.Disruptive, replace.Via = true, plan.ViaSystemd
	replace.ViaReason = "units that depend on it have to be stopped and started with it"
	replace.Do.Mount, replace.Do.Unmount = &overlayfs.Config{}, []plan.Live{{Mountpoint: "/srv/clients/ada"}}
	replace.Impact = plan.Impact{
		Units: []string{"build@ada.service", "web.service"}, Mounts: []string{"/srv/clients/ada/cache"},
		Processes: []overlayfs.Process{{PID: 4711, Command: "vi notes"}, {PID: 4712, Command: "bash \x1b[31m\u009b31m"}},
	}
	move := change(plan.Replace, "moved", "mountpoint changed: /srv/clients/was → /srv/clients/moved")
	move.Before = view("was", "/srv/base")
	gone := change(plan.Delete, "leaver", "no longer declared in /etc/overlayd/site.hcl")
	gone.After, gone.Source = nil, "/etc/overlayd/site.hcl"
	gone.Do.Unmount = []plan.Live{{Mountpoint: "/srv/clients/leaver"}}
	gone.Impact.Units = []string{"leaver.service"}
	create.Warnings = []string{"allow_unsafe_parent is set: guest can change what /srv/data/grace leads to, and the " +
		"kernel follows it at mount and at boot"}
	return plan.Plan{
		Target: plan.TargetRemove,
		Changes: []plan.Change{
			gone, replace, move,
			change(plan.Update, "edited", "unit file was edited by hand"),
			change(plan.Repair, "lost", "not mounted"),
			create, readOnly, adopt,
			change(plan.Conflict, "bad", "lowerdir /srv/nowhere does not exist: create it, or correct the path",
				"upperdir /srv/data/bad/upper and workdir /mnt/other/work are on different mounts: put the workdir beside "+
					"the upperdir"),
			change(plan.NoOp, "same"),
		},
	}
}

func TestViewPlan(t *testing.T) {
	p := every()
	golden(t, "plan", func(w io.Writer) { printPlan(w, false, 0, p, planWords{title: "Plan"}) })
	golden(t, "plan_terminal", func(w io.Writer) { printPlan(w, true, 80, p, planWords{title: "Plan"}) })
	golden(t, "plan_narrow", func(w io.Writer) { printPlan(w, false, 40, p, planWords{title: "Plan"}) })
	in := plan.Plan{Changes: []plan.Change{{Kind: plan.NoOp}}}
	golden(t, "plan_in_sync", func(w io.Writer) {
		printPlan(w, true, 80, in, planWords{inSync: "The host is as the spec says: 1 overlay."})
	})

	reset := plan.Change{
		Address: "overlay.seat", Kind: plan.ResetKind, Source: "/etc/overlayd/site.hcl",
		After:   &plan.View{Mountpoint: "/srv/clients/seat"},
		Reasons: []string{"what the client wrote to /srv/data/seat/upper is DELETED"},
		Impact:  plan.Impact{Units: []string{"desktop.service"}},
		Do:      plan.Actions{Reset: &plan.Reset{}, Mount: &overlayfs.Config{}},
	}
	words := planWords{title: "Plan", always: []plan.Kind{plan.ResetKind}}
	golden(t, "plan_reset", func(w io.Writer) { printPlan(w, true, 80, plan.Plan{Changes: []plan.Change{reset}}, words) })

	// nothing runs over the edge but what has no place to break
	var b bytes.Buffer
	printPlan(&b, false, 80, p, planWords{title: "Plan"})
	for line := range strings.Lines(b.String()) {
		if utf8.RuneCountInString(strings.TrimSpace(line)) > 80 && !strings.HasPrefix(line, "Plan:") {
			t.Errorf("more than 80 columns: %s", line)
		}
	}
}

func TestViewReport(t *testing.T) {
	p := every()
	r := reconcile.Report{InSync: 1, Kept: []string{"/srv/data/leaver/upper"}, NotReloaded: true}
	for i, c := range p.Changes {
		result := reconcile.Result{Change: c, Status: reconcile.Done}
		switch {
		case c.Kind == plan.NoOp:
			continue
		case c.Kind == plan.Conflict:
			result.Status, result.Err = reconcile.Skipped, errors.New(strings.Join(c.Reasons, "; "))
		case i == 1:
			result.Status, result.Err = reconcile.Failed, errors.New("busy, as these processes use it: 4711 (vi \x1b[31m)")
		case i == 2:
			result.Status, result.Err = reconcile.Skipped, errors.New("interrupted before its turn: apply again")
		}
		r.Results = append(r.Results, result)
	}
	both := func(paint painter) func(w io.Writer) {
		return func(w io.Writer) {
			var stderr bytes.Buffer
			printReport(w, &stderr, paint, paint, "Apply", r)
			fmt.Fprintf(w, "--- stderr\n%s", stderr.String())
		}
	}
	golden(t, "report", both(false))
	golden(t, "report_terminal", both(true))
	many := r
	for i := range mostAlike + 5 {
		c := plan.Change{Kind: plan.Create, Address: fmt.Sprintf("overlay.late[%d]", i)}
		many.Results = append(many.Results,
			reconcile.Result{Change: c, Status: reconcile.Skipped, Err: errors.New("interrupted: 100% of it")},
			reconcile.Result{Change: c, Status: reconcile.Failed, Err: errors.New("no space left on device")})
	}
	golden(t, "report_interrupted", func(w io.Writer) { printReport(io.Discard, w, false, false, "Apply", many) })
	golden(t, "report_purged", func(w io.Writer) {
		printReport(w, io.Discard, false, false, "Destroy", reconcile.Report{
			Results: []reconcile.Result{{Change: p.Changes[0], Status: reconcile.Done}},
			Purged:  []string{"/srv/data/leaver/upper"},
		})
	})
}

func TestViewStatus(t *testing.T) {
	var rows []reconcile.Row
	for i, s := range []reconcile.State{
		reconcile.StateConflict, reconcile.StateFailed, reconcile.StateStopped, reconcile.StateMissing,
		reconcile.StateDrifted, reconcile.StatePending, reconcile.StateMounted,
	} {
		name := strings.Repeat("é", i+1)
		r := reconcile.Row{
			Address: fmt.Sprintf("overlay.client[%q]", name), Mountpoint: "/srv/clients/" + name, State: s,
			View: plan.View{Lowerdirs: []string{"/srv/base"}},
		}
		for layer := range i {
			r.View.Lowerdirs = append(r.View.Lowerdirs, fmt.Sprint("/srv/", layer))
		}
		rows = append(rows, r)
	}
	golden(t, "status", func(w io.Writer) { printStatus(w, false, 0, rows) })
	golden(t, "status_terminal", func(w io.Writer) { printStatus(w, true, 80, rows) })
	golden(t, "status_none", func(w io.Writer) { printStatus(w, true, 80, nil) })
	rows = append(rows[:3], reconcile.Row{
		Address: `overlay.client["日本"]`, Mountpoint: "/srv/" + strings.Repeat("long/", 32), State: reconcile.StateMounted,
		View: plan.View{Lowerdirs: []string{"/srv/e\x1b[31m"}},
	}, reconcile.Row{
		Address: `overlay.client["` + strings.Repeat("x", 50) + `"]`, Mountpoint: "/srv/x\u202ey",
		State: reconcile.StatePending, View: plan.View{Lowerdirs: []string{"/srv/base"}},
	})
	golden(t, "status_long", func(w io.Writer) { printStatus(w, false, 80, rows) })
}

// A conflict has its reason on the screen, or the command that tells it.
func TestUnexplained(t *testing.T) {
	conflict := func(at string) reconcile.Row {
		return reconcile.Row{Mountpoint: at, State: reconcile.StateConflict}
	}
	dead, many := busyAgent(), quietAgent()
	dead.running = false
	var rows []reconcile.Row
	for i := range mostEntries + 2 {
		at := fmt.Sprint("/srv/", i)
		rows = append(rows, conflict(at))
		many.state.Conflicts = append(many.state.Conflicts, state.Pending{Mountpoint: at})
	}
	for name, c := range map[string]struct {
		rows  []reconcile.Row
		agent agentView
		want  string
	}{
		"none":               {[]reconcile.Row{{State: reconcile.StateMounted}}, agentView{}, ""},
		"no agent":           {[]reconcile.Row{conflict("/srv/bad")}, agentView{}, "1 conflict: overlayd plan says why."},
		"the agent tells it": {[]reconcile.Row{conflict("/srv/bad")}, busyAgent(), ""},
		"an agent that died": {[]reconcile.Row{conflict("/srv/bad")}, dead, "1 conflict: overlayd plan says why."},
		"the agent does not know yet": {
			[]reconcile.Row{conflict("/srv/bad"), conflict("/srv/new")}, busyAgent(), "1 conflict: overlayd plan says why.",
		},
		"more than the agent shows": {rows, many, "2 conflicts: overlayd plan says why."},
	} {
		if got := unexplained(c.rows, c.agent, "overlayd plan"); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		text  string
		width int
		want  string
	}{
		{"", 10, ""},
		{"one two three", 0, "one two three"},
		{"one two three", 7, "one two\n  three"},
		{"one two three", 13, "one two three"},
		{"one two three", 3, "one\n  two\n  three"},
		{"/a/path/that/is/too/long for it", 10, "/a/path/that/is/too/long\n  for it"},
		{"ééé ééé", 7, "ééé ééé"},
	} {
		if got := wrap(c.text, c.width, "  "); got != c.want {
			t.Errorf("wrap(%q, %d) = %q, want %q", c.text, c.width, got, c.want)
		}
	}
}

// The JSON of a plan and a report that have everything in them.
func TestViewJSON(t *testing.T) {
	show := func(v any) func(w io.Writer) {
		return func(w io.Writer) {
			a := app{streams: streams{out: w}}
			if err := a.writeJSON(v); err != nil {
				t.Fatal(err)
			}
		}
	}
	p := every()
	golden(t, "plan_json", show(newPlanJSON(p, true)))
	r := reconcile.Report{
		InSync: 3, Kept: []string{"/srv/data/leaver/upper"},
		Results: []reconcile.Result{
			{Change: p.Changes[0], Status: reconcile.Done, Duration: 1999 * time.Microsecond},
			{Change: p.Changes[1], Status: reconcile.Failed, Err: errors.New("busy")},
			{Change: p.Changes[8], Status: reconcile.Skipped, Err: errors.New("no lowerdir")},
		},
	}
	golden(t, "report_json", show(newReportJSON(r, nil)))
	golden(t, "report_json_failed", show(newReportJSON(reconcile.Report{}, errors.New("cannot reload systemd"))))
}
