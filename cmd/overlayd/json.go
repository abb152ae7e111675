package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// formatVersion is that of all JSON output.
const formatVersion = "1.0"

// writeJSON writes a result to stdout, and nothing else.
func (a *app) writeJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return err
	}
	return a.flush()
}

type diagnosticJSON struct {
	Severity string `json:"severity"`
	Summary  string `json:"summary"`
	Detail   string `json:"detail"`
	File     string `json:"file"`
	Line     int    `json:"line"`
	Column   int    `json:"column"`
}

func diagnosticsJSON(diags hcl.Diagnostics) []diagnosticJSON {
	out := make([]diagnosticJSON, 0, len(diags))
	for _, d := range diags {
		j := diagnosticJSON{Severity: "error", Summary: d.Summary, Detail: d.Detail}
		if d.Severity == hcl.DiagWarning {
			j.Severity = "warning"
		}
		if file, ok := d.Extra.(wholeFile); ok {
			j.File = string(file)
		}
		if d.Subject != nil {
			j.File, j.Line, j.Column = d.Subject.Filename, d.Subject.Start.Line, d.Subject.Start.Column
		}
		out = append(out, j)
	}
	return out
}

// writeFailure is the result of a --json command that failed before it had one.
func (a *app) writeFailure(message string, diags hcl.Diagnostics) {
	err := a.writeJSON(struct {
		FormatVersion string           `json:"format_version"`
		Error         string           `json:"error"`
		Diagnostics   []diagnosticJSON `json:"diagnostics"`
	}{formatVersion, message, diagnosticsJSON(diags)})
	if err != nil {
		fmt.Fprintf(a.err, "Error: %s\n", message) // that it could not be written says run
	}
}

// fail reports an error the way the command reports: as JSON on stdout, or on stderr.
func (a *app) fail(err error, asJSON bool) error {
	var reported exitCode
	var usage usageError
	if err == nil || !asJSON || errors.As(err, &reported) || errors.As(err, &usage) {
		return err
	}
	a.writeFailure(err.Error(), nil)
	return exitCode(exitError)
}

type impactJSON struct {
	Units     []string            `json:"units"`
	Mounts    []string            `json:"mounts"`
	Processes []overlayfs.Process `json:"processes"`
}

type changeJSON struct {
	Address    string     `json:"address"`
	Change     plan.Kind  `json:"change"`
	Unit       string     `json:"unit"`
	Mountpoint string     `json:"mountpoint"`
	Source     string     `json:"source"`
	Via        *plan.Via  `json:"via"`
	Disruptive bool       `json:"disruptive"`
	Reasons    []string   `json:"reasons"`
	Before     *plan.View `json:"before"`
	After      *plan.View `json:"after"`
	Impact     impactJSON `json:"impact"`
}

type planJSON struct {
	FormatVersion string            `json:"format_version"`
	InSync        bool              `json:"in_sync"`
	Summary       map[plan.Kind]int `json:"summary"`
	Changes       []changeJSON      `json:"changes"`
}

func newPlanJSON(p plan.Plan, all bool) planJSON {
	out := planJSON{
		FormatVersion: formatVersion, InSync: p.InSync(), Summary: map[plan.Kind]int{}, Changes: []changeJSON{},
	}
	for _, k := range plan.Kinds() {
		out.Summary[k] = p.Count(k)
	}
	for _, c := range p.Changes {
		if c.Kind == plan.NoOp && !all {
			continue
		}
		j := changeJSON{
			Address: c.Address, Change: c.Kind, Unit: c.Unit, Mountpoint: c.Mountpoint, Source: c.Source,
			Disruptive: c.Disruptive, Reasons: orEmpty(c.Reasons), Before: c.Before, After: c.After,
			Impact: impactJSON{orEmpty(c.Impact.Units), orEmpty(c.Impact.Mounts), c.Impact.Processes},
		}
		if c.Via != plan.ViaNone {
			j.Via = &c.Via
		}
		if j.Impact.Processes == nil && len(c.Do.Unmount) == 0 {
			j.Impact.Processes = []overlayfs.Process{} // nothing is taken down, so nobody had to be looked for
		}
		out.Changes = append(out.Changes, j)
	}
	return out
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

type resultJSON struct {
	Address    string           `json:"address"`
	Change     plan.Kind        `json:"change"`
	Unit       string           `json:"unit"`
	Mountpoint string           `json:"mountpoint"`
	Status     reconcile.Status `json:"status"`
	Error      *string          `json:"error"`
	DurationMS int64            `json:"duration_ms"`
}

type reportJSON struct {
	FormatVersion string            `json:"format_version"`
	Changed       bool              `json:"changed"`
	Summary       map[plan.Kind]int `json:"summary"`
	Results       []resultJSON      `json:"results"`
	Kept          []string          `json:"kept"`
	Purged        []string          `json:"purged"`
	Error         string            `json:"error,omitempty"`
}

// newReportJSON counts in its summary what was done, and conflicts.
func newReportJSON(r reconcile.Report, failure error) reportJSON {
	out := reportJSON{
		FormatVersion: formatVersion, Changed: r.Changed(), Summary: map[plan.Kind]int{},
		Results: []resultJSON{}, Kept: orEmpty(r.Kept), Purged: orEmpty(r.Purged),
	}
	for _, k := range plan.Kinds() {
		out.Summary[k] = r.Count(k, reconcile.Done)
	}
	if n := r.Count(plan.ResetKind, reconcile.Done); n > 0 {
		out.Summary[plan.ResetKind] = n
	}
	out.Summary[plan.Conflict] = r.Count(plan.Conflict, reconcile.Skipped)
	out.Summary[plan.NoOp] = r.InSync
	for _, each := range r.Results {
		j := resultJSON{
			Address: each.Change.Address, Change: each.Change.Kind, Unit: each.Change.Unit,
			Mountpoint: each.Change.Mountpoint, Status: each.Status, DurationMS: each.Duration.Milliseconds(),
		}
		if each.Err != nil {
			text := strings.TrimSpace(each.Err.Error())
			j.Error = &text
		}
		out.Results = append(out.Results, j)
	}
	if failure != nil {
		out.Error = failure.Error()
	}
	return out
}
