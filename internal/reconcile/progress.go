package reconcile

import (
	"sync"

	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// Phase is what an apply is at.
type Phase int

// The phases of an apply. One that has nothing to do is left out, and Mounting can come back after Reloading.
const (
	Preparing Phase = iota
	Unmounting
	Writing
	Reloading
	Mounting
	Settling
)

// String gives the words for people, to begin a line with.
func (p Phase) String() string {
	switch p {
	case Unmounting:
		return "Taking down"
	case Writing:
		return "Writing units"
	case Reloading:
		return "Waiting for systemd to reload"
	case Mounting:
		return "Mounting"
	case Settling:
		return "Waiting for systemd to catch up"
	default:
		return "Preparing"
	}
}

// Progress is how far an apply is.
type Progress struct {
	Phase       Phase
	Done, Total int    // changes; one that failed or was skipped is done with, too
	Address     string // of what was begun last, empty where a phase is about all changes at once
}

// tally counts changes for ApplyOptions.Progress.
type tally struct {
	mu   sync.Mutex
	now  Progress
	done map[int]bool // by index of the change; nil until the first word
}

// tell says that a phase begins.
func (a *apply) tell(p Phase) {
	a.count(func(t *tally) bool {
		t.now.Phase, t.now.Address = p, ""
		return true
	})
}

// begins says that a step of a change begins.
func (a *apply) begins(i int) {
	a.count(func(t *tally) bool {
		t.now.Address = a.p.Changes[i].Address
		return true
	})
}

// finished counts a change, once. Most changes end only when all have been mounted and looked at again, see
// finishUnits; what counts is the last step that may take long.
func (a *apply) finished(i int) {
	a.count(func(t *tally) bool {
		if t.done[i] || a.p.Changes[i].Kind == plan.Conflict {
			return false
		}
		t.done[i] = true
		t.now.Done++
		return true
	})
}

// count changes the tally, and passes on what is news. Nobody waits at a lock while Progress takes its time.
func (a *apply) count(change func(*tally) (news bool)) {
	if a.opt.Progress == nil {
		return
	}
	t := &a.tally
	t.mu.Lock()
	if t.done == nil {
		t.done = map[int]bool{}
		t.now.Total = len(a.p.Changes) - a.p.Count(plan.NoOp) - a.p.Count(plan.Conflict)
	}
	news := change(t)
	now := t.now
	t.mu.Unlock()
	if news {
		a.opt.Progress(now)
	}
}
