package plan_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// randomSpec makes a valid spec over a small world, so that things meet: mountpoints move, uppers are swapped, overlays
// stand on each other.
func randomSpec(r *rand.Rand) plan.Desired {
	uppers := r.Perm(8)
	points := r.Perm(8)
	n := r.IntN(6)
	var out []plan.Overlay
	for i := range n {
		lowers := []string{[]string{"/base", "/tools", "/extra"}[r.IntN(3)]}
		if r.IntN(3) == 0 {
			lowers = append(lowers, "/more")
		}
		o := plan.Overlay{
			Address:    fmt.Sprintf("overlay.o%d", i),
			Mountpoint: fmt.Sprintf("/m/%d", points[i]),
			Lower:      lowers,
			Upper:      fmt.Sprintf("/u/%d/upper", uppers[i]),
			Work:       fmt.Sprintf("/u/%d/work", uppers[i]),
		}
		if i > 0 && r.IntN(3) == 0 {
			o.Lower = append([]string{out[0].Mountpoint}, o.Lower...) // two levels at most: all on the first
		}
		if r.IntN(4) == 0 {
			o.Options = overlayfs.Options{"nosuid": ""}
		}
		out = append(out, o)
	}
	return desired(out...)
}

// disturb does to the world what administrators and crashes do.
func disturb(w *world, r *rand.Rand) {
	for range r.IntN(4) {
		at := fmt.Sprintf("/m/%d", r.IntN(8))
		switch r.IntN(6) {
		case 0:
			w.umount(at)
		case 1:
			if m := w.table().At(at); len(m) == 1 && m[0].Overlay != nil {
				w.mounts = append(w.mounts, worldMount{at: at, source: plan.Label, fstype: "overlay", config: *m[0].Overlay})
			}
		case 2:
			w.foreign(at)
		case 3:
			for name := range w.files {
				delete(w.files, name)
				break
			}
		case 4:
			w.target = false
		case 5:
			w.impact[at] = plan.Impact{Units: []string{"app.service"}}
		}
	}
}

func randomWorld(t *testing.T, r *rand.Rand) *world {
	w := newWorld(t)
	w.dir("/base", "/tools", "/extra", "/more")
	w.bring(randomSpec(r))
	disturb(w, r)
	return w
}

// stackedTwice tells whether the disturbance itself gave an upperdir two mounts, by stacking equal ones.
func (w *world) stackedTwice() bool {
	seen := map[string]bool{}
	for _, m := range w.mounts {
		if m.config.Upper != "" && seen[m.config.Upper] {
			return true
		}
		seen[m.config.Upper] = true
	}
	return false
}

// TestConverges: whatever the host is like, whatever goes wrong on the way, an apply that runs again leaves nothing to
// do but conflicts; and in no state on the way is an upperdir live twice, nor a mount taken from under another
// (both are checked by the world at every step).
func TestConverges(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := randomWorld(t, r)
		if w.stackedTwice() {
			continue // two writers before the apply began are repaired by popping, see TestDecisionTable
		}
		d := randomSpec(r)
		for round := range 6 {
			o := w.observe()
			p := plan.Diff(d, o, nil)
			if !p.Pending() {
				break
			}
			if round == 5 {
				t.Fatalf("seed %d: still more to do after five applies: %s", seed, show(p))
			}
			held := map[int]string{}
			odds := 0
			if round < 3 {
				odds = 4
				for i := range p.Changes {
					if k := p.Changes[i].Kind; k != plan.Conflict && k != plan.NoOp && r.IntN(6) == 0 {
						held[i] = "busy"
					}
				}
			}
			w.apply(p, o, held, func(plan.Step) bool { return odds > 0 && r.IntN(odds) == 0 })
		}
	}
}

// TestOneApplyIsEnough: where nothing fails, nothing is skipped, and one apply leaves only conflicts.
func TestOneApplyIsEnough(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 2))
		w := randomWorld(t, r)
		if w.stackedTwice() {
			continue
		}
		d := randomSpec(r)
		o := w.observe()
		p := plan.Diff(d, o, nil)
		if n := w.apply(p, o, nil, func(plan.Step) bool { return false }); n > 0 {
			t.Fatalf("seed %d: %d changes skipped though nothing failed: %s", seed, n, show(p))
		}
		if left := plan.Diff(d, w.observe(), nil); left.Pending() {
			t.Fatalf("seed %d: applied%s\nbut there is more to do:%s", seed, show(p), show(left))
		}
	}
}

// TestTargets: a part of a plan is done without what it does not need, and never breaks the rules of the whole.
func TestTargets(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 3))
		w := randomWorld(t, r)
		if w.stackedTwice() {
			continue
		}
		d := randomSpec(r)
		if len(d.Overlays) == 0 {
			continue
		}
		address := d.Overlays[r.IntN(len(d.Overlays))].Address
		target, err := plan.ParseTarget(address)
		if err != nil {
			t.Fatal(err)
		}
		o := w.observe()
		p := plan.Diff(d, o, []plan.Target{target})
		if n := w.apply(p, o, nil, func(plan.Step) bool { return false }); n > 0 {
			t.Fatalf("seed %d: target %s left out what it needs: %s", seed, address, show(p))
		}
		after := plan.Diff(d, w.observe(), []plan.Target{target})
		if c, ok := after.Find(address); ok && c.Kind != plan.NoOp && c.Kind != plan.Conflict {
			t.Fatalf("seed %d: target %s is not done: %s", seed, address, show(after))
		}
	}
}

// TestDeterministic: the same question gets the same answer, to the letter.
func TestDeterministic(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 4))
		w := randomWorld(t, r)
		d := randomSpec(r)
		text := func() string {
			b, err := json.MarshalIndent(plan.Diff(d, w.observe(), nil), "", " ")
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		if diff := cmp.Diff(text(), text()); diff != "" {
			t.Fatalf("seed %d: two plans differ:\n%s", seed, diff)
		}
	}
}
