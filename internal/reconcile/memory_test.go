package reconcile_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// lookBothWays looks at a part of the spec with the memory of h and without one, and asks that both see the same.
func lookBothWays(t *testing.T, h *reconcile.Host, part plan.Desired) *plan.Observed {
	t.Helper()
	fresh, err := (&reconcile.Host{Log: h.Log}).Observe(part)
	if err != nil {
		t.Fatal(err)
	}
	remembered, err := h.Observe(part)
	if err != nil {
		t.Fatal(err)
	}
	mounts := cmp.Transformer("mounts", func(t *overlayfs.Table) []overlayfs.Mount { return t.All() })
	if diff := cmp.Diff(fresh, remembered, mounts, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("without a memory -, with one +:\n%s", diff)
	}
	return fresh
}

// held tells whether a live overlay writes to a directory.
func (w *world) held(upper string) bool {
	w.t.Helper()
	table, err := host.ReadTable()
	if err != nil {
		w.t.Fatal(err)
	}
	return slices.ContainsFunc(table.All(), func(m overlayfs.Mount) bool {
		return m.Overlay != nil && m.Overlay.Upper == upper
	})
}

// TestMemoryOfReplaced: the upperdir of a live overlay was moved away and another one made in its place. The overlay
// writes to the old one, wherever that lies now: nobody else may have it.
func TestMemoryOfReplaced(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base), overlay("b", base)).apply("overlay.a create done", "overlay.b create done")
	h := newHost()
	h.Memory = reconcile.Trusting()
	x := plan.NewIndex(w.d)
	if err := h.Remember(w.d); err != nil || h.Memory.Remembered() != 2 {
		t.Errorf("%d units are remembered, want 2 (%v)", h.Memory.Remembered(), err)
	}
	if err := (&reconcile.Host{Log: h.Log}).Remember(w.d); err != nil {
		t.Errorf("without a memory: %v", err)
	}
	before := lookBothWays(t, h, x.Around([]string{w.path("m/b")})).ID(w.path("a/u"))
	if err := os.Rename(w.path("a"), w.path("moved")); err != nil {
		t.Fatal(err)
	}
	w.mkdir("a/u", "a/w")
	o, err := h.Observe(x.Around([]string{w.path("m/b")}))
	if err != nil {
		t.Fatal(err)
	}
	now, fresh := o.ID(w.path("a/u")), host.Identify([]string{w.path("a/u")})[0]
	const unique = 0x4000 // STATX_MNT_ID_UNIQUE: without, a mount cannot be known again
	var root unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, "/", 0, unique, &root); err != nil || root.Mask&unique == 0 {
		before = fresh
	}
	if now != before {
		t.Errorf("the live overlay has %v, want %v (in its place is %v)", now, before, fresh)
	}
	// What is wanted there is what is there: it was removed under the mount.
	o, err = h.Observe(x.Around([]string{w.path("m/a")}))
	if err != nil {
		t.Fatal(err)
	}
	if now := o.ID(w.path("a/u")); now != fresh {
		t.Errorf("what is wanted is %v, want %v", now, fresh)
	}
}

// TestMemory: whatever happens on a host, what is remembered of it never differs from what is there; and a plan of a
// part of the spec, which looks at less, makes the changes of the plan of all of it.
func TestMemory(t *testing.T) {
	const n = 6
	w := newWorld(t)
	w.mkdir("alias")
	var blocks []string
	name := func(i int) string { return fmt.Sprintf("o%d", i) }
	for i := range n {
		lowers := upper
		if i == n-1 {
			lowers = `"@/m/o0", "@/base"`
		}
		blocks = append(blocks, overlay(name(i), lowers))
	}
	w.spec(blocks...)
	w.apply("overlay.o0 create done", "overlay.o1 create done", "overlay.o2 create done", "overlay.o3 create done",
		"overlay.o4 create done", "overlay.o5 create done")
	h := newHost()
	h.Memory = reconcile.Trusting()
	x := plan.NewIndex(w.d)
	texts := map[int]string{}
	for i := range n {
		texts[i] = w.unit(name(i))
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	r := rand.New(rand.NewPCG(1, 1))
	repaired, remembered := 0, 0
	for round := range 100 {
		i := r.IntN(n)
		at, unit := "m/"+name(i), unitPath(name(i))
		switch r.IntN(9) {
		case 0, 1:
			for range w.stack(w.path(at)) {
				w.umount(at)
			}
		case 2: // by somebody else, on the upperdir of another or its own
			if len(w.stack(w.path(at))) == 0 {
				o := name(r.IntN(n))
				w.mount("overlayd", "overlay", at, "lowerdir=@/base,upperdir=@/"+o+"/u,workdir=@/"+o+"/w", 0)
			}
		case 3:
			must(os.WriteFile(unit, []byte(texts[i]+"# edited\n"), 0o644))
		case 4:
			must(os.WriteFile(unit, []byte(texts[i]), 0o644))
		case 5:
			must(os.RemoveAll(unit))
		case 6:
			must(os.WriteFile(unit, []byte("[Mount]\nWhat=x\nWhere="+w.path(at)+"\n"), 0o644))
		case 7: // an upperdir that is not the one it was, under the same name
			if !w.held(w.path(name(i) + "/u")) {
				must(os.Rename(w.path(name(i)), w.path(fmt.Sprintf("alias/%d", round))))
				w.mkdir(name(i)+"/u", name(i)+"/w")
			}
		case 8:
			_, err := h.Apply(t.Context(), x.Around([]string{w.path(at)}), reconcile.ApplyOptions{Parallelism: 2})
			must(err)
		}
		places := []string{w.path("m/" + name(r.IntN(n)))}
		part := x.Around(places)
		lookBothWays(t, h, part)
		remembered += h.Memory.Remembered()
		got, _, err := h.Plan(t.Context(), part, nil)
		must(err)
		whole := w.d
		whole.Scope = plan.Scope{}
		want, _, err := w.Plan(t.Context(), whole, nil)
		must(err)
		for _, c := range got.Changes {
			all, ok := want.Find(c.Address)
			if !ok {
				t.Fatalf("round %d: %s is not in the plan of the whole", round, c.Address)
			}
			if diff := cmp.Diff(*all, c, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("round %d: %s: plan of the whole -, of a part +:\n%s", round, c.Address, diff)
			}
			if c.Kind == plan.Repair {
				repaired++
			}
		}
		for _, o := range part.Overlays {
			if !slices.ContainsFunc(got.Changes, func(c plan.Change) bool { return c.Address == o.Address }) {
				t.Fatalf("round %d: %s is not in the plan", round, o.Address)
			}
		}
	}
	if repaired == 0 || remembered == 0 {
		t.Errorf("%d repairs, %d unit files remembered: the test tried nothing", repaired, remembered)
	}
	for i := range n {
		_ = unix.Unmount(w.path("m/"+name(i)), unix.MNT_DETACH)
	}
}
