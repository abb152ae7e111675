package plan_test

import (
	"fmt"
	"testing"

	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// BenchmarkDiff is a plan with nothing to do but one mount to bring back, of a whole spec and of what is around that
// mount. What Observe costs is package reconcile's matter.
func BenchmarkDiff(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		d := fleet(n)
		w := newWorld(b)
		w.dir("/base", "/tools")
		w.target = true
		for _, c := range plan.Diff(d, w.observe(), nil).Changes { // the checks of an apply would take minutes
			w.write(&c)
			for _, dir := range c.Do.Dirs {
				w.dir(dir.Path)
			}
			w.mount(c.Mountpoint, plan.Label, *c.Do.Mount)
		}
		lost := fmt.Sprintf("/m/client%05d", n/2)
		w.umount(lost)
		o := w.observe()
		run := func(name string, d plan.Desired, changes int) {
			b.Run(fmt.Sprintf("N=%d/%s", n, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if p := plan.Diff(d, o, nil); len(p.Changes) != changes || p.Count(plan.Repair) != 1 {
						b.Fatal(show(p))
					}
				}
			})
		}
		run("whole", d, n)
		run("part", plan.NewIndex(d).Around([]string{lost}), 1)
		b.Run(fmt.Sprintf("N=%d/run", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				plan.NewRun(o)
			}
		})
	}
}
