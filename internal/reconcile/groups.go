package reconcile

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// groups carries out the groups of steps: first those that take something down, then the new mounts.
func (a *apply) groups(groups [][]plan.Step) {
	swaps, fresh := split(groups, takesDown)
	a.swaps(swaps)
	a.fresh(fresh)
}

// swaps carries out groups that take something down, one after the other, so that at most one client at a time is
// without its mount.
func (a *apply) swaps(groups [][]plan.Step) {
	for _, g := range groups {
		a.group(g)
	}
}

// fresh carries out groups of new mounts, several at once.
func (a *apply) fresh(groups [][]plan.Step) {
	a.several(len(groups), func(i int) { a.group(groups[i]) })
}

func takesDown(g []plan.Step) bool {
	return g[0].Kind == plan.StepUnmount || g[0].Kind == plan.StepRestart
}

// split divides groups into those that are so, and the others.
func split(groups [][]plan.Step, so func([]plan.Step) bool) (yes, no [][]plan.Step) {
	for _, g := range groups {
		if so(g) {
			yes = append(yes, g)
		} else {
			no = append(no, g)
		}
	}
	return yes, no
}

// takeDown takes down what goes for good, or leaves its mountpoint: several at once where they are independent. The
// kernel brings the filesystem of the upperdir to disk at each umount(2), and does so once for all that wait for it.
func (a *apply) takeDown(waves [][]plan.Step) {
	one := func(s plan.Step) {
		// What only makes way for its own mount is finished with it, whatever comes in between.
		if a.ctx.Err() != nil && a.p.Changes[s.Change].Do.Mount == nil {
			a.interrupted(s.Change)
			return
		}
		a.step(s)
	}
	for _, wave := range waves {
		// What is detached is noted in a file, each with those before it; a stop job can take others of ours along.
		alone := func(s plan.Step) bool { return a.p.Changes[s.Change].Do.Detach || s.Live.ViaSystemd }
		var free []plan.Step
		for _, s := range wave {
			if alone(s) {
				one(s)
			} else {
				free = append(free, s)
			}
		}
		a.several(len(free), func(i int) { one(free[i]) })
	}
}

// several calls do for each of n, as many at a time as is allowed.
func (a *apply) several(n int, do func(i int)) {
	next := make(chan int)
	var workers sync.WaitGroup
	for range max(1, min(a.opt.Parallelism, n)) {
		workers.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	workers.Wait()
}

// group takes the steps of a group, all or, if interrupted before it began, none: what was taken down comes back up.
func (a *apply) group(steps []plan.Step) {
	if a.ctx.Err() != nil && !a.begun(steps) {
		for _, s := range steps {
			a.interrupted(s.Change)
		}
		return
	}
	if err := a.beginReset(steps); err != nil {
		for _, s := range steps {
			a.end(s.Change, Failed, err)
		}
		return
	}
	for _, s := range steps {
		a.step(s)
	}
	a.endReset(steps)
	for _, s := range steps {
		a.finished(s.Change)
	}
}

// begun tells whether something of a group was taken down before the unit files changed.
func (a *apply) begun(steps []plan.Step) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(steps, func(s plan.Step) bool { _, yes := a.took[s.Change]; return yes })
}

func (a *apply) interrupted(i int) {
	a.end(i, Skipped, errors.New("interrupted before its turn: run it again"))
}

// step takes one step, if the account of what is mounted allows it, and records how it went.
func (a *apply) step(s plan.Step) {
	c := &a.p.Changes[s.Change]
	a.mu.Lock()
	ended := a.results[s.Change] != nil
	refusal := a.run.Refuse(c, s)
	if s.Kind == plan.StepRevive {
		// A stop job that fails has stopped units all the same. Without the mount they cannot run.
		ended = !a.run.Mounted(c.Mountpoint)
	}
	a.mu.Unlock()
	switch {
	case ended:
		return
	case refusal != "":
		a.end(s.Change, Skipped, errors.New(refusal))
		return
	}
	a.begins(s.Change)
	begun := time.Now()
	err := a.do(s)
	a.mu.Lock()
	a.took[s.Change] += time.Since(begun)
	a.mu.Unlock()
	if c.Kind == plan.Delete {
		a.finished(s.Change) // its unit file goes with all the others
	}
	switch {
	case errors.Is(err, errDetached):
		return
	case err != nil && s.Kind == plan.StepReset:
		a.mu.Lock()
		a.wrong[s.Change] = err // it was taken down, and has to come up again as it was
		a.mu.Unlock()
		return
	case err != nil:
		a.end(s.Change, Failed, err)
		return
	}
	a.mu.Lock()
	if s.Kind == plan.StepRevive {
		a.revived = append(a.revived, c.Impact.Units...)
	}
	a.run.Did(c, s)
	if s.Kind == plan.StepMount {
		a.mounted[s.Change] = true
	}
	a.mu.Unlock()
}

// end records how a change ended; the first word counts.
func (a *apply) end(i int, status Status, err error) {
	a.finished(i)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.results[i] != nil {
		return
	}
	r := &Result{Change: a.p.Changes[i], Status: status, Err: err, Duration: a.took[i]}
	a.results[i] = r
	a.failed = a.failed || status != Done
	log := a.h.Log.WithFields(logrus.Fields{
		"address": r.Change.Address, "change": string(r.Change.Kind), "mountpoint": r.Change.Mountpoint,
		"unit": r.Change.Unit, "reason": strings.Join(r.Change.Reasons, "; "), "result": string(status),
		"duration": r.Duration.Round(time.Microsecond).String(),
	})
	what := r.Change.Address
	if len(r.Change.Reasons) > 0 {
		what += " (" + strings.Join(r.Change.Reasons, "; ") + ")"
	}
	if err != nil {
		log.WithError(err).Debugf("%s %s %s", r.Change.Kind, what, status)
		return
	}
	log.Info(Past(r.Change.Kind) + " " + what)
}
