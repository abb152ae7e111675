package metrics

import (
	"context"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/usage"
)

const (
	// again is how long a client is left alone after it was measured. With many clients, or large ones, a round takes
	// longer than that; then each one's turn comes once in a round.
	again = time.Hour
	// rest is how many times as long as it worked a measurer rests: it takes 5 % of a processor, or of a disk's time.
	rest = 19
	// stint is for how long it works at least: to rest more often would cost more than the work.
	stint = 2 * time.Millisecond
	// grace is for how long Measure waits for a read that does not end.
	grace = time.Second
)

// Measure measures the clients one after the other, again and again, until ctx ends. It is for a goroutine of its own,
// and only one. A client that is new has its turn next, the others once an hour at most. failed is told which one could
// not be measured, and why; it is tried again in its turn. An upperdir that is not there yet is such a one.
//
// It takes at most a twentieth of one processor and of one disk's time, on a thread that yields to everybody else. While
// it reads an upperdir, the filesystem of that is in use. A read that hangs is left behind when ctx ends.
func (m *Metrics) Measure(ctx context.Context, failed func(Client, error)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and its priority with it
		yieldToAll()
		newMeasurer(m, failed).run(ctx)
	}()
	select {
	case <-done:
		return
	case <-ctx.Done():
	}
	select {
	case <-done:
	case <-time.After(grace):
	}
}

// yieldToAll lets this thread have of processor and disk what nobody else wants. Where that is not allowed, as by a
// SystemCallFilter=, the rests must do. Idle I/O is for the schedulers that know it (BFQ, mq-deadline).
func yieldToAll() {
	const whoProcess, classIdle = 1, 3 << 13 // IOPRIO_WHO_PROCESS; IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0): ioprio_set(2)
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, 0, classIdle)
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 19) // of this thread alone: setpriority(2), "C library/kernel differences"
}

// measurer measures, and rests.
type measurer struct {
	metrics *Metrics
	failed  func(Client, error)
	now     func() time.Time
	after   func(time.Duration) <-chan time.Time
	since   time.Time // when it last began to work
}

func newMeasurer(m *Metrics, failed func(Client, error)) *measurer {
	return &measurer{metrics: m, failed: failed, now: time.Now, after: time.After}
}

func (r *measurer) run(ctx context.Context) {
	r.since = r.now()
	for ctx.Err() == nil {
		c, tried, ok := r.metrics.oldest()
		var turn <-chan time.Time // never, if there are none
		if ok {
			wait := tried.Add(again).Sub(r.now())
			if wait <= 0 {
				r.measure(ctx, c)
				r.pause(ctx)
				continue
			}
			turn = r.after(wait)
		}
		select {
		case <-ctx.Done():
		case <-turn:
		case <-r.metrics.listed:
		}
		r.since = r.now()
	}
}

// measure measures one client. One that is gone meanwhile is not read to its end.
func (r *measurer) measure(ctx context.Context, c Client) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	u, err := usage.Count(ctx, c.Upper, func() {
		if r.pause(ctx) && !r.metrics.has(c) {
			stop()
		}
	})
	if ctx.Err() != nil {
		return
	}
	r.metrics.measured(c, u, err, r.now())
	if err != nil {
		r.failed(c, err)
	}
}

// pause rests, if it has worked long enough for that to be worth it.
func (r *measurer) pause(ctx context.Context) (rested bool) {
	worked := r.now().Sub(r.since)
	if worked < stint {
		return false
	}
	select {
	case <-ctx.Done():
	case <-r.after(rest * worked):
	}
	r.since = r.now()
	return true
}
