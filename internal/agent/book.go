package agent

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/overlayd/overlayd/internal/agent/state"
	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// Pauses before another look at what waits for something that makes no noise when it ends.
const (
	jobPause      = 1 * time.Second  // a job of systemd, should its signal be lost
	userPause     = 10 * time.Second // processes that use a mount
	conflictPause = 1 * time.Minute  // other conflicts
)

// book is what the agent knows of the overlays that are not as they should be, by address.
type book struct {
	pending   map[string]state.Pending
	conflicts map[string]state.Pending
	failed    map[string]state.Failure
	last      *state.Done
}

func newBook() *book {
	return &book{map[string]state.Pending{}, map[string]state.Pending{}, map[string]state.Failure{}, nil}
}

// news is what to tell of a result.
type news struct {
	result reconcile.Result
	what   string // "held", "conflict", "over", "failed", "undone" (again and again), or "gone" (at once)
	failed state.Failure
}

// enter takes a report into the books, and gives what is new in it. It was about these addresses, or all of them with
// nil. What was made was asked for if the spec had changed; else somebody had undone it.
func (k *book) enter(r reconcile.Report, about []string, asked bool, b backoff, now time.Time) []news {
	was := *k
	k.clear(about)
	b.looked(about)
	troubled := map[string]bool{}
	var out []news
	for _, each := range r.Results {
		c := &each.Change
		troubled[c.Address] = true
		var held *reconcile.HeldError
		switch {
		case each.Status == reconcile.Done || errors.Is(each.Err, reconcile.ErrGone):
			// What was undone at once is drift, of which the mount table tells.
			k.last = &state.Done{
				Address: c.Address, Change: string(c.Kind), Mountpoint: c.Mountpoint, Reason: reasons(c), At: now,
			}
			if asked {
				b.fine(c.Address)
			} else if b.did(c, now) {
				out = append(out, news{result: each, what: "undone"})
			}
			if each.Err != nil {
				out = append(out, news{result: each, what: "gone"})
			}
		case c.Kind == plan.Conflict:
			e := state.Pending{
				Address: c.Address, Change: string(c.Kind), Mountpoint: c.Mountpoint, Reason: reasons(c), Since: now,
			}
			b.conflicts(c.Address)
			if old, known := was.conflicts[c.Address]; known && old.Reason == e.Reason {
				e.Since = old.Since
			} else {
				out = append(out, news{result: each, what: "conflict"})
			}
			k.conflicts[c.Address] = e
		case errors.As(each.Err, &held):
			if n, is := k.hold(each, held, was, b, now); is {
				out = append(out, n)
			}
		default:
			times, next := b.fail(c, now)
			k.failed[c.Address] = state.Failure{
				Address: c.Address, Change: string(c.Kind), Mountpoint: c.Mountpoint, Error: each.Err.Error(),
				At: now, Times: times, Next: next,
			}
			out = append(out, news{each, "failed", k.failed[c.Address]})
		}
	}
	settled(b, about, troubled)
	for _, address := range slices.Sorted(maps.Keys(was.pending)) {
		out = append(out, k.over(was.pending[address])...)
	}
	for _, address := range slices.Sorted(maps.Keys(was.conflicts)) {
		out = append(out, k.over(was.conflicts[address])...)
	}
	return out
}

// over gives as news that nothing is in the way any more of what was, unless that is news by itself.
func (k *book) over(was state.Pending) []news {
	if k.stands(was.Address) != standsMounted || k.last != nil && k.last.Address == was.Address {
		return nil
	}
	return []news{{what: "over", result: reconcile.Result{Change: plan.Change{
		Address: was.Address, Kind: plan.Kind(was.Change), Mountpoint: was.Mountpoint,
	}}}}
}

// stopped counts what somebody stopped.
func (k *book) stopped() int {
	n := 0
	for _, p := range k.pending {
		if p.Held == reconcile.WhyStopped {
			n++
		}
	}
	return n
}

// hold enters what was not tried.
func (k *book) hold(each reconcile.Result, held *reconcile.HeldError, was book, b backoff, now time.Time) (news, bool) {
	c := &each.Change
	switch held.By {
	case reconcile.HeldByShutdown:
		return news{}, false
	case reconcile.HeldByStopJob:
		b.stopped(c.Address)
		b.later(c.Address, now.Add(jobPause))
		return news{}, false
	case reconcile.HeldByJob:
		b.later(c.Address, now.Add(jobPause))
		return news{}, false
	case reconcile.HeldByCaller:
		b.waits(c.Address, now)
		if f, known := was.failed[c.Address]; known {
			k.failed[c.Address] = f // as it was: it has not been tried
			return news{}, false
		}
	case reconcile.HeldByUsers:
		b.later(c.Address, now.Add(userPause))
	case reconcile.HeldByPolicy, reconcile.HeldByStop, reconcile.HeldByOther:
	}
	e := state.Pending{
		Address: c.Address, Change: string(c.Kind), Mountpoint: c.Mountpoint, Reason: reasons(c), Held: held.Why, Since: now,
	}
	old, known := was.pending[c.Address]
	if known {
		e.Since = old.Since
	}
	k.pending[c.Address] = e
	// Who uses it, and when it is tried again, is told by the state, not once more with each try.
	is := !known || old.Change != e.Change || old.Reason != e.Reason
	return news{result: each, what: "held"}, is && held.By != reconcile.HeldByCaller
}

// clear forgets what was known about these addresses, or everything with nil.
func (k *book) clear(about []string) {
	pending, conflicts, failed := maps.Clone(k.pending), maps.Clone(k.conflicts), maps.Clone(k.failed)
	if about == nil {
		clear(pending)
		clear(conflicts)
		clear(failed)
	}
	for _, address := range about {
		delete(pending, address)
		delete(conflicts, address)
		delete(failed, address)
	}
	k.pending, k.conflicts, k.failed = pending, conflicts, failed
}

// settled ends the waiting of what was looked at and found in order.
func settled(b backoff, about []string, troubled map[string]bool) {
	if about == nil {
		for address := range b {
			about = append(about, address)
		}
	}
	for _, address := range about {
		if !troubled[address] {
			b.fine(address)
		}
	}
}

// How an overlay of the spec stands, as the metrics have it.
const (
	standsConflict = "conflict"
	standsFailed   = "failed"
	standsStopped  = "stopped" // somebody wants it down
	standsPending  = "pending" // what there is to do about it waits
	standsMounted  = "mounted" // as the spec says
)

// stands gives how an overlay stands.
func (k *book) stands(address string) string {
	if _, is := k.conflicts[address]; is {
		return standsConflict
	}
	if _, is := k.failed[address]; is {
		return standsFailed
	}
	if p, is := k.pending[address]; is {
		if p.Held == reconcile.WhyStopped {
			return standsStopped
		}
		return standsPending
	}
	return standsMounted
}

func reasons(c *plan.Change) string { return strings.Join(c.Reasons, "; ") }

// missing gives the directories that conflicts name as missing: when one appears, the host is worth a look.
func missing(changes []reconcile.Result) []string {
	var out []string
	for _, each := range changes {
		if each.Change.Kind == plan.Conflict && each.Change.After != nil {
			out = append(out, each.Change.After.Lowerdirs...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// sorted gives the values of a book in the order of their addresses.
func sorted[T any](m map[string]T) []T {
	out := make([]T, 0, len(m))
	for _, address := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[address])
	}
	return out
}
