package agent

import "time"

// task is what there is to do, of which several may be due at once.
type task struct {
	load   bool // read the spec
	whole  bool // look at the whole host
	mounts bool // look at what changed in the mount table
	retry  bool // try again what waits
	why    trigger
}

func (t task) any() bool { return t.load || t.whole || t.mounts || t.retry }

// trigger is what made the agent look, for logs and metrics.
type trigger string

const (
	triggerStart   trigger = "start"
	triggerSpec    trigger = "spec"
	triggerMounts  trigger = "mounts"
	triggerUnits   trigger = "units"
	triggerSystemd trigger = "systemd"
	triggerRetry   trigger = "retry"
	triggerResync  trigger = "resync"
	triggerHangup  trigger = "hangup"
)

// Bursts are folded: who lays down ten files, or edits one, is done when nothing has happened for a while.
const (
	quiet    = 200 * time.Millisecond
	patience = 5 * time.Second // with somebody who never pauses
)

// burst is a thing that goes on happening. It is due when it was quiet, or when patience ends.
type burst struct{ first, last time.Time }

func (b *burst) happened(now time.Time) {
	if b.first.IsZero() {
		b.first = now
	}
	b.last = now
}

func (b burst) due() time.Time {
	if b.first.IsZero() {
		return time.Time{}
	}
	return earliest(b.last.Add(quiet), b.first.Add(patience))
}

// schedule knows when to do what. It has no clock of its own.
type schedule struct {
	spec   burst // files of the spec
	host   burst // unit files, and directories that were missing
	why    trigger
	mounts bool      // the mount table has changed
	hangup bool      // SIGHUP
	retry  time.Time // when something that waits may be tried again
	resync time.Time
	again  time.Time // the last look failed as a whole
}

// earliest gives the earlier of two times, of which a zero one does not count.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// next gives when something is due, at once if that is not after now; zero for never. What nobody asks for by a signal
// waits as long as hold says.
func (s *schedule) next(now time.Time, hold time.Duration) time.Time {
	if s.hangup {
		return now
	}
	at := s.resync
	for _, t := range []time.Time{s.spec.due(), s.host.due(), s.retry, s.again} {
		at = earliest(at, t)
	}
	if s.mounts {
		at = earliest(at, now)
	}
	if free := now.Add(hold); hold > 0 && !at.IsZero() && at.Before(free) {
		at = free
	}
	return at
}

// due gives what is to be done now, and forgets it.
func (s *schedule) due(now time.Time, hold time.Duration) task {
	is := func(t time.Time) bool { return !t.IsZero() && !t.After(now) }
	var t task
	switch {
	case s.hangup:
		t = task{load: true, whole: true, why: triggerHangup}
	case hold > 0:
		return task{}
	case is(s.spec.due()):
		t = task{load: true, whole: true, why: triggerSpec}
	case is(s.host.due()):
		t = task{whole: true, why: s.why}
	case is(s.resync):
		t = task{load: true, whole: true, why: triggerResync}
	case is(s.again):
		t = task{whole: true, why: triggerRetry}
	case s.mounts:
		t = task{mounts: true, retry: is(s.retry), why: triggerMounts}
	case is(s.retry):
		t = task{retry: true, why: triggerRetry}
	}
	if t.load {
		s.hangup, s.spec = false, burst{}
	}
	if t.whole {
		// A look at the whole host sees everything else, too.
		s.host, s.why, s.again, s.retry, s.mounts = burst{}, "", time.Time{}, time.Time{}, false
	}
	if t.mounts {
		s.mounts = false
	}
	if t.retry {
		s.retry = time.Time{}
	}
	return t
}

// hostChanged asks for a look at the whole host.
func (s *schedule) hostChanged(why trigger, now time.Time) {
	if s.why == "" {
		s.why = why
	}
	s.host.happened(now)
}
