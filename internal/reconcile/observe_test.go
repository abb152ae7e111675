package reconcile_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// TestUpperOfAnother: whether the upperdir of a new overlay is empty is looked at, although it was seen before as that
// of an overlay that goes.
func TestUpperOfAnother(t *testing.T) {
	w := newWorld(t).spec(overlay("a", base))
	w.apply("overlay.a create done")
	moved := strings.NewReplacer("@/b/", "@/a/").Replace(overlay("b", base))
	w.spec(moved)
	const before = "the client gets back what is in its upperdir from before"
	told := func() bool {
		c, ok := w.plan().Find("overlay.b")
		if !ok || c.Kind != plan.Create {
			t.Fatal(describe(w.plan()))
		}
		return slices.Contains(c.Reasons, before)
	}
	if told() {
		t.Error("told of an upperdir that is empty")
	}
	w.write("a/u/file", "x")
	if !told() {
		t.Error("not told of an upperdir that is not empty")
	}
}

// TestGlance: what a glance has seen of a host that nobody knew the spec of is completed for any spec.
func TestGlance(t *testing.T) {
	w := newWorld(t).spec(overlay("a", base), overlay("b", upper))
	w.apply("overlay.a create done", "overlay.b create done")
	for _, spec := range [][]string{
		{overlay("a", base), overlay("b", upper)},
		{overlay("a", more), overlay("c", `"@/m/a"`)},
		{},
	} {
		o, err := w.ObserveAround(func() plan.Desired { return w.spec(spec...).d })
		if err != nil {
			t.Fatal(err)
		}
		if got, want := describe(plan.Diff(w.d, o, nil)), describe(w.plan()); got != want {
			t.Errorf("from a glance: %s\nwant: %s", got, want)
		}
		for _, d := range w.d.Overlays {
			for _, p := range append(slices.Clone(d.Lower), d.Upper, d.Work, d.Mountpoint) {
				if info, seen := o.Paths[p]; !seen || info.Path != p {
					t.Errorf("%s was not looked at", p)
				}
			}
		}
	}
}
