package reconcile_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// begin looks, and asks for what it is going to do.
func (w *world) begin(atOnce bool, want ...string) *reconcile.Begun {
	w.t.Helper()
	look := w.LookAhead(atOnce)
	defer look.Close()
	b, err := look.Begin(w.t.Context(), w.d, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(b.Close)
	for _, address := range want {
		if c, ok := b.Plan().Find(address); !ok || c.Kind == plan.NoOp {
			w.t.Fatalf("it is not going to change %s:\n%s", address, describe(b.Plan()))
		}
	}
	return b
}

func (w *world) finish(b *reconcile.Begun, want ...string) {
	w.t.Helper()
	r, err := b.Apply(w.t.Context(), reconcile.ApplyOptions{Parallelism: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	w.wantResults(r, want...)
	w.inSync()
}

// Who acts at once has the lock from the first look on, so that what it saw is so when it acts.
func TestBeginAtOnce(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base))
	b := w.begin(true, "overlay.a")
	_, err := w.Apply(t.Context(), w.d, reconcile.ApplyOptions{LockTimeout: time.Millisecond})
	if !errors.Is(err, reconcile.ErrLocked) {
		t.Errorf("error %v of another apply, want that it is locked out", err)
	}
	w.finish(b, "overlay.a create done")
	b = w.begin(true)
	b.Close()
	b.Close()       // as a deferred one does
	w.umount("m/a") // that the lock is free again
	w.apply("overlay.a repair done")
}

// A look ahead of which nothing came, as when the spec turns out to be broken, gives the lock back.
func TestLookAheadForNothing(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base))
	look := w.LookAhead(true)
	_, err := w.Apply(t.Context(), w.d, reconcile.ApplyOptions{LockTimeout: time.Millisecond})
	if !errors.Is(err, reconcile.ErrLocked) {
		t.Errorf("error %v of another apply, want that it is locked out", err)
	}
	look.Close()
	look.Close() // as a deferred one does
	w.apply("overlay.a create done")
}

// Who asks first leaves the lock to others, and then does what is needed by then.
func TestBeginAndAsk(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base), overlay("b", base))
	asked, other := w.begin(false, "overlay.a", "overlay.b"), w.begin(false, "overlay.a")
	agreed := reconcile.Agree(asked.Plan())
	w.run(reconcile.ApplyOptions{})
	if _, err := asked.Apply(t.Context(), reconcile.ApplyOptions{Approved: agreed}); !errors.Is(err, reconcile.ErrStale) {
		t.Errorf("error %v, want that the plan is stale", err)
	}
	w.umount("m/b")
	w.finish(other, "overlay.b repair done")
}

// Where another overlayd is at work the plan is shown all the same, and what the other one did is not done again.
func TestBeginWhileLocked(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base), overlay("b", base)).apply("overlay.a create done", "overlay.b create done")
	f, err := os.Open("/run/overlayd/lock")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w.umount("m/a")
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	b := w.begin(true, "overlay.a")
	if _, err := b.Apply(t.Context(), reconcile.ApplyOptions{}); !errors.Is(err, reconcile.ErrLocked) {
		t.Errorf("error %v, want that it is locked out", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	w.apply("overlay.a repair done")
	w.umount("m/b")
	w.finish(b, "overlay.b repair done")
}
