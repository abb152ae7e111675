package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

func TestLocked(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base)).apply("overlay.a create done")
	f, err := os.Open("/run/overlayd/lock")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// shared, so that only an exclusive lock is kept out
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	w.umount("m/a")
	_, err = w.Apply(t.Context(), w.d, reconcile.ApplyOptions{LockTimeout: time.Millisecond})
	if !errors.Is(err, reconcile.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("(process %d)", os.Getpid())) {
		t.Errorf("error %v, want one that says who is at work", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = w.Apply(ctx, w.d, reconcile.ApplyOptions{LockTimeout: time.Hour}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that it was interrupted", err)
	}
	if len(w.stack(w.path("m/a"))) > 0 {
		t.Error("it was mounted without the lock")
	}

	// one that waits gets the lock when it is free
	done := make(chan error, 1)
	go func() {
		_, err := w.Apply(t.Context(), w.d, reconcile.ApplyOptions{LockTimeout: time.Hour})
		done <- err
	}()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	w.inSync()
}

func TestStalePlan(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base))
	agreed := reconcile.Agree(w.plan())
	apply := func() error {
		_, err := w.Apply(t.Context(), w.d, reconcile.ApplyOptions{Approved: agreed})
		return err
	}
	w.mkdir("m/a")
	w.mount("mine", "tmpfs", "m/a", "", 0)
	if err := apply(); !errors.Is(err, reconcile.ErrStale) {
		t.Errorf("error %v, want ErrStale", err)
	}
	w.umount("m/a")
	if err := apply(); !errors.Is(err, reconcile.ErrStale) {
		// the mountpoint is there now, so overlayd would not have made it
		t.Errorf("error %v, want ErrStale", err)
	}
	if exists(unitPath("a")) {
		t.Error("a stale plan wrote a unit")
	}
	agreed = reconcile.Agree(w.plan())
	if err := apply(); err != nil {
		t.Fatal(err)
	}
	w.inSync()
	// agreed to nothing, and now there is something
	agreed = reconcile.Agree(w.plan())
	w.umount("m/a")
	if err := apply(); !errors.Is(err, reconcile.ErrStale) {
		t.Errorf("error %v, want ErrStale", err)
	}
	// processes come and go: that is not stale
	w.apply("overlay.a repair done")
	w.spec(overlay("a", upper))
	agreed = reconcile.Agree(w.plan())
	w.stop(w.hold("m/a"))
	if err := apply(); err != nil {
		t.Fatal(err)
	}
	w.wantFile("m/a/file", "more")
}

func TestSavedPlan(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base, `mode = "0700"`), overlay("b", base, "options {\nnosuid = false\nxino = \"off\"\n}"))
	file := w.path("saved")
	if err := w.Save(file, "1.2.3", w.d, []string{"overlay.a"}, w.plan()); err != nil {
		t.Fatal(err)
	}
	if !reconcile.IsPlanFile(file) || reconcile.IsPlanFile(w.path("spec/s.hcl")) || reconcile.IsPlanFile(w.dir) {
		t.Error("plan files are not told from others")
	}
	s, err := w.Open(file, "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Targets) != 1 || s.Targets[0] != "overlay.a" {
		t.Errorf("targets %q", s.Targets)
	}
	// what was saved is what was desired, to the letter of the units
	w.d = s.Desired
	r := w.run(reconcile.ApplyOptions{Approved: s.Changes})
	w.wantResults(r, "overlay.a create done", "overlay.b create done")
	w.inSync()
	if _, err := w.Open(file, "1.2.4"); err == nil || !strings.Contains(err.Error(), "overlayd 1.2.3 made it") {
		t.Errorf("another version: error %v", err)
	}
}

func TestUnfinished(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base)).apply("overlay.a create done")
	if err := os.WriteFile("/run/overlayd/reload-owed", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !w.Unfinished() {
		t.Fatal("the note is not seen")
	}
	w.apply()
}

func TestUnitNotEnabled(t *testing.T) {
	w := newWorld(t)
	if err := os.WriteFile(unitDir+"/odd.target.wants", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	w.spec(overlay("a", base), overlay("b", base, "unit {\nwanted_by = [\"odd.target\"]\n}"))
	r := w.run(reconcile.ApplyOptions{})
	w.wantResults(r, "overlay.a create done", "overlay.b create failed")
	if err := failure(t, r, "overlay.b"); !strings.Contains(err.Error(), "odd.target.wants") {
		t.Errorf("the error does not name what is in the way: %v", err)
	}
	if len(w.stack(w.path("m/b"))) > 0 {
		t.Error("it is mounted, but would not be at the next boot")
	}
	if err := os.Remove(unitDir + "/odd.target.wants"); err != nil {
		t.Fatal(err)
	}
	w.run(reconcile.ApplyOptions{})
	w.inSync()
}

func TestInterrupted(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base), overlay("b", base))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, err := w.Apply(ctx, w.d, reconcile.ApplyOptions{})
	if err == nil && r.OK() {
		t.Error("it says that all was done")
	}
	for _, name := range []string{"a", "b"} {
		if len(w.stack(w.path("m/"+name))) > 0 {
			t.Errorf("%s was mounted", name)
		}
	}
	w.run(reconcile.ApplyOptions{})
	w.inSync()
}

func TestTarget(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base), overlay("b", base), overlay("c", "overlay.a.mountpoint"))
	target, err := plan.ParseTarget("overlay.c")
	if err != nil {
		t.Fatal(err)
	}
	w.wantResults(w.run(reconcile.ApplyOptions{Targets: []plan.Target{target}}),
		"overlay.a create done", "overlay.c create done")
	w.apply("overlay.b create done")
}
