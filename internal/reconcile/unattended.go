package reconcile

import (
	"context"
	"fmt"

	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/units"
	"github.com/overlayd/overlayd/internal/units/systemd"
)

// Unattended says how an apply goes about it that nobody watches. It waits for no job of systemd, and leaves alone what
// systemd or its administrator are at: what must wait ends as [Held].
type Unattended struct {
	Policy plan.Policy
	Hold   func(plan.Change) string // why a change must not be tried now, "" if it may
	// Stale tells that what is desired is not what the spec says by now. It is asked under the lock: else the spec that
	// somebody has just changed and applied would be undone. Then the apply is ErrStale, and nothing is done.
	Stale func() bool
}

// Holder is who or what a change that is held waits for.
type Holder string

// Whom a change can wait for.
const (
	HeldByPolicy   Holder = "policy"   // overlayd apply
	HeldByStop     Holder = "stop"     // somebody who starts it again: systemctl stop took it down
	HeldByJob      Holder = "job"      // the end of what systemd is doing
	HeldByStopJob  Holder = "stop_job" // likewise, and that is to take it down
	HeldByUsers    Holder = "users"    // the end of those who use it
	HeldByCaller   Holder = "caller"   // what Unattended.Hold says
	HeldByOther    Holder = "other"    // another change that is held
	HeldByShutdown Holder = "shutdown" // nothing: systemd is stopping
)

// WhyStopped is why an overlay stays down that a stop job took down.
const WhyStopped = "stopped with systemctl: systemctl start or overlayd apply brings it back"

// HeldError says why a change was not tried.
type HeldError struct {
	By  Holder
	Why string
}

func (e *HeldError) Error() string { return e.Why }

// attend ends what an unattended apply must not do now, with what cannot be done without it, and gives the reasons.
func (a *apply) attend() (map[int]string, error) {
	if a.opt.Unattended == nil {
		return map[int]string{}, nil
	}
	if a.opt.Unattended.Stale() {
		return nil, fmt.Errorf("%w; the spec is another one", ErrStale)
	}
	held, err := a.mustWait()
	if err != nil {
		return nil, err
	}
	going := a.going()
	for i := range a.p.Changes {
		c := &a.p.Changes[i]
		c.Do.Detach = false // to be asked for by somebody who sees who uses it
		if held[i] != nil || len(c.Do.Unmount) == 0 {
			continue
		}
		if err := idle(*c, going); err != nil {
			held[i] = &HeldError{HeldByUsers, err.Error()}
		}
	}
	a.lingering(held)
	reasons := make(map[int]string, len(held))
	for i, e := range held {
		reasons[i] = e.Why
	}
	reasons = a.p.Hold(reasons)
	for i, why := range reasons {
		e := held[i]
		if e == nil {
			e = &HeldError{HeldByOther, why}
		}
		a.end(i, Held, e)
	}
	return reasons, nil
}

// mustWait gives what is not to be done by policy, by the caller's word, or because systemd or its administrator are at
// it. It asks systemd after the mount table was read: what a stop job took down before that still has its job, or bears
// its marks.
func (a *apply) mustWait() (map[int]*HeldError, error) {
	u := a.opt.Unattended
	held := map[int]*HeldError{}
	open := map[int]bool{}
	for i := range a.p.Changes {
		c := &a.p.Changes[i]
		if c.Kind == plan.NoOp || c.Kind == plan.Conflict {
			continue
		}
		open[i] = true
		if why := u.Policy.Refuses(c); why != "" {
			held[i] = &HeldError{HeldByPolicy, why}
		} else if why := u.Hold(*c); why != "" {
			held[i] = &HeldError{HeldByCaller, why}
		} else {
			continue
		}
		delete(open, i)
	}
	if !a.o.Systemd || len(open) == 0 {
		return held, nil
	}
	at, err := a.atWork(open)
	if err != nil {
		return nil, err
	}
	a.targetUp = at.TargetUp
	for i := range open {
		if e, err := waitsFor(&a.p.Changes[i], at); err != nil {
			return nil, err
		} else if e != nil {
			held[i] = e
		}
	}
	return held, nil
}

// lingering holds what would be the second mount on an upperdir. It asks when systemd has been found to be at rest: what
// is just being mounted is in use before the mount table has it, and an apply that somebody waits for meets such mounts.
func (a *apply) lingering(held map[int]*HeldError) {
	by := map[string]int{}
	var uppers []string
	for i := range a.p.Changes {
		c := &a.p.Changes[i]
		if a.remounts(c) && held[i] == nil {
			by[c.Do.Mount.Upper] = i
			uppers = append(uppers, c.Do.Mount.Upper)
		}
	}
	for upper := range host.InUse(uppers) {
		held[by[upper]] = &HeldError{HeldByUsers, outOfSight(upper)}
	}
}

// waitsFor gives what a change waits for by what systemd is at, nil for nothing.
func waitsFor(c *plan.Change, at systemd.AtWork) (*HeldError, error) {
	if at.Stopping {
		return &HeldError{HeldByShutdown, "systemd is stopping"}, nil
	}
	for _, unit := range append([]string{c.Unit, units.TargetName}, c.Do.Remove...) {
		if job := at.Busy[unit]; job != "" {
			by := HeldByJob
			if job == "stop" {
				by = HeldByStopJob
			}
			return &HeldError{by, "systemd is at work on " + unit + " (" + job + ")"}, nil
		}
	}
	if c.Do.Mount == nil || len(c.Do.Unmount) > 0 || !at.Stopped[c.Unit] {
		return nil, nil
	}
	// What a killed reset stopped, nobody wants down.
	if _, halfway, err := readHalfway(c.Unit); err != nil || halfway {
		return nil, err
	}
	return &HeldError{HeldByStop, WhyStopped}, nil
}

// atWork asks systemd about the units of changes.
func (a *apply) atWork(changes map[int]bool) (systemd.AtWork, error) {
	if err := a.connect(); err != nil {
		return systemd.AtWork{}, err
	}
	var names []string
	for i := range changes {
		names = append(append(names, a.p.Changes[i].Unit), a.p.Changes[i].Do.Remove...)
	}
	return a.manager.AtWork(a.work, names)
}

// connect connects to systemd, once for an apply: one that needs nothing of it needs no D-Bus.
func (a *apply) connect() (err error) {
	if a.manager == nil {
		a.manager, a.hangUp, err = a.h.dial(a.ctx)
	}
	return err
}

// dial gives a connection to systemd, and what to do with it afterwards.
func (h *Host) dial(ctx context.Context) (*systemd.Manager, func(), error) {
	if h.Systemd != nil {
		return h.Systemd, func() {}, nil
	}
	m, err := systemd.Connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	return m, m.Close, nil
}
