package reconcile

import (
	"context"
	"time"

	"github.com/overlayd/overlayd/internal/hostlock"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/safedir"
)

// hold is what who acts at once has from his first look on, so that what was seen still counts when he acts.
type hold struct {
	lock  *hostlock.Lock   // nil if it was not free, and for who asks somebody first
	since *host.TableWatch // begun before the look; nil where nothing is mounted, and without the lock
}

// watch begins to watch the mount table. Where that fails, it is read again instead.
func (k *hold) watch() { k.since, _ = host.WatchTable() }

func (k *hold) close() {
	if k.lock != nil {
		k.lock.Release()
	}
	k.since.Close()
	*k = hold{}
}

// Ahead is a look at the host that has begun before it is known what is desired: with thousands of overlays it takes
// about as long as to read their spec. Close it.
type Ahead struct {
	h    *Host
	hold hold
	g    *glance
	err  error
	done chan struct{} // closed when g or err is there
}

// LookAhead begins to look. Who acts at once holds the lock from here on, if it is free, so that what was seen is not
// looked at a second time: with thousands of overlays a look takes as long as all that is done for one of them. Who asks
// somebody first, or only wants to know, leaves the lock to others meanwhile.
func (h *Host) LookAhead(atOnce bool) *Ahead {
	a := &Ahead{h: h, done: make(chan struct{})}
	if atOnce && !h.Offline() {
		// Whatever keeps us from it now, Apply says, if there is something to do.
		if a.hold.lock, _ = hostlock.Try(lockFile()); a.hold.lock != nil {
			a.hold.watch()
		}
	}
	go func() {
		defer close(a.done)
		a.g, a.err = h.glance()
	}()
	return a
}

// Close gives the lock back, unless Begin has passed it on.
func (a *Ahead) Close() { a.hold.close() }

// Begin plans what Apply will do, by what the look ahead has seen. It can be called once.
func (a *Ahead) Begin(ctx context.Context, d plan.Desired, targets []plan.Target) (*Begun, error) {
	if <-a.done; a.err != nil {
		return nil, a.err
	}
	p, o, err := a.h.planFrom(ctx, a.g, d, targets)
	if err != nil {
		return nil, err
	}
	b := &Begun{h: a.h, d: d, targets: targets, hold: a.hold, p: p, o: o}
	a.g, a.hold = nil, hold{}
	return b, nil
}

// Begun is an apply that has looked and thought, and not acted yet. Close it.
type Begun struct {
	h       *Host
	d       plan.Desired
	targets []plan.Target
	hold    hold
	p       plan.Plan
	o       *plan.Observed
}

// Plan is what Apply will do, if nothing changes before it.
func (b *Begun) Plan() plan.Plan { return b.p }

// Close gives the lock back.
func (b *Begun) Close() { b.hold.close() }

// Apply is [Host.Apply] of what was begun, and ends it.
func (b *Begun) Apply(ctx context.Context, opt ApplyOptions) (Report, error) {
	defer b.Close()
	opt.Targets = b.targets
	if b.hold.lock == nil {
		return b.h.Apply(ctx, b.d, opt)
	}
	if err := b.hold.lock.Sign(); err != nil {
		return Report{}, err
	}
	return b.carryOut(ctx, opt)
}

// carryOut does what is planned. The lock is held.
func (b *Begun) carryOut(ctx context.Context, opt ApplyOptions) (Report, error) {
	a := &apply{
		h: b.h, opt: opt, ctx: ctx, work: context.WithoutCancel(ctx), maker: safedir.NewMaker(b.h.inRoot("/")), p: b.p, o: b.o,
		since:   b.hold.since,
		results: map[int]*Result{}, took: map[int]time.Duration{},
		wrong: map[int]error{}, takings: map[int]*taking{}, mounted: map[int]bool{},
	}
	defer a.close()
	if err := a.prepare(b.d); err != nil { //nolint:contextcheck // the apply has it
		return Report{}, err
	}
	err := a.carryOut() //nolint:contextcheck // the apply has it
	return a.report(), err
}
