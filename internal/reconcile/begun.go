package reconcile

import (
	"context"
	"time"

	"github.com/overlayd/overlayd/internal/hostlock"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/safedir"
)

// Begun is an apply that has looked and thought, and not acted yet. Close it.
type Begun struct {
	h       *Host
	d       plan.Desired
	targets []plan.Target
	lock    *hostlock.Lock // nil if it was not free; then what was seen does not count when it is
	p       plan.Plan
	o       *plan.Observed
}

// Begin plans what Apply will do. Who acts at once holds the lock from here on, if it is free, and what was seen is not
// looked at a second time: with thousands of overlays a look takes as long as all that is done for one of them. Who asks
// somebody first leaves the lock to others meanwhile.
func (h *Host) Begin(ctx context.Context, d plan.Desired, targets []plan.Target, atOnce bool) (*Begun, error) {
	b := &Begun{h: h, d: d, targets: targets}
	if atOnce && !h.Offline() {
		// Whatever keeps us from it now, Apply says, if there is something to do.
		b.lock, _ = hostlock.Try(lockFile())
	}
	var err error
	if b.p, b.o, err = h.Plan(ctx, d, targets); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// Plan is what Apply will do, if nothing changes before it.
func (b *Begun) Plan() plan.Plan { return b.p }

// Close gives the lock back.
func (b *Begun) Close() {
	if b.lock != nil {
		b.lock.Release()
		b.lock = nil
	}
}

// Apply is [Host.Apply] of what was begun, and ends it.
func (b *Begun) Apply(ctx context.Context, opt ApplyOptions) (Report, error) {
	defer b.Close()
	opt.Targets = b.targets
	if b.lock == nil {
		return b.h.Apply(ctx, b.d, opt)
	}
	if err := b.lock.Sign(); err != nil {
		return Report{}, err
	}
	return b.carryOut(ctx, opt)
}

// carryOut does what is planned. The lock is held.
func (b *Begun) carryOut(ctx context.Context, opt ApplyOptions) (Report, error) {
	a := &apply{
		h: b.h, opt: opt, ctx: ctx, work: context.WithoutCancel(ctx), maker: safedir.NewMaker(b.h.inRoot("/")), p: b.p, o: b.o,
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
