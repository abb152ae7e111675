package plan_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// applied is what package reconcile desires for a reset: what the unit files say.
func (w *world) applied() plan.Desired {
	var d plan.Desired
	for _, u := range w.observe().Units {
		d.Overlays = append(d.Overlays, plan.Overlay{
			Address: u.Address, Source: u.Source, Lower: u.Config.Lower, Upper: u.Config.Upper, Work: u.Config.Work,
			Mountpoint: u.Where, AllowUnsafeParent: true, UID: -1, GID: -1, Options: u.Config.Options,
			Description: u.Description, WantedBy: u.WantedBy, PreventDestroy: u.PreventDestroy, OnBusy: u.OnBusy,
			Applied: &u,
		})
	}
	d.Sort()
	return d
}

// TestReset has a case for each thing that a reset can meet.
func TestReset(t *testing.T) {
	const at = "/m/a"
	// made is a client whose data overlayd made.
	made := func(t *testing.T, more ...plan.Overlay) *world {
		return settled(t, append([]plan.Overlay{client("a")}, more...)...)
	}
	for name, test := range map[string]struct {
		world func(t *testing.T) *world
		reset plan.Reset
		facts plan.ResetFacts

		kind     plan.Kind
		reason   string
		unmounts int
		mounts   bool
		resets   bool
	}{
		"mounted": {
			world: func(t *testing.T) *world { return made(t) }, kind: plan.ResetKind,
			reason: "/u/a/upper is DELETED", unmounts: 1, mounts: true, resets: true,
		},
		"kept": {
			world: func(t *testing.T) *world { return made(t) }, reset: plan.Reset{Keep: true},
			kind: plan.ResetKind, reason: "/u/a/upper is set aside", unmounts: 1, mounts: true, resets: true,
		},
		"one path": {
			world: func(t *testing.T) *world { return made(t) }, reset: plan.Reset{Paths: []string{"/etc/x"}},
			kind: plan.ResetKind, reason: "what the client did to /etc/x is DELETED", unmounts: 1, mounts: true, resets: true,
		},
		"pristine": {world: func(t *testing.T) *world { return made(t) }, facts: plan.ResetFacts{Pristine: true}, kind: plan.NoOp},
		"not mounted": {
			world: func(t *testing.T) *world { w := made(t); w.umount(at); return w },
			kind:  plan.ResetKind, reason: "stays so", resets: true,
		},
		"interrupted while it was down": {
			world: func(t *testing.T) *world { w := made(t); w.umount(at); return w },
			facts: plan.ResetFacts{Pristine: true, Halfway: true}, kind: plan.ResetKind, mounts: true, resets: true,
		},
		"interrupted before its units were started": {
			world: func(t *testing.T) *world { return made(t) },
			facts: plan.ResetFacts{Pristine: true, Halfway: true}, kind: plan.ResetKind, reason: "started again",
		},
		"interrupted while deleting": {
			world: func(t *testing.T) *world { return made(t) },
			facts: plan.ResetFacts{Pristine: true, Leftovers: []string{"/u/a/upper.trash"}},
			kind:  plan.ResetKind, reason: "/u/a/upper.trash",
		},
		"a path that cannot go alone": {
			world: func(t *testing.T) *world { return made(t) },
			reset: plan.Reset{Paths: []string{"/d/f"}}, facts: plan.ResetFacts{Problems: []string{"the client deleted /d"}},
			kind: plan.Conflict, reason: "the client deleted /d",
		},
		"data that overlayd did not make": {world: func(t *testing.T) *world {
			w := newWorld(t)
			w.dir("/base", "/u/a/upper", "/u/a/work")
			w.bring(desired(client("a")))
			return w
		}, kind: plan.Conflict, reason: "--keep"},
		"data that overlayd did not make, kept": {world: func(t *testing.T) *world {
			w := newWorld(t)
			w.dir("/base", "/u/a/upper", "/u/a/work")
			w.bring(desired(client("a")))
			return w
		}, reset: plan.Reset{Keep: true}, kind: plan.ResetKind, unmounts: 1, mounts: true, resets: true},
		"prevent_destroy": {world: func(t *testing.T) *world {
			o := client("a")
			o.PreventDestroy = true
			return settled(t, o)
		}, kind: plan.Conflict, reason: "prevent_destroy"},
		"read-only": {world: func(t *testing.T) *world {
			return settled(t, plan.Overlay{Mountpoint: at, Lower: []string{"/base", "/tools"}})
		}, kind: plan.Conflict, reason: "read-only"},
		"something else is mounted there": {
			world: func(t *testing.T) *world { w := made(t); w.foreign(at); return w },
			kind:  plan.Conflict, reason: "on top",
		},
		"mounted otherwise than applied": {world: func(t *testing.T) *world {
			w := made(t)
			c := w.mounts[0].config
			c.Lower = []string{"/tools"}
			w.umount(at)
			w.mount(at, plan.Label, c)
			return w
		}, kind: plan.ResetKind, unmounts: 1, mounts: true, resets: true},
		"mounted twice": {world: func(t *testing.T) *world {
			w := made(t)
			w.mount(at, plan.Label, w.mounts[0].config)
			return w
		}, kind: plan.ResetKind, unmounts: 2, mounts: true, resets: true},
		"its upperdir is held in another namespace": {world: func(t *testing.T) *world {
			w := made(t)
			w.copyOf(at, false)
			return w
		}, kind: plan.Conflict, reason: "process 4711"},
		"not mounted, and held in another namespace": {world: func(t *testing.T) *world {
			w := made(t)
			w.copyOf(at, false)
			w.umount(at)
			return w
		}, kind: plan.Conflict, reason: "process 4711"},
	} {
		t.Run(name, func(t *testing.T) {
			w := test.world(t)
			w.resets[at] = test.facts
			d := w.applied()
			d.Resets = map[string]plan.Reset{at: test.reset}
			target, err := plan.ParseTarget("overlay.a")
			if err != nil {
				t.Fatal(err)
			}
			p := plan.Diff(d, w.observe(), []plan.Target{target})
			c, ok := p.Find("overlay.a")
			if !ok {
				t.Fatalf("no change for it: %s", show(p))
			}
			if c.Kind != test.kind || len(c.Do.Unmount) != test.unmounts || (c.Do.Mount != nil) != test.mounts ||
				(c.Do.Reset != nil) != test.resets {
				t.Errorf("%d unmounts, mounts %t, resets %t, of:%s", len(c.Do.Unmount), c.Do.Mount != nil, c.Do.Reset != nil, show(p))
			}
			if !strings.Contains(strings.Join(c.Reasons, "; "), test.reason) {
				t.Errorf("reasons %q, want %q", c.Reasons, test.reason)
			}
			if c.Do.Write != nil || len(c.Do.Remove)+len(c.Do.Link)+len(c.Do.Unlink) > 0 {
				t.Errorf("a reset changes unit files: %+v", c.Do)
			}
		})
	}
}

// TestResetTakesStackDown: what stands on a client goes down before it is reset, and comes back after.
func TestResetTakesStackDown(t *testing.T) {
	w := settled(t, client("a"), client("b", "/m/a", "/base"), client("c"))
	d := w.applied()
	d.Resets = map[string]plan.Reset{"/m/a": {}}
	target, err := plan.ParseTarget("overlay.a")
	if err != nil {
		t.Fatal(err)
	}
	o := w.observe()
	p := plan.Diff(d, o, []plan.Target{target})
	var kinds []plan.StepKind
	for _, g := range p.Steps(func(int) bool { return true }).Groups {
		for _, s := range g {
			kinds = append(kinds, s.Kind)
		}
	}
	want := []plan.StepKind{plan.StepUnmount, plan.StepUnmount, plan.StepReset, plan.StepMount, plan.StepMount}
	if len(kinds) != len(want) {
		t.Fatalf("steps %v, want %v: %s", kinds, want, show(p))
	}
	for i := range want {
		if kinds[i] != want[i] {
			t.Fatalf("steps %v, want %v", kinds, want)
		}
	}
	if n := w.apply(p, o, nil, func(plan.Step) bool { return false }); n > 0 || !w.reset["/m/a"] || len(w.mounts) != 3 {
		t.Errorf("%d skipped, reset %v, %d mounts", n, w.reset, len(w.mounts))
	}
}

// TestResets: whatever the host is like and whatever fails, no upperdir is taken away under a mount (the world checks
// it at each step), what was mounted is mounted again where nothing fails, and no unit file is touched.
func TestResets(t *testing.T) {
	did := 0
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 5))
		w := randomWorld(t, r)
		if w.stackedTwice() {
			continue
		}
		d := w.applied()
		d.Resets = map[string]plan.Reset{}
		var targets []plan.Target
		for _, o := range d.Overlays {
			if r.IntN(2) == 0 {
				continue
			}
			d.Resets[o.Mountpoint] = plan.Reset{Keep: r.IntN(2) == 0}
			w.resets[o.Mountpoint] = plan.ResetFacts{Pristine: r.IntN(4) == 0, Halfway: r.IntN(8) == 0}
			target, err := plan.ParseTarget(o.Address)
			if err != nil {
				t.Fatal(err)
			}
			targets = append(targets, target)
		}
		if len(targets) == 0 {
			continue
		}
		before := map[string]bool{}
		for _, m := range w.mounts {
			before[m.at] = true
		}
		odds := r.IntN(2) * 4
		o := w.observe()
		p := plan.Diff(d, o, targets)
		w.apply(p, o, nil, func(plan.Step) bool { return odds > 0 && r.IntN(odds) == 0 })
		for _, c := range p.Changes {
			if c.Kind != plan.ResetKind || odds > 0 {
				continue
			}
			if c.Do.Reset != nil && !w.reset[c.Mountpoint] {
				t.Fatalf("seed %d: %s was not reset though nothing failed: %s", seed, c.Address, show(p))
			}
			if before[c.Mountpoint] && len(w.table().At(c.Mountpoint)) != 1 {
				t.Fatalf("seed %d: %s is not mounted once after its reset: %s", seed, c.Address, show(p))
			}
			did++
		}
	}
	if did == 0 {
		t.Error("no reset was ever carried out")
	}
}
