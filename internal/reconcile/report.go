package reconcile

import (
	"errors"
	"strings"
	"time"

	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// Status is how a change ended.
type Status string

// The ways a change can end.
const (
	Done    Status = "done"
	Failed  Status = "failed"
	Skipped Status = "skipped"
	Held    Status = "held" // by an unattended apply; the error is a *[HeldError]
)

// Past says of a kind that it is done: created, repaired …
func Past(k plan.Kind) string {
	switch k {
	case plan.ResetKind:
		return "reset"
	case plan.Adopt:
		return "adopted"
	case plan.Repair:
		return "repaired"
	default:
		return string(k) + "d" // create, update, replace, delete
	}
}

// Result is how one change ended.
type Result struct {
	Change   plan.Change
	Status   Status
	Err      error // why it failed or was skipped
	Duration time.Duration
}

// Report is what an apply did.
type Report struct {
	Results []Result // in the order of the plan, without no-ops
	InSync  int      // overlays that needed nothing
	Kept    []string // upperdirs that nothing uses any more, and that were left as they are
	Purged  []string // data directories that were deleted, as asked
	// NotReloaded is set where unit files changed and no systemd runs, which will find them when it starts.
	NotReloaded bool
}

// Unchanged is the report of an apply that has nothing to do: conflicts are skipped, the rest is in sync.
func Unchanged(p plan.Plan) Report {
	r := Report{InSync: p.Count(plan.NoOp)}
	for _, c := range p.Changes {
		if c.Kind == plan.Conflict {
			r.Results = append(r.Results, skippedConflict(c))
		}
	}
	return r
}

func skippedConflict(c plan.Change) Result {
	return Result{Change: c, Status: Skipped, Err: errors.New(strings.Join(c.Reasons, "; "))}
}

// Changed tells whether anything on the host is different now.
func (r Report) Changed() bool {
	for _, each := range r.Results {
		if each.Status == Done {
			return true
		}
	}
	return false
}

// OK tells whether everything that was planned was done.
func (r Report) OK() bool {
	for _, each := range r.Results {
		if each.Status != Done {
			return false
		}
	}
	return true
}

// Count gives the number of results of a kind that ended in a way.
func (r Report) Count(k plan.Kind, s Status) int {
	n := 0
	for _, each := range r.Results {
		if each.Change.Kind == k && each.Status == s {
			n++
		}
	}
	return n
}
