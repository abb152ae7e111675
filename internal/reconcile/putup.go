package reconcile

import (
	"errors"
	"slices"
	"time"

	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// few is up to how many groups of new mounts are made before a reload begins, where that is all. So they do not share the
// processor and the kernel's lock on the mount table with systemd, which reads that table for the reload.
const few = 16

// headStart is what systemd has to take up a reload before many mounts are made. What it takes is a message through the
// bus, well below a millisecond on a machine at rest.
const headStart = 20 * time.Millisecond

// putUp carries out the groups of steps, and has systemd reload if a reload is owed. That takes it a second where it has
// thousands of units, and no client waits for it: a mount that mount(2) makes needs no unit, and systemd finds the file
// when it sees the mount, whether it has reloaded by then or not. What systemd itself is to start or stop waits for the
// reload, which is when it reads what these units say now.
//
// Many new mounts are made while it reloads: when it has reloaded it takes all of them in at once, where otherwise it
// would read the whole mount table for the first of them, each time, and then put off the rest (five times a second at
// most, SYSTEMD_DEFAULT_MOUNT_RATE_LIMIT_BURST, 252 and later). None of them is made before: the first mount that
// systemd sees makes it load overlayd.target and all units that it wants, and a reload after that frees each of them,
// for which systemd 252 looks at all others of the slice, and loads them again. That is twice the time with 2,000.
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
	systemds, ours := split(groups, func(g []plan.Step) bool { return slices.ContainsFunc(g, a.bySystemd) })
	swaps, fresh := split(ours, takesDown)
	a.swaps(swaps)
	many := len(fresh) > few
	if !many {
		a.fresh(fresh)
	}
	reloaded := make(chan error, 1)
	go func() { reloaded <- a.manager.Reload(a.work) }()
	if many {
		time.Sleep(headStart)
		a.fresh(fresh)
	}
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
