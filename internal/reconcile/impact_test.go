package reconcile_test

import (
	"strings"
	"testing"
)

// An overlay in another mount namespace writes to a directory of a new client: its upperdir or its workdir alone is
// enough, and both are found although nothing is mounted on them here.
func TestNewClientHeldElsewhere(t *testing.T) {
	for name, script := range map[string]string{
		"upperdir": "mkdir -p a/u z/w; mount -t overlay -o lowerdir=base,upperdir=$PWD/a/u,workdir=$PWD/z/w x x",
		"workdir":  "mkdir -p a/w z/u; mount -t overlay -o lowerdir=base,upperdir=$PWD/z/u,workdir=$PWD/a/w x x",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.mkdir("x")
			w.spec(overlay("a", base))
			leave := w.elsewhere(script)
			p := w.wantPlan("overlay.a conflict")
			if why := reasons(t, p, "overlay.a"); !strings.Contains(why, name+" ") ||
				!strings.Contains(why, "in the mount namespace of process") {
				t.Errorf("reasons: %s", why)
			}
			leave()
			w.apply("overlay.a create done")
		})
	}
}

// Nobody holds what is not there: a plan that brings new clients only leaves other mount namespaces alone. As soon as
// it takes something down as well, it looks, and finds the copy that would keep the upperdir in use.
func TestNewClientsLookNoFurther(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base)).apply("overlay.a create done")
	defer w.elsewhere("true")()
	w.spec(overlay("a", base), overlay("b", base)).wantUses(false, "overlay.b create")
	w.spec(overlay("a", upper), overlay("b", base)).wantUses(true, "overlay.b create; overlay.a conflict")
}

// wantUses asks for a plan, and whether it took a look at who holds what on the whole host.
func (w *world) wantUses(want bool, changes string) {
	w.t.Helper()
	p, o, err := w.Plan(w.t.Context(), w.d, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if got := describe(p); got != changes || len(o.Uses) > 0 != want {
		w.t.Errorf("plan: %s, with %d uses\nwant: %s, and uses: %v", got, len(o.Uses), changes, want)
	}
}
