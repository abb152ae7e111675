package agent

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// backoff keeps account of overlays that fail, or that somebody undoes again and again, and says when to try them
// again. By address.
type backoff map[string]*tries

// tries is the account of one overlay.
type tries struct {
	failed int       // in a row
	done   float64   // repairs of late: one more with each, one less with each minute
	at     time.Time // when done was right
	until  time.Time // not before
	signs  []string  // of the changes that failed, of late
	wait   bool      // something waits for until
	look   time.Time // when to look at it again although nothing happens
	// stop tells that a stop job was seen. systemd remembers that itself, but not of a unit that nothing wants: it
	// forgets one as soon as it is down.
	stop bool
}

const (
	free       = 5 // repairs that are made at once before they wait, and then one a minute
	firstPause = 1 * time.Second
	longPause  = 1 * time.Minute // between repairs that are undone
	lastPause  = 5 * time.Minute // between tries that fail
	memory     = 4               // signs that are remembered
)

// sign tells one change from another: what failed as something else than what is planned now is worth a try at once.
func sign(c *plan.Change) string {
	return fmt.Sprintf("%s|%s|%v", c.Kind, strings.Join(c.Reasons, "|"), c.After)
}

func pause(n int, longest time.Duration) time.Duration {
	if n > 20 {
		return longest
	}
	return min(firstPause<<(n-1), longest)
}

// hold says why a change must wait, "" if it may be made now.
func (b backoff) hold(c *plan.Change, now time.Time) string {
	t := b[c.Address]
	if t != nil && t.stop && c.Do.Mount != nil && len(c.Do.Unmount) == 0 {
		return reconcile.WhyStopped
	}
	if t == nil || !now.Before(t.until) {
		return ""
	}
	if t.failed > 0 && !slices.Contains(t.signs, sign(c)) {
		return ""
	}
	if t.failed > 0 {
		return fmt.Sprintf("it failed %s, and is tried again at %s", times(t.failed), t.until.Format(time.TimeOnly))
	}
	return fmt.Sprintf("it is undone again and again, and is made again at %s", t.until.Format(time.TimeOnly))
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// fail notes that a change failed, and gives how often in a row it has and when it is tried again.
func (b backoff) fail(c *plan.Change, now time.Time) (failed int, next time.Time) {
	t := b.of(c.Address)
	if s := sign(c); !slices.Contains(t.signs, s) {
		t.signs = append(t.signs[max(0, len(t.signs)-memory+1):], s)
		t.failed = 0 // it is something else than what failed before
	}
	t.failed++
	t.wait = true
	t.until = now.Add(pause(t.failed, lastPause))
	return t.failed, t.until
}

// did notes that a change was made that nobody had asked for, and tells whether those that follow have to wait now and
// did not before.
func (b backoff) did(c *plan.Change, now time.Time) (begins bool) {
	t := b.of(c.Address)
	t.failed, t.signs, t.wait, t.look, t.stop = 0, nil, false, time.Time{}, false
	t.done = max(0, t.done-now.Sub(t.at).Minutes()) + 1
	t.at = now
	over := int(math.Ceil(t.done - free))
	if over < 0 {
		t.until = time.Time{}
		return false
	}
	t.until = now.Add(pause(over+1, longPause))
	return over == 0
}

// conflicts notes that an overlay cannot be made right; whether it failed before is of no matter then.
func (b backoff) conflicts(address string) {
	if t := b[address]; t != nil {
		t.failed, t.signs, t.wait, t.look = 0, nil, false, time.Time{}
	}
}

// fine notes that nothing is wrong with an overlay, or that somebody changed it on purpose.
func (b backoff) fine(address string) {
	if t := b[address]; t != nil {
		t.failed, t.signs, t.wait, t.look, t.stop = 0, nil, false, time.Time{}, false
		if t.done < free {
			t.until = time.Time{}
		}
	}
}

// looked ends all waiting of these, or of all with nil: they are being looked at.
func (b backoff) looked(addresses []string) {
	if addresses == nil {
		for _, t := range b {
			t.wait, t.look = false, time.Time{}
		}
	}
	for _, address := range addresses {
		if t := b[address]; t != nil {
			t.wait, t.look = false, time.Time{}
		}
	}
}

// waits notes that something was held that may be made later.
func (b backoff) waits(address string, now time.Time) {
	if t := b[address]; t != nil && now.Before(t.until) {
		t.wait = true
	}
}

// forgive drops all accounts but what is known of stop jobs.
func (b backoff) forgive() {
	for address, t := range b {
		if b[address] = (&tries{stop: t.stop}); !t.stop {
			delete(b, address)
		}
	}
}

// stopped notes that a stop job takes an overlay down.
func (b backoff) stopped(address string) { b.of(address).stop = true }

// later asks for another look at an overlay that waits for what tells nobody when it ends.
func (b backoff) later(address string, at time.Time) { b.of(address).look = at }

// watches tells whether another look at an overlay is asked for.
func (b backoff) watches(address string) bool { return b[address] != nil && !b[address].look.IsZero() }

// next gives when something that waits is looked at again, zero if nothing does.
func (b backoff) next() time.Time {
	var at time.Time
	for _, t := range b {
		if t.wait {
			at = earliest(at, t.until)
		}
		at = earliest(at, t.look)
	}
	return at
}

// due gives the addresses, sorted, of what has waited long enough.
func (b backoff) due(now time.Time) []string {
	var out []string
	for address, t := range b {
		if t.wait && !now.Before(t.until) || !t.look.IsZero() && !now.Before(t.look) {
			out = append(out, address)
		}
	}
	slices.Sort(out)
	return out
}

// forget drops all accounts that say nothing any more, and those of overlays that are gone.
func (b backoff) forget(there func(address string) bool, now time.Time) {
	for address, t := range b {
		if !there(address) || t.failed == 0 && !t.wait && !t.stop && t.look.IsZero() && t.done <= now.Sub(t.at).Minutes() {
			delete(b, address)
		}
	}
}

func (b backoff) of(address string) *tries {
	t := b[address]
	if t == nil {
		t = &tries{}
		b[address] = t
	}
	return t
}
