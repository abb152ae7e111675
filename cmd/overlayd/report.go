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

// printReport puts what went wrong right before the last line: what was kept can be more than a screen holds.
func printReport(w, stderr io.Writer, paint, errPaint painter, title string, r reconcile.Report) {
	for _, dir := range r.Kept {
		fmt.Fprintf(w, "Kept: %s\n", dir)
	}
	for _, dir := range r.Purged {
		fmt.Fprintf(w, "Deleted: %s\n", dir)
	}
	writeWrong(stderr, errPaint, r)
	fmt.Fprintln(w, paint.bold(reportSummary(title, r)))
}

// mostAlike is how many overlays are named that were left out for the same reason, as all that had no turn before a
// Ctrl-C. The JSON names each.
const mostAlike = 10

// writeWrong says what went wrong, in one write.
func writeWrong(stderr io.Writer, paint painter, r reconcile.Report) {
	var b strings.Builder
	complain := func(verb, what, why string) {
		fmt.Fprintf(&b, "%s %s %s: %s\n", paint.paint("31;1", "Error:"), verb, what, plain(why))
	}
	type reason struct{ verb, why string }
	left := map[reason]int{}
	var reasons []reason
	for _, each := range r.Results {
		what := each.Change.Address
		if each.Change.Source != "" {
			what += " (" + each.Change.Source + ")"
		}
		verb := marks[each.Change.Kind].verb
		switch {
		case each.Status == reconcile.Done:
		case each.Change.Kind == plan.Conflict:
			complain("conflict:", what, each.Err.Error())
		case each.Status == reconcile.Skipped:
			verb = "did not " + verb
			key := reason{verb, each.Err.Error()}
			switch left[key]++; {
			case left[key] <= mostAlike:
				complain(verb, what, key.why)
			case left[key] == mostAlike+1:
				reasons = append(reasons, key)
			}
		default:
			complain("cannot "+verb, what, each.Err.Error())
		}
	}
	for _, key := range reasons {
		complain(key.verb, fmt.Sprintf("%d more", left[key]-mostAlike), key.why)
	}
	if r.NotReloaded {
		b.WriteString("No systemd runs here, so nothing was reloaded; the units are enabled for its next start.\n")
	}
	if b.Len() > 0 {
		fmt.Fprint(stderr, b.String())
	}
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
