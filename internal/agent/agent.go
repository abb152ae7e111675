package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overlayd/overlayd/internal/agent/metrics"
	"github.com/overlayd/overlayd/internal/agent/state"
	"github.com/overlayd/overlayd/internal/hostlock"
	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// Settings are what the settings block and the command line say about the agent.
type Settings struct {
	Policy      plan.Policy
	Resync      time.Duration // between looks at the whole host that nothing asks for
	MetricsFile string        // for the textfile collector of node_exporter, "" for none
}

// DefaultSettings are in force where nobody says otherwise.
func DefaultSettings() Settings { return Settings{Policy: plan.PolicySafe, Resync: 10 * time.Minute} }

// Loaded is a spec that was read.
type Loaded struct {
	Desired  plan.Desired
	Settings Settings
	Err      error    // why it cannot be used, with file and line; then only Settings hold
	Warnings []string // with file and line
}

// Config is what an agent is made of.
type Config struct {
	Host    *reconcile.Host
	Load    func() Loaded // reads the spec
	Paths   []string      // of the spec, absolute: directories and files, those with values too
	Scope   plan.Scope    // of the spec, whether it can be read or not
	Version string
	Log     logrus.FieldLogger
	Notify  func(state string) // tells the service manager, see sd_notify(3)
	Alive   time.Duration      // how often it wants to hear that we live, 0 for never
	Reload  <-chan os.Signal   // each asks to read the spec now
}

// lockPatience is how long a change of the agent's waits for an overlayd that somebody runs.
const lockPatience = 5 * time.Minute

// parallelism of an agent's mounts; it has time.
const parallelism = 4

// Run keeps the host as the spec says until ctx ends; then the action under way is finished, the mounts are left as
// they are, and it returns nil. It is a *[hostlock.HeldError] when an agent runs already.
func Run(ctx context.Context, c Config) error {
	l, err := hostlock.Take(ctx, filepath.Join(state.Dir, "agent.lock"), 0)
	if err != nil {
		return fmt.Errorf("cannot start the agent: %w", err)
	}
	defer l.Release()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := &agent{
		Config: c, notice: notice{dir: state.Dir}, started: time.Now(), metrics: metrics.New(c.Version, time.Now(), known()),
		book: newBook(), backoff: backoff{}, table: outline{},
		missed: map[string]time.Time{}, warnings: map[string]time.Time{},
	}
	if err := a.listen(ctx); err != nil {
		return fmt.Errorf("cannot start the agent: %w", err)
	}
	defer a.hangUp()
	var living sync.WaitGroup
	living.Go(func() { a.live(ctx) })
	a.run(ctx)
	a.endExport()
	cancel()
	living.Wait()
	return nil
}

// agent is one run of Run. All but what live reads belongs to one goroutine.
type agent struct {
	Config
	sources

	schedule schedule
	budget   budget
	backoff  backoff
	book     *book
	table    outline
	changed  []string // mountpoints that were changed since table was read
	metrics  *metrics.Metrics
	exporter exporter
	notice   notice

	settings Settings
	spec     state.Spec
	desired  plan.Desired         // in force
	index    *plan.Index          // of desired
	warned   string               // the warnings of the spec that were told last
	writing  time.Time            // since when somebody has been seen writing the spec
	stamp    string               // of the files of the spec, as they were read last
	inForce  string               // likewise, of the spec in force
	missed   map[string]time.Time // since when an address is in the spec no more, and is about to be deleted
	empty    bool                 // the spec has no overlay, and what was applied from it is in force
	trouble  error                // why the last look failed as a whole
	troubles int                  // in a row

	started    time.Time
	reconciled time.Time
	told       string               // STATUS=
	warnings   map[string]time.Time // when a warning was given last
	published  *state.State         // what others were told last
	ready      sync.Once
	busySince  atomic.Int64 // nanoseconds since the start, 0 while waiting
}

func (a *agent) run(ctx context.Context) {
	a.settings = DefaultSettings()
	late := time.AfterFunc(readyLimit, a.tellReady)
	a.work(ctx, task{load: true, whole: true, why: triggerStart})
	late.Stop()
	a.tellReady()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		now := time.Now()
		if at := a.schedule.next(now, a.budget.wait(now)); at.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(at))
		}
		select {
		case <-ctx.Done():
		case <-timer.C:
		case _, ok := <-a.mounts:
			a.schedule.mounts = true
			if !ok {
				a.deaf(ctx)
			}
		case <-a.specFiles.Changes():
			a.schedule.spec.happened(time.Now())
		case <-a.hostFiles.Changes():
			a.schedule.hostChanged(triggerUnits, time.Now())
		case e := <-a.signals:
			a.signalled(e)
		case err := <-a.specFiles.Errors():
			a.Log.WithError(err).Warn("changes of the spec may be seen late")
		case err := <-a.hostFiles.Errors():
			a.Log.WithError(err).Warn("changes of unit files may be seen late")
		case <-a.Reload:
			a.schedule.hangup = true
		}
		for ctx.Err() == nil {
			now = time.Now()
			t := a.schedule.due(now, a.budget.wait(now))
			if !t.any() {
				break
			}
			a.work(ctx, t)
		}
	}
	if err := a.notice.end(); err != nil {
		a.Log.WithError(err).Warn("cannot take back what the agent told")
	}
}

// work does what is due, and takes what it cost from the budget.
func (a *agent) work(ctx context.Context, t task) {
	a.busySince.Store(int64(time.Since(a.started)))
	defer a.busySince.Store(0)
	begun, used := time.Now(), cpuTime()
	if t.why == triggerHangup {
		a.tellReloading()
	}
	if t.load {
		a.load(t.why)
	}
	vain := a.look(ctx, t)
	now := time.Now()
	if vain {
		// What is changed costs more, and is bounded by the back-off of each overlay.
		a.budget.spend(cpuTime()-used, now)
	}
	if t.whole {
		a.schedule.resync = now.Add(a.settings.Resync)
		debug.FreeOSMemory() // a look at thousands of overlays takes far more than what is kept of it
	}
	a.schedule.retry = a.backoff.next()
	if a.trouble != nil || !a.schedule.spec.first.IsZero() {
		a.schedule.retry = time.Time{} // with the look at the whole host that comes
	}
	if t.whole && len(a.book.conflicts) > 0 {
		// What a process in another mount namespace holds ends without a word.
		a.schedule.again = earliest(a.schedule.again, now.Add(conflictPause))
	}
	a.metrics.Reconciled(string(t.why), now.Sub(begun), now)
	a.export(ctx)
	a.overview()
	a.publish()
	if t.why == triggerHangup {
		a.Notify("READY=1")
	}
}

// look finds out what a task is about and has it made right. It tells whether it was in vain: nothing was changed, nor
// had the agent itself given the reason to look.
func (a *agent) look(ctx context.Context, t task) (vain bool) {
	table, err := readOutline()
	if err != nil {
		a.stumbled(err)
		return true
	}
	moved := a.table.changed(table)
	a.table = table
	a.followMounts(moved)
	// What was mounted since the look before may be gone again, and then the table shows no difference.
	own := a.changed
	places := append(moved, own...)
	a.changed = nil
	if t.whole {
		a.fallBack()
		return !a.reconcile(ctx, a.desired, nil, t)
	}
	echo := len(own) > 0 && !slices.ContainsFunc(moved, func(at string) bool { return !slices.Contains(own, at) })
	if t.retry {
		places = append(places, a.waiting()...)
	}
	d := a.index.Around(places)
	if len(d.Overlays) == 0 {
		return true
	}
	addresses := make([]string, 0, len(d.Overlays))
	for _, o := range d.Overlays {
		addresses = append(addresses, o.Address)
	}
	return !a.reconcile(ctx, d, addresses, t) && !echo
}

// waiting gives the mountpoints of what has waited long enough. What is no longer in the spec shows in a look at the
// whole host only.
func (a *agent) waiting() []string {
	due := map[string]bool{}
	for _, address := range a.backoff.due(time.Now()) {
		due[address] = true
	}
	var out []string
	for _, o := range a.desired.Overlays {
		if due[o.Address] {
			out = append(out, o.Mountpoint)
			delete(due, o.Address)
		}
	}
	if len(due) > 0 {
		a.schedule.hostChanged(triggerRetry, time.Now())
		for address := range due {
			a.backoff.later(address, time.Time{})
		}
	}
	return out
}

// reconcile has what is desired made, as far as the policy goes. It is about these addresses, or all of them with nil.
func (a *agent) reconcile(ctx context.Context, d plan.Desired, about []string, t task) (changed bool) {
	report, err := a.Host.Apply(ctx, d, reconcile.ApplyOptions{
		Parallelism: parallelism, LockTimeout: lockPatience,
		Unattended: &reconcile.Unattended{
			Policy: a.settings.Policy,
			Hold:   func(c plan.Change) string { return a.hold(&c, about != nil, t) },
			Stale:  a.stale,
		},
	})
	if ctx.Err() != nil {
		return true // what was not reached is no failure
	}
	now := time.Now()
	if errors.Is(err, reconcile.ErrStale) {
		if a.schedule.spec.first.IsZero() {
			a.schedule.spec.happened(now) // the event is on its way, and this look was for nothing
		}
		return false
	}
	if err != nil {
		a.stumbled(err)
		if len(report.Results) == 0 {
			return false // it did not get so far as to know anything
		}
	} else if t.whole {
		a.trouble, a.troubles, a.reconciled = nil, 0, now
	}
	for i := range report.Results {
		if errors.Is(report.Results[i].Err, reconcile.ErrNotReached) && err != nil {
			report.Results[i].Err = err
		}
	}
	if about != nil {
		about = a.widen(&report, about, t)
	}
	asked := t.why == triggerStart || t.why == triggerSpec || t.why == triggerHangup
	for _, n := range a.book.enter(report, about, asked, a.backoff, now) {
		a.tell(n)
	}
	for _, each := range report.Results {
		if each.Change.Kind != plan.Conflict && each.Status != reconcile.Held {
			a.metrics.Changed(string(each.Change.Kind), string(each.Status))
			a.changed = append(a.changed, each.Change.Mountpoint)
		}
	}
	if t.whole {
		if err := a.Host.Remember(d); err != nil {
			a.Log.WithError(err).Debug("the next look takes longer")
		}
		a.watchMissing(report)
		there := map[string]bool{}
		for _, o := range d.Overlays {
			there[o.Address] = true
		}
		for _, each := range report.Results {
			there[each.Change.Address] = true
		}
		a.backoff.forget(func(address string) bool { return there[address] }, now)
		for _, o := range d.Overlays {
			delete(a.missed, o.Address)
		}
		maps.DeleteFunc(a.missed, func(address string, _ time.Time) bool { return !there[address] })
		for address, since := range a.missed {
			if at := since.Add(ripening); at.After(now) {
				a.backoff.later(address, at)
			}
		}
	}
	return report.Changed()
}

// stumbled notes that a look failed as a whole, and asks for another one.
func (a *agent) stumbled(err error) {
	if !a.schedule.again.IsZero() {
		return // it is known
	}
	a.troubles++
	if a.trouble == nil || a.trouble.Error() != err.Error() {
		a.Log.WithError(err).Error("cannot reconcile; it is tried again")
	}
	a.trouble = err
	a.schedule.again = time.Now().Add(pause(a.troubles, lastPause))
}
