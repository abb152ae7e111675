package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/safedir"
	"github.com/overlayd/overlayd/internal/units"
	"github.com/overlayd/overlayd/internal/units/systemd"
)

// ErrStale says that the host is no longer as it was when the plan was made.
var ErrStale = errors.New("the plan is stale: the host has changed since")

// ErrNotReached says that a change was not tried, as the apply failed as a whole before.
var ErrNotReached = errors.New("not reached: an earlier step of the apply failed")

// ApplyOptions say how an apply goes about it.
type ApplyOptions struct {
	Targets     []plan.Target
	Parallelism int           // mounts made, or taken away, at the same time, at least 1
	LockTimeout time.Duration // how long to wait for another overlayd
	Approved    []Agreed      // what somebody agreed to, nil for anything; else ErrStale
	Purge       bool          // delete the data directories that overlayd made for what is deleted
	Unattended  *Unattended   // set where nobody watches

	// Progress is told how far it is, nil for nobody. It is called a few times per change, by several goroutines at a
	// time and not always in order, and what it is told by waits for it: it takes note, and draws in its own time.
	Progress func(Progress)
}

// Apply brings the host to what d desires. It looks again under the lock, so what it does is what is needed then; the
// report tells what became of each change. The error is about the apply as a whole (lock, systemd, unit directory);
// the report is true in any case.
//
// A cancelled ctx lets the step under way finish and skips the rest. Killed at any point, the next Apply converges.
func (h *Host) Apply(ctx context.Context, d plan.Desired, opt ApplyOptions) (Report, error) {
	b := &Begun{h: h, d: d, targets: opt.Targets}
	defer b.Close()
	var err error
	if !h.Offline() {
		if b.hold.lock, err = acquire(ctx, opt.LockTimeout); err != nil {
			return Report{}, err
		}
		b.hold.watch()
	}
	if b.p, b.o, err = h.Plan(ctx, d, opt.Targets); err != nil {
		return Report{}, err
	}
	return b.carryOut(ctx, opt)
}

// apply is one run of Apply.
type apply struct {
	h       *Host
	opt     ApplyOptions
	ctx     context.Context // cancelled: begin nothing more
	work    context.Context // of what has begun, which is finished
	p       plan.Plan
	o       *plan.Observed
	since   *host.TableWatch // from before o; may be nil
	manager *systemd.Manager // nil until it is needed
	hangUp  func()           // ends what manager is
	maker   *safedir.Maker
	layers  map[string]bool // of live overlays, with the directories above them
	tally   tally           // for opt.Progress

	mu      sync.Mutex // guards all below
	run     *plan.Run
	results map[int]*Result
	took    map[int]time.Duration // time in the steps of a change
	wrong   map[int]error         // what went wrong with a change that has to be finished all the same
	purged  []string
	aside   []string        // what resets set aside
	takings map[int]*taking // what resets take
	mounted map[int]bool    // mounted by this apply
	revived []string        // units that were started again
	failed  bool            // a step went wrong since this was last reset
	others  error           // about units of no change

	writing map[overlayfs.FileID]string // who writes to which directory, see writer

	targetUp    bool // overlayd.target was seen to be active
	targetGone  bool // overlayd.target was removed with the last unit
	notReloaded bool // unit files changed where no systemd runs
}

func (a *apply) close() {
	if a.hangUp != nil {
		a.hangUp()
	}
}

// jobsLimit bounds the wait for jobs of systemd. A mount's own job ends after TimeoutSec=30s of its unit.
const jobsLimit = 2 * time.Minute

// prepare waits for systemd's own jobs on what the plan touches, and plans again if there were any, or if the mount
// table changed meanwhile: such a job may have ended just before the wait began.
func (a *apply) prepare(d plan.Desired) error {
	if a.o.Systemd && a.p.Pending() && a.opt.Unattended == nil {
		again, err := a.waitForJobs()
		if err != nil {
			return err
		}
		if again {
			if a.p, a.o, err = a.h.Plan(a.ctx, d, a.opt.Targets); err != nil {
				return err
			}
		}
	}
	if a.opt.Approved != nil && !slices.EqualFunc(a.opt.Approved, Agree(a.p), Agreed.equal) {
		return fmt.Errorf("%w (%s); plan again", ErrStale, otherwise(a.opt.Approved, Agree(a.p)))
	}
	a.run, a.layers = plan.NewRun(a.o), layersOf(a.o.Mounts)
	return nil
}

// waitForJobs tells whether the plan has to be made again.
func (a *apply) waitForJobs() (again bool, err error) {
	if err := a.connect(); err != nil {
		return false, err
	}
	names := map[string]bool{}
	for _, c := range a.p.Changes {
		if c.Kind == plan.NoOp || c.Kind == plan.Conflict {
			continue
		}
		names[c.Unit] = true
		for _, unit := range c.Do.Remove {
			names[unit] = true
		}
	}
	ctx, cancel := context.WithTimeout(a.ctx, jobsLimit)
	defer cancel()
	waited, err := a.manager.WaitJobs(ctx, names)
	if err != nil || waited {
		return waited, err
	}
	if !a.since.Changed() {
		return false, nil
	}
	now, err := host.ReadTable()
	if err != nil {
		return false, err
	}
	return !sameMounts(now, a.o.Mounts), nil
}

// carryOut does the steps of the plan in order: checks, what goes down for good, unit files, what is replaced and what
// is new while systemd reloads, overlayd.target.
func (a *apply) carryOut() error {
	waits, err := a.attend()
	if err != nil {
		return err
	}
	a.emptyLeftovers()
	held := a.preflight(waits)
	if a.nothingLeft() {
		return nil
	}
	schedule := a.p.Steps(func(i int) bool {
		_, no := held[i]
		return !no
	})
	a.tell(Writing)
	staged, batch, err := a.stage()
	if err != nil {
		return err
	}
	a.failed = false
	if len(schedule.Down) > 0 {
		a.tell(Unmounting)
	}
	a.takeDown(schedule.Waves())
	if a.failed {
		// Something that was to go is still mounted: its unit file stays, and so does what was to follow it.
		a.hold(a.undone())
		staged.Discard()
		if staged, batch, err = a.stage(); err != nil {
			return err
		}
	}
	owed, err := a.commit(staged, batch)
	a.offlineDirs()
	if err == nil {
		err = a.putUp(schedule.Groups, owed)
	} else {
		a.hold(a.unreloaded(schedule.Groups))
	}
	mounted, verr := a.verify()
	a.finishUnits()
	if err == nil {
		a.tell(Settling)
		err = a.settle(mounted, owed)
	}
	if err == nil {
		err = a.resume()
	}
	a.cleanUp()
	return errors.Join(err, verr, a.others)
}

// nothingLeft tells whether all there was to do has ended, as held or failed.
func (a *apply) nothingLeft() bool {
	if u := a.opt.Unattended; u != nil && u.Policy == plan.PolicyObserve {
		return true
	}
	for i, c := range a.p.Changes {
		if c.Kind != plan.NoOp && a.results[i] == nil {
			return false
		}
	}
	return a.p.Target == plan.TargetKeep && !a.h.Unfinished()
}

// undone gives the changes that have failed or were skipped so far.
func (a *apply) undone() map[int]string {
	out := map[int]string{}
	for i, r := range a.results {
		if r.Status != Done && r.Err != nil {
			out[i] = r.Err.Error()
		}
	}
	return out
}

// stage writes the unit files under temporary names. A unit that cannot be written fails its change, and the others
// are staged without it.
func (a *apply) stage() (*systemd.Staged, systemd.Batch, error) {
	for {
		batch := a.batch()
		staged, err := a.h.dir().Stage(batch)
		if !a.blame(err) {
			return staged, batch, err
		}
	}
}

// blame ends the changes whose units an error of the unit directory is about. It answers false if that explains
// nothing, and then err stands for the whole apply.
func (a *apply) blame(err error) bool {
	var each *systemd.BatchError
	if !errors.As(err, &each) {
		return false
	}
	found := map[string]bool{}
	for i, c := range a.p.Changes {
		if cause := each.Units[c.Unit]; cause != nil && a.results[i] == nil && c.Kind != plan.NoOp {
			a.end(i, Failed, cause)
			found[c.Unit] = true
		}
	}
	if len(found) == 0 {
		return false
	}
	for unit, cause := range each.Units {
		if !found[unit] { // overlayd.target, or a unit that is no longer its change's
			a.others = errors.Join(a.others, cause)
		}
	}
	return true
}

// commit puts the unit files in place, and tells whether a reload is owed. The note of that is taken back when
// overlayd.target runs as well, so that a killed apply is finished by the next one.
func (a *apply) commit(staged *systemd.Staged, batch systemd.Batch) (reload bool, err error) {
	changes := len(batch.Write)+len(batch.Remove)+len(batch.Link)+len(batch.Unlink) > 0
	owed := a.h.owed()
	if changes && !a.h.Offline() {
		if err := owed.set(); err != nil {
			staged.Discard()
			return false, err
		}
	}
	if err := staged.Commit(); err != nil && !a.blame(err) {
		return false, err
	}
	a.targetGone = slices.Contains(batch.Remove, units.TargetName)
	if a.h.Offline() || !changes && !owed.isSet() {
		return false, nil
	}
	if !a.o.Systemd {
		a.notReloaded = true
		return false, owed.clear() // there is nothing to reload, and systemd reads all units when it starts
	}
	return true, nil
}

// report gathers the results in the order of the plan.
func (a *apply) report() Report {
	r := Report{
		Purged: a.purged, InSync: a.p.Count(plan.NoOp),
		NotReloaded: a.notReloaded,
	}
	for i, c := range a.p.Changes {
		switch {
		case c.Kind == plan.NoOp:
			continue
		case a.results[i] == nil:
			a.end(i, Skipped, ErrNotReached)
		}
		r.Results = append(r.Results, *a.results[i])
		if a.results[i].Status == Done {
			r.Kept = append(r.Kept, kept(c, a.purged)...)
		}
	}
	r.Kept = append(r.Kept, a.aside...)
	return r
}

func kept(c plan.Change, purged []string) []string {
	var out []string
	for _, dir := range c.Keeps {
		if !slices.Contains(purged, dir) {
			out = append(out, dir)
		}
	}
	return out
}
