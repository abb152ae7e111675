package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

var past = map[plan.Kind]string{
	plan.Create: "created", plan.Adopt: "adopted", plan.Update: "updated", plan.Repair: "repaired",
	plan.Replace: "replaced", plan.Delete: "deleted", plan.ResetKind: "reset",
}

// writeReport shows people what a command did; title begins the last line. What went wrong goes to stderr, each with
// its place and the reason.
func (a *app) writeReport(w io.Writer, title string, r reconcile.Report) {
	printReport(w, a.err, painter(a.colour(w)), painter(a.colour(a.err)), title, r)
}

func printReport(w, stderr io.Writer, paint, errPaint painter, title string, r reconcile.Report) {
	for _, each := range r.Results {
		if each.Status == reconcile.Done {
			continue
		}
		place := ""
		if each.Change.Source != "" {
			place = " (" + each.Change.Source + ")"
		}
		verb := "cannot " + marks[each.Change.Kind].verb
		switch {
		case each.Change.Kind == plan.Conflict:
			verb = "conflict:"
		case each.Status == reconcile.Skipped:
			verb = "did not " + marks[each.Change.Kind].verb
		}
		fmt.Fprintf(stderr, "%s %s %s%s: %s\n", errPaint.paint("31;1", "Error:"), verb, each.Change.Address, place,
			plain(each.Err.Error()))
	}
	if r.NotReloaded {
		fmt.Fprintln(stderr, "No systemd runs here, so nothing was reloaded; the units are enabled for its next start.")
	}
	for _, dir := range r.Kept {
		fmt.Fprintf(w, "Kept: %s\n", dir)
	}
	for _, dir := range r.Purged {
		fmt.Fprintf(w, "Deleted: %s\n", dir)
	}
	fmt.Fprintln(w, paint.bold(reportSummary(title, r)))
}

func reportSummary(title string, r reconcile.Report) string {
	var parts []string
	failed, skipped, conflicts := 0, 0, 0
	for _, k := range shownKinds() {
		if n := r.Count(k, reconcile.Done); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, past[k]))
		}
		failed += r.Count(k, reconcile.Failed)
		if k != plan.Conflict {
			skipped += r.Count(k, reconcile.Skipped)
		} else {
			conflicts += r.Count(k, reconcile.Skipped)
		}
	}
	if len(parts) == 0 {
		parts = append(parts, "nothing done")
	}
	if failed > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", failed))
	}
	if skipped > 0 {
		parts = append(parts, fmt.Sprintf("%d skipped", skipped))
	}
	if conflicts > 0 {
		parts = append(parts, count(conflicts, "conflict"))
	}
	return title + ": " + strings.Join(parts, ", ") + "."
}
