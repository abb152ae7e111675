package agent

import (
	"slices"
	"time"

	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// hold says why a change must not be made now, "" if it may.
func (a *agent) hold(c *plan.Change, part bool, t task) string {
	now := time.Now()
	switch {
	case part && c.Kind != plan.Repair:
		// Only a look at the whole spec knows the units that an overlay has left, and what guards its data.
		return "it takes a look at the whole host, which is next"
	case a.stamp != a.inForce && c.Kind != plan.Repair:
		return "the spec cannot be used, and only what was applied is mended"
	case c.Kind == plan.Delete && t.why != triggerHangup:
		return a.ripens(c.Address, now)
	}
	return a.backoff.hold(c, now)
}

// ripening is how long an address has to be missing in the spec before it is deleted unasked. Who moves a block from
// one file to another writes one after the other.
const ripening = 30 * time.Second

// ripens says how long a delete waits yet, "" for no longer.
func (a *agent) ripens(address string, now time.Time) string {
	since, known := a.missed[address]
	if !known {
		a.missed[address], since = now, now
	}
	at := since.Add(ripening)
	if !now.Before(at) {
		return ""
	}
	return "it is deleted at " + at.Format(time.TimeOnly) + " if it is not declared again"
}

// widen asks for a look at the whole host where one at a part found what only that can judge, and takes it out of the
// report and of what that is about.
func (a *agent) widen(r *reconcile.Report, about []string, t task) []string {
	wider := map[string]bool{}
	r.Results = slices.DeleteFunc(r.Results, func(each reconcile.Result) bool {
		wide := each.Change.Kind != plan.Repair && each.Status != reconcile.Done
		if wide {
			wider[each.Change.Address] = true
		}
		return wide
	})
	if len(wider) > 0 {
		a.schedule.hostChanged(t.why, time.Now())
	}
	return slices.DeleteFunc(about, func(address string) bool { return wider[address] })
}
