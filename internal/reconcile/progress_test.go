package reconcile_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/overlayd/overlayd/internal/reconcile"
)

// told gathers what Progress is told of a run.
func (w *world) told(opt reconcile.ApplyOptions) []reconcile.Progress {
	w.t.Helper()
	var mu sync.Mutex
	var out []reconcile.Progress
	opt.Progress = func(p reconcile.Progress) {
		mu.Lock()
		defer mu.Unlock()
		out = append(out, p)
	}
	w.run(opt)
	return out
}

func TestProgress(t *testing.T) {
	w := newWorld(t)
	a, b := overlay("a", base), overlay("b", base)
	bad := overlay("bad", `"@/nowhere"`)
	for _, c := range []struct {
		name   string
		blocks []string
		total  int // all of them are done with in the end
		phases []reconcile.Phase
		names  []string
	}{
		{
			"creates, and a conflict, which is not to be done",
			[]string{a, b, bad},
			2,
			[]reconcile.Phase{reconcile.Writing, reconcile.Mounting, reconcile.Settling},
			[]string{"overlay.a", "overlay.b"},
		},
		{
			"a replace and a delete",
			[]string{overlay("a", more)},
			2,
			[]reconcile.Phase{reconcile.Unmounting, reconcile.Writing, reconcile.Mounting, reconcile.Settling},
			[]string{"overlay.a", "overlay.b"},
		},
		{"nothing", []string{overlay("a", more)}, 0, nil, nil},
	} {
		told := w.spec(c.blocks...).told(reconcile.ApplyOptions{})
		var phases []reconcile.Phase
		var names []string
		done := 0
		for _, p := range told {
			phases = append(phases, p.Phase)
			if p.Address != "" {
				names = append(names, p.Address)
			}
			if p.Total != c.total || p.Done > p.Total {
				t.Errorf("%s: %d of %d done, want %d", c.name, p.Done, p.Total, c.total)
			}
			done = max(done, p.Done)
		}
		slices.Sort(phases)
		slices.Sort(names)
		if got := slices.Compact(phases); !slices.Equal(got, c.phases) {
			t.Errorf("%s: phases %v, want %v", c.name, got, c.phases)
		}
		if got := slices.Compact(names); !slices.Equal(got, c.names) || done != c.total {
			t.Errorf("%s: %d done of %v, want %d of %v", c.name, done, got, c.total, c.names)
		}
	}
}

// Whoever is told takes its time, and the other mounts do not wait for that: this ends only if b goes on while a waits.
func TestProgressIsSlow(t *testing.T) {
	w := newWorld(t).spec(overlay("a", base), overlay("b", base))
	begun := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(begun) })
	w.run(reconcile.ApplyOptions{Progress: func(p reconcile.Progress) {
		switch p.Address {
		case "overlay.a":
			<-begun
		case "overlay.b":
			goOn()
		}
	}})
	w.inSync()
}
