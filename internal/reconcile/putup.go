package reconcile

import (
	"errors"
	"slices"

	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// firstFew is how many groups of steps go before a reload begins, so that a few clients do not share the processor and
// the kernel's lock on the mount table with systemd, which reads that table for the reload.
const firstFew = 16

// putUp carries out the groups of steps, and has systemd reload if a reload is owed. That takes it a second where it has
// thousands of units, and no client waits for it: a mount that mount(2) makes needs no unit, and systemd finds the file
// when it sees the mount, whether it has reloaded by then or not. What systemd itself is to start or stop waits for the
// reload, which is when it reads what these units say now.
//
// Many mounts are made while it reloads, and not before: when it has reloaded it takes all of them in at once, where
// otherwise it would read the whole mount table for the first few of them, each time, and then put off the rest (five
// times a second at most, SYSTEMD_DEFAULT_MOUNT_RATE_LIMIT_BURST, 252 and later).
func (a *apply) putUp(groups [][]plan.Step, reload bool) error {
	if len(groups) > 0 {
		a.tell(Mounting)
	}
	if !reload {
		a.groups(groups)
		return nil
	}
	if err := a.connect(); err != nil {
		a.hold(a.unreloaded(groups))
		return err
	}
	var ours, systemds [][]plan.Step
	for _, g := range groups {
		if slices.ContainsFunc(g, a.bySystemd) {
			systemds = append(systemds, g)
		} else {
			ours = append(ours, g)
		}
	}
	few := min(len(ours), firstFew)
	a.groups(ours[:few])
	reloaded := make(chan error, 1)
	go func() { reloaded <- a.manager.Reload(a.work) }()
	a.groups(ours[few:])
	if len(reloaded) == 0 {
		a.tell(Reloading)
	}
	if err := <-reloaded; err != nil {
		a.hold(a.unreloaded(systemds))
		return err
	}
	if len(systemds) > 0 {
		a.tell(Mounting)
		a.groups(systemds)
	}
	return nil
}

// bySystemd tells whether a step is a job of systemd.
func (a *apply) bySystemd(s plan.Step) bool {
	switch s.Kind {
	case plan.StepRestart, plan.StepRevive:
		return true
	case plan.StepUnmount:
		return s.Live.ViaSystemd
	case plan.StepMount:
		return a.p.Changes[s.Change].Do.Start
	case plan.StepRemount, plan.StepReset:
	}
	return false
}

// unreloaded ends the changes that have steps left although systemd could not be reloaded.
func (a *apply) unreloaded(groups [][]plan.Step) map[int]string {
	const why = "its unit is written, but systemd could not be reloaded: apply again"
	out := a.undone()
	for _, g := range groups {
		for _, step := range g {
			a.end(step.Change, Skipped, errors.New(why))
			out[step.Change] = why
		}
	}
	return out
}
