package agent

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

func result(c *plan.Change, status reconcile.Status, err error) reconcile.Result {
	return reconcile.Result{Change: *c, Status: status, Err: err}
}

func held(c *plan.Change, by reconcile.Holder, why string) reconcile.Result {
	return result(c, reconcile.Held, &reconcile.HeldError{By: by, Why: why})
}

func report(results ...reconcile.Result) reconcile.Report { return reconcile.Report{Results: results} }

func told(all []news) []string {
	var out []string
	for _, n := range all {
		out = append(out, n.what+" "+n.result.Change.Address)
	}
	return out
}

func TestBookTellsOnce(t *testing.T) {
	k, b := newBook(), backoff{}
	c := change("a", plan.Replace, "lowerdirs changed")
	bad := change("b", plan.Conflict, "no such layer")
	r := report(held(c, reconcile.HeldByPolicy, "policy safe"), result(bad, reconcile.Skipped, errors.New("no such layer")))
	if got := told(k.enter(r, nil, true, b, noon)); !slices.Equal(got, []string{"held a", "conflict b"}) {
		t.Fatalf("told %q", got)
	}
	later := after(time.Hour)
	if got := told(k.enter(r, nil, true, b, later)); got != nil {
		t.Fatalf("told again: %q", got)
	}
	if p := k.pending["a"]; p.Since != noon || p.Held != "policy safe" || p.Reason != "lowerdirs changed" {
		t.Errorf("pending: %+v", p)
	}
	if e := k.conflicts["b"]; e.Since != noon {
		t.Errorf("conflict: %+v", e)
	}
	// Another reason is news, and no news is that something is in order again.
	c = change("a", plan.Delete, "its block has gone")
	if got := told(k.enter(report(held(c, reconcile.HeldByPolicy, "policy safe")), nil, true, b, later)); !slices.Equal(got,
		[]string{"held a", "over b"}) {
		t.Errorf("told %q", got)
	}
	if len(k.conflicts) != 0 {
		t.Errorf("conflicts left: %v", k.conflicts)
	}
}

// A look at some overlays says nothing about the others.
func TestBookOfAPart(t *testing.T) {
	k, b := newBook(), backoff{}
	var all []reconcile.Result
	for i := range 3 {
		c := change(fmt.Sprint("p", i), plan.Replace)
		f := change(fmt.Sprint("f", i), plan.Repair)
		all = append(all, held(c, reconcile.HeldByPolicy, "no"), result(f, reconcile.Failed, errors.New("cannot")))
	}
	k.enter(report(all...), nil, false, b, noon)
	k.enter(report(), []string{"p0", "f0"}, false, b, after(1))
	if len(k.pending) != 2 || len(k.failed) != 2 {
		t.Errorf("left: %v, %v", k.pending, k.failed)
	}
	if b.hold(change("f0", plan.Repair), after(2)) != "" || b.hold(change("f1", plan.Repair), after(2)) == "" {
		t.Error("the back-off of the wrong one has ended")
	}
}

func TestBookFailures(t *testing.T) {
	k, b := newBook(), backoff{}
	c := change("a", plan.Repair, "not mounted")
	for i := 1; i <= 3; i++ {
		got := k.enter(report(result(c, reconcile.Failed, errors.New("no room"))), []string{"a"}, false, b, noon)
		if len(got) != 1 || got[0].what != "failed" || got[0].failed.Times != i {
			t.Fatalf("failure %d: %+v", i, got)
		}
	}
	f := k.failed["a"]
	if f.Error != "no room" || f.Times != 3 || !f.Next.Equal(after(4*time.Second)) || f.At != noon {
		t.Errorf("%+v", f)
	}
	// While it waits it is still what failed last, and that is no news.
	waits := held(c, reconcile.HeldByCaller, "it failed 3 times")
	if got := k.enter(report(waits), []string{"a"}, false, b, after(1)); got != nil {
		t.Errorf("told %q", told(got))
	}
	if k.failed["a"] != f || len(k.pending) != 0 {
		t.Errorf("failed %v, pending %v", k.failed, k.pending)
	}
	k.enter(report(result(c, reconcile.Done, nil)), []string{"a"}, true, b, after(time.Second))
	if len(k.failed) != 0 || k.last == nil || k.last.Address != "a" || !b.next().IsZero() {
		t.Errorf("failed %v, last %v, next %v", k.failed, k.last, b.next())
	}
}

// A job of systemd, and users of a mount, end without a word to us.
func TestBookLooksAgain(t *testing.T) {
	c := change("a", plan.Repair, "not mounted")
	for by, want := range map[reconcile.Holder]time.Duration{
		reconcile.HeldByJob: jobPause, reconcile.HeldByStopJob: jobPause, reconcile.HeldByUsers: userPause,
		reconcile.HeldByPolicy: 0, reconcile.HeldByStop: 0, reconcile.HeldByShutdown: 0, reconcile.HeldByOther: 0,
	} {
		k, b := newBook(), backoff{}
		k.enter(report(held(c, by, "why")), []string{"a"}, false, b, noon)
		next := b.next()
		if want == 0 && !next.IsZero() || want != 0 && !next.Equal(after(want)) {
			t.Errorf("%s: looks again at %v, want after %s", by, next, want)
		}
		if b.hold(c, noon) != "" {
			t.Errorf("%s: may not be made when it is free", by)
		}
		// It is looked at, and found in order.
		k.enter(report(), []string{"a"}, false, b, after(want))
		if !b.next().IsZero() {
			t.Errorf("%s: looks again for ever", by)
		}
	}
}

// What was asked for by a new spec is no sign that somebody undoes it.
func TestBookAsked(t *testing.T) {
	k, b := newBook(), backoff{}
	c := change("a", plan.Update, "options changed")
	for range 2 * free {
		if got := k.enter(report(result(c, reconcile.Done, nil)), nil, true, b, noon); got != nil {
			t.Fatalf("told %q", told(got))
		}
	}
	if b.hold(c, noon) != "" {
		t.Error("a spec that changes often is held")
	}
	var undone int
	for range 2 * free {
		undone += len(k.enter(report(result(c, reconcile.Done, nil)), nil, false, b, noon))
	}
	if undone != 1 {
		t.Errorf("told %d times that it is undone, want once", undone)
	}
}

// Whatever a look that was due finds, it is not due again at once.
func TestBookNeverHot(t *testing.T) {
	for _, by := range []reconcile.Holder{
		reconcile.HeldByPolicy, reconcile.HeldByStop, reconcile.HeldByJob, reconcile.HeldByStopJob, reconcile.HeldByUsers,
		reconcile.HeldByCaller, reconcile.HeldByOther, reconcile.HeldByShutdown,
	} {
		for _, about := range [][]string{nil, {"a"}} {
			k, b := newBook(), backoff{}
			c := change("a", plan.Repair, "not mounted")
			k.enter(report(result(c, reconcile.Failed, errors.New("cannot"))), about, false, b, noon)
			due := b.next()
			k.enter(report(held(c, by, "why")), about, false, b, due)
			if next := b.next(); !next.IsZero() && !next.After(due) {
				t.Errorf("held by %s: due again at once", by)
			}
		}
	}
	k, b := newBook(), backoff{}
	b.stopped("a")
	c := change("a", plan.Repair, "not mounted")
	k.enter(report(held(c, reconcile.HeldByCaller, reconcile.WhyStopped)), nil, false, b, noon)
	if !b.next().IsZero() {
		t.Errorf("stopped: looked at again at %s", b.next())
	}
}
