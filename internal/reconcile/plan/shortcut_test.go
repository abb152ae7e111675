package plan_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// TestOverlapsOfFewAndMany: which layers are in each other's way does not depend on how many there are, although few are
// compared in another way.
func TestOverlapsOfFewAndMany(t *testing.T) {
	pool := []string{
		"/base", "/base/sub", "/base/sub/deep", "/baseball", "/tools", "/x/../base/sub", "/base//sub/deep",
		"/twin", "/link", "/none", "/none/sub", "/u/a", "/",
	}
	var many []string
	for i := range 9 {
		many = append(many, fmt.Sprintf("/many/%d", i))
	}
	found := 0
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 3))
		w := newWorld(t)
		w.dir(pool[:9]...)
		w.dir(many...)
		w.change("/twin", func(i *overlayfs.PathInfo) { i.ID = w.paths["/base"].ID })
		w.change("/link", func(i *overlayfs.PathInfo) {
			i.Symlink, i.Real, i.ID = "/link", "/base/sub", w.paths["/base/sub"].ID
		})
		var lowers []string
		for range 1 + r.IntN(3) {
			lowers = append(lowers, pool[r.IntN(len(pool))])
		}
		overlaps := func(lowers []string) []string {
			c, _ := plan.Diff(desired(client("a", lowers...)), w.observe(), nil).Find("overlay.a")
			return slices.DeleteFunc(c.Reasons, func(reason string) bool {
				return !strings.Contains(reason, "the same directory") && !strings.Contains(reason, "lies inside")
			})
		}
		few := overlaps(lowers)
		// "/" holds the others too.
		want := slices.DeleteFunc(overlaps(slices.Concat(lowers, many)), func(reason string) bool {
			return strings.HasPrefix(reason, "lowerdir /many/")
		})
		if diff := cmp.Diff(want, few); diff != "" {
			t.Fatalf("%q (-with more layers +alone):\n%s", lowers, diff)
		}
		found += len(few)
	}
	if found == 0 {
		t.Error("no layers overlap")
	}
}

// TestOptionsOfNeighbours: what an overlay is mounted with does not depend on those beside it, which share their options
// where these are the same.
func TestOptionsOfNeighbours(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 4))
		w := newWorld(t)
		w.dir("/base", "/nosuid", "/net")
		w.change("/nosuid", func(i *overlayfs.PathInfo) { i.Flags = overlayfs.Options{"nosuid": "", "nodev": ""} })
		w.change("/net", func(i *overlayfs.PathInfo) { i.Network = true })
		var all []plan.Overlay
		for i := range 6 {
			o := client(fmt.Sprint(i), []string{"/base", "/nosuid", "/net"}[r.IntN(3)])
			o.Options = []overlayfs.Options{nil, {"noatime": ""}, {"metacopy": "on"}}[r.IntN(3)]
			o.OffFlags = [][]string{nil, {"nosuid"}}[r.IntN(2)]
			o.Network = r.IntN(4) == 0
			all = append(all, o)
		}
		o := w.observe()
		together := plan.Diff(desired(all...), o, nil)
		for _, each := range desired(all...).Overlays {
			got, _ := together.Find(each.Address)
			want, _ := plan.Diff(desired(each), o, nil).Find(each.Address)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("seed %d, %s (-alone +together):\n%s", seed, each.Address, diff)
			}
		}
	}
}

// TestDataDirUnseen: a data directory that was not looked at is there if something in it is.
func TestDataDirUnseen(t *testing.T) {
	o := client("a")
	o.DataDir = "/u/a"
	for _, c := range []struct {
		name string
		dirs []string
		want []string
	}{
		{"nothing is there", nil, []string{"/u/a", "/u/a/upper", "/u/a/work", "/m/a"}},
		{"upperdir is there", []string{"/u/a/upper"}, []string{"/u/a/work", "/m/a"}},
		{"workdir is there", []string{"/u/a/work"}, []string{"/u/a/upper", "/m/a"}},
		{"it is there", []string{"/u/a"}, []string{"/u/a/upper", "/u/a/work", "/m/a"}},
	} {
		w := newWorld(t)
		w.dir("/base")
		w.dir(c.dirs...)
		p := plan.Diff(desired(o), w.observe(), nil)
		var got []string
		for _, dir := range p.Changes[0].Do.Dirs {
			got = append(got, dir.Path)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +made):\n%s", c.name, diff)
		}
	}
}

// TestLayerLeadsToItself: the layer of a new overlay leads to its own mountpoint, and another one stands on it, whose
// upperdir would take owner and mode from there.
func TestLayerLeadsToItself(t *testing.T) {
	w := newWorld(t)
	w.paths["/link"] = overlayfs.PathInfo{Path: "/link", Real: "/m/p", Symlink: "/link"}
	p := plan.Diff(desired(client("c", "/m/p"), client("p", "/link")), w.observe(), nil)
	if p.Count(plan.Conflict) != 2 {
		t.Error(show(p))
	}
}
