package agent

import (
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func after(d time.Duration) time.Time { return noon.Add(d) }

func TestScheduleFoldsBursts(t *testing.T) {
	var s schedule
	if !s.next(noon, 0).IsZero() || s.due(noon, 0).any() {
		t.Fatal("an empty schedule has something to do")
	}
	// Twenty files, one every 50 ms: due once it was quiet.
	var last time.Time
	for i := range 20 {
		last = after(time.Duration(i) * 50 * time.Millisecond)
		s.spec.happened(last)
		if got := s.due(last, 0); got.any() {
			t.Fatalf("due in the midst of a burst: %+v", got)
		}
	}
	want := last.Add(quiet)
	if got := s.next(last, 0); !got.Equal(want) {
		t.Fatalf("next %s, want %s", got, want)
	}
	if got := s.due(want, 0); !got.load || !got.whole || got.why != triggerSpec {
		t.Fatalf("due: %+v, want to load the spec", got)
	}
	if s.due(want, 0).any() || !s.next(want, 0).IsZero() {
		t.Fatal("due twice")
	}
	// Somebody who never pauses is waited for with some patience only.
	for at := noon; ; at = at.Add(quiet / 2) {
		s.spec.happened(at)
		if s.due(at, 0).any() {
			if waited := at.Sub(noon); waited != patience {
				t.Fatalf("waited %s, want %s", waited, patience)
			}
			break
		}
		if at.Sub(noon) > patience {
			t.Fatal("waits for ever")
		}
	}
}

func TestScheduleOrder(t *testing.T) {
	const hold = time.Minute
	for name, c := range map[string]struct {
		set  func(*schedule)
		hold time.Duration
		next time.Time // zero for never
		want task      // at noon
	}{
		"mount table, at once":       {func(s *schedule) { s.mounts = true }, 0, noon, task{mounts: true, why: triggerMounts}},
		"mount table, no budget":     {func(s *schedule) { s.mounts = true }, hold, after(hold), task{}},
		"hang-up, even so":           {func(s *schedule) { s.hangup = true }, hold, noon, task{load: true, whole: true, why: triggerHangup}},
		"resync later":               {func(s *schedule) { s.resync = after(hold) }, 0, after(hold), task{}},
		"resync":                     {func(s *schedule) { s.resync = noon }, 0, noon, task{load: true, whole: true, why: triggerResync}},
		"resync, no budget":          {func(s *schedule) { s.resync = noon }, hold, after(hold), task{}},
		"retry":                      {func(s *schedule) { s.retry = noon }, 0, noon, task{retry: true, why: triggerRetry}},
		"retry later":                {func(s *schedule) { s.retry = after(1) }, 0, after(1), task{}},
		"retry with the mount table": {func(s *schedule) { s.retry, s.mounts = noon, true }, 0, noon, task{mounts: true, retry: true, why: triggerMounts}},
		"spec, no budget":            {func(s *schedule) { s.spec.happened(after(-quiet)) }, hold, after(hold), task{}},
		"failed look":                {func(s *schedule) { s.again = noon }, 0, noon, task{whole: true, why: triggerRetry}},
		"units": {
			func(s *schedule) { s.hostChanged(triggerUnits, after(-quiet)) }, 0, noon,
			task{whole: true, why: triggerUnits},
		},
		"first reason counts": {
			func(s *schedule) {
				s.hostChanged(triggerSystemd, after(-patience))
				s.hostChanged(triggerUnits, noon)
			}, 0, noon, task{whole: true, why: triggerSystemd},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var s schedule
			c.set(&s)
			if got := s.next(noon, c.hold); !got.Equal(c.next) {
				t.Errorf("next %v, want %v", got, c.next)
			}
			if got := s.due(noon, c.hold); got != c.want {
				t.Errorf("due %+v, want %+v", got, c.want)
			}
		})
	}
}

// A look at the whole host sees what single ones would.
func TestScheduleWholeSeesAll(t *testing.T) {
	s := schedule{mounts: true, retry: noon, again: noon}
	s.hostChanged(triggerUnits, after(-quiet))
	if got := s.due(noon, 0); !got.whole {
		t.Fatalf("due %+v, want the whole host", got)
	}
	if got := s.due(noon, 0); got.any() {
		t.Errorf("then due: %+v", got)
	}
}

func TestBudget(t *testing.T) {
	var b budget
	if b.wait(noon) != 0 {
		t.Fatal("a full budget lets wait")
	}
	b.spend(credit, noon)
	if b.wait(noon) != 0 {
		t.Fatal("what was saved up may be spent at once")
	}
	b.spend(100*time.Millisecond, noon)
	if got := b.wait(noon); got != share*100*time.Millisecond {
		t.Errorf("100 ms over: wait %s", got)
	}
	if got := b.wait(after(share * 100 * time.Millisecond)); got != 0 {
		t.Errorf("after that: wait %s", got)
	}
	b.spend(time.Hour, noon)
	if got := b.wait(noon); got != (most-credit)*share {
		t.Errorf("after a dear look: wait %s", got)
	}
	// A clock that is set back takes nothing from it and gives nothing.
	if got := b.wait(after(-time.Hour)); got != (most-credit)*share {
		t.Errorf("an hour before: wait %s", got)
	}
	// In the long run it is its share of a CPU, whatever a look costs.
	for _, cost := range []time.Duration{100 * time.Microsecond, 5 * time.Millisecond, 300 * time.Millisecond} {
		b, now, used := budget{}, noon, time.Duration(0)
		for now.Sub(noon) < time.Hour {
			now = now.Add(max(b.wait(now), 0)).Add(cost)
			used += cost
			b.spend(cost, now)
		}
		if limit := now.Sub(noon)/share + credit + cost; used > limit {
			t.Errorf("looks of %s: used %s in an hour, want at most %s", cost, used, limit)
		}
	}
}
