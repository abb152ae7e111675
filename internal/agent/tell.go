package agent

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/agent/state"
	"github.com/overlayd/overlayd/internal/reconcile"
)

const (
	readyLimit = 10 * time.Second // who waits for us to be ready waits no longer for the first look
	warnPause  = 1 * time.Minute  // between two warnings of the same
	stuck      = 10 * time.Minute // one piece of work that takes longer does not end any more
)

// tell logs what is new. What was done is logged where it is done.
func (a *agent) tell(n news) {
	c := n.result.Change
	log := a.Log.WithFields(logrus.Fields{
		"address": c.Address, "change": string(c.Kind), "mountpoint": c.Mountpoint, "unit": c.Unit,
		"reason": reasons(&c), "result": n.what,
	})
	what := c.Address
	if r := reasons(&c); r != "" {
		what += " (" + r + ")"
	}
	if n.what == "held" || n.what == "conflict" || n.what == "over" {
		// Who makes it come and go all the time gets it into the log now and then.
		now, what := time.Now(), n.what+what
		maps.DeleteFunc(a.warnings, func(_ string, at time.Time) bool { return now.Sub(at) >= warnPause })
		if _, lately := a.warnings[what]; lately {
			return
		}
		a.warnings[what] = now
	}
	switch n.what {
	case "held":
		log.Warnf("no %s yet of %s: %v", c.Kind, what, n.result.Err)
	case "conflict":
		log.Warnf("conflict at %s: %s", c.Address, reasons(&c))
	case "over":
		log.Infof("nothing is pending or in conflict any more at %s", c.Address)
	case "gone":
		log.Infof("%s %s, and it was undone at once", reconcile.Past(c.Kind), what)
	case "undone":
		log.Warnf("%s %s, and it is undone again and again, so the next ones wait", reconcile.Past(c.Kind), what)
	default:
		log.WithError(n.result.Err).Errorf("no %s of %s, failed %s, next at %s", c.Kind, what, times(n.failed.Times),
			n.failed.Next.Format(time.TimeOnly))
	}
}

// publish tells others how things stand: the service manager, the state file, the metrics.
func (a *agent) publish() {
	if status := a.status(); status != a.told {
		a.told = status
		a.Notify("STATUS=" + status)
	}
	s := state.State{
		Version: a.Version, Since: a.started, Policy: string(a.settings.Policy), Paths: a.Paths, Spec: a.spec,
		Reconciled: a.reconciled, Pending: sorted(a.book.pending), Conflicts: sorted(a.book.conflicts),
		Failed: sorted(a.book.failed), LastChange: a.book.last,
	}
	if a.published != nil && reflect.DeepEqual(s, *a.published) {
		return
	}
	own := s
	var err error
	if own.PID, own.StartTime, err = state.Self(); err == nil {
		err = a.notice.tell(own)
	}
	if err != nil {
		a.Log.WithError(err).Warn("cannot tell overlayd status how things stand")
		return
	}
	a.published = &s
}

// status is how things stand, in a line.
func (a *agent) status() string {
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{
		{len(a.book.failed), "failed"},
		{len(a.book.conflicts), "in conflict"},
		{len(a.book.pending) - a.book.stopped(), "pending"},
		{a.book.stopped(), "stopped"},
	} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	out := fmt.Sprintf("%d overlays, policy %s", a.spec.Overlays, a.settings.Policy)
	if a.spec.Overlays == 1 {
		out = "1 overlay, policy " + string(a.settings.Policy)
	}
	switch {
	case len(parts) > 0:
		out += ": " + strings.Join(parts, ", ")
	case a.spec.Overlays > 0 && a.trouble == nil:
		out += ": all as declared"
	}
	if a.trouble != nil {
		out += "; " + cut(a.trouble.Error())
	}
	if a.spec.Error != "" {
		first, _, _ := strings.Cut(a.spec.Error, "\n")
		out = "Spec not usable: " + cut(first) + "; " + out
	}
	// A newline would begin another variable.
	return strings.Join(strings.Fields(out), " ")
}

// cut shortens a text to what fits into a line or two.
func cut(text string) string {
	const most = 120
	if r := []rune(text); len(r) > most {
		return string(r[:most]) + "…"
	}
	return text
}

func (a *agent) tellReady() {
	a.ready.Do(func() { a.Notify("READY=1") })
}

// tellReloading begins what READY=1 ends. The time is what Type=notify-reload of systemd 253 and later asks for.
func (a *agent) tellReloading() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return
	}
	a.Notify(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000))
}

// live tells the watchdog that the agent lives, unless it has been at one piece of work for too long.
func (a *agent) live(ctx context.Context) {
	var tick <-chan time.Time
	if a.Alive > 0 {
		t := time.NewTicker(a.Alive / 2)
		defer t.Stop()
		tick = t.C
	}
	for {
		select {
		case <-ctx.Done():
			a.Notify("STOPPING=1\nSTATUS=Stopping; the mounts stay.")
			if err := a.notice.stop(); err != nil {
				a.Log.WithError(err).Warn("cannot tell overlayd status that the agent is stopping")
			}
			return
		case <-tick:
			if since := a.busySince.Load(); since == 0 || time.Since(a.started)-time.Duration(since) < stuck {
				a.Notify("WATCHDOG=1")
			}
		}
	}
}

// cpuTime is what this process has used so far.
func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
