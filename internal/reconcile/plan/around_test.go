package plan_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

func mountpoints(d plan.Desired) []string {
	out := []string{}
	for _, o := range d.Overlays {
		out = append(out, o.Mountpoint)
	}
	return out
}

func TestAround(t *testing.T) {
	shared := client("kid", "/m/base", "/tools")
	deep := client("deep")
	deep.Mountpoint = "/m/kid/deep"
	d := desired(client("base", "/golden"), shared, deep, client("other"), client("m", "/base", "/disk/layer"),
		client("o", "/disk-2"))
	x := plan.NewIndex(d)
	for _, c := range []struct {
		name   string
		places []string
		want   []string
	}{
		{"nothing there", []string{"/nowhere", "/m/others"}, []string{}},
		{"no place", nil, []string{}},
		{"a lone one", []string{"/m/other"}, []string{"/m/other"}},
		{"asked twice, unclean", []string{"/m/other/", "/m//other"}, []string{"/m/other"}},
		{"what it stands on comes along", []string{"/m/kid"}, []string{"/m/base", "/m/kid/deep", "/m/kid"}},
		{"what stands on it comes along", []string{"/m/base"}, []string{"/m/base", "/m/kid"}},
		{"the mountpoint lies on another", []string{"/m/kid/deep"}, []string{"/m/base", "/m/kid/deep", "/m/kid"}},
		{"a lowerdir", []string{"/golden"}, []string{"/m/base"}},
		{"a filesystem with a layer", []string{"/disk"}, []string{"/m/m"}},
		{"an upperdir", []string{"/u/other/upper"}, []string{"/m/other"}},
		{"a data directory", []string{"/u/other"}, []string{"/m/other"}},
		{"below a mountpoint is no place of it", []string{"/m/other/etc"}, []string{}},
		{"everything", []string{"/"}, mountpoints(d)},
	} {
		t.Run(c.name, func(t *testing.T) {
			part := x.Around(c.places)
			want := slices.Clone(c.want)
			slices.SortFunc(want, func(a, b string) int {
				all := mountpoints(d)
				return slices.Index(all, a) - slices.Index(all, b)
			})
			if diff := cmp.Diff(want, mountpoints(part)); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
			if !part.Partial() || d.Partial() {
				t.Error("a part is not told from the whole")
			}
			if diff := cmp.Diff(mountpoints(part), mountpoints(part.Around(c.places))); diff != "" {
				t.Errorf("a part of a part: want -, got +:\n%s", diff)
			}
		})
	}
}

func widen(d plan.Desired, o *plan.Observed) plan.Desired {
	_, d = plan.DiffWide(d, o, nil)
	return d
}

// TestAroundWidens: what only the host shows.
func TestAroundWidens(t *testing.T) {
	for _, c := range []struct {
		name   string
		w      func(t *testing.T) *world
		d      plan.Desired
		places []string
		want   []string
	}{
		{
			"an upperdir that another still holds", func(t *testing.T) *world {
				return settled(t, client("a"), client("b"))
			},
			desired(func() (a, b plan.Overlay) {
				a, b = client("a"), client("b")
				a.Upper, a.Work, b.Upper, b.Work = b.Upper, b.Work, a.Upper, a.Work
				return a, b
			}()),
			[]string{"/m/a"},
			[]string{"/m/a", "/m/b"},
		},
		{
			"what stands on a mount that has to go down", func(t *testing.T) *world {
				return settled(t, client("base"), client("kid", "/m/base"), client("far"))
			},
			desired(client("base", "/tools"), client("kid", "/tools"), client("far")),
			[]string{"/tools-of-base", "/u/base"},
			[]string{"/m/base", "/m/kid"},
		},
		{
			"what it stands on, by a symlink", func(t *testing.T) *world {
				w := settled(t, client("base"))
				w.change("/current", func(i *overlayfs.PathInfo) { i.Symlink, i.Real = "/current", "/m/base" })
				return w
			},
			desired(client("base"), client("kid", "/current")),
			[]string{"/m/kid"},
			[]string{"/m/base", "/m/kid"},
		},
		{
			"nothing of these", func(t *testing.T) *world { return settled(t, client("a"), client("b")) },
			desired(client("a"), client("b")),
			[]string{"/m/a"},
			[]string{"/m/a"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := c.w(t).observe()
			part := c.d.Around(c.places)
			if diff := cmp.Diff(c.want, mountpoints(widen(part, o))); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
			if got := widen(c.d, o); len(got.Overlays) != len(c.d.Overlays) {
				t.Error("a whole spec is not as wide as itself")
			}
			sameChanges(t, part, c.d, o)
		})
	}
}

// sameChanges asks that the plan of a part has the very changes that the plan of the whole has.
func sameChanges(t *testing.T, part, whole plan.Desired, o *plan.Observed) (n int) {
	t.Helper()
	whole.Scope = plan.Scope{}
	all := plan.Diff(whole, o, nil)
	got := plan.Diff(part, o, nil)
	for _, c := range got.Changes {
		want, ok := all.Find(c.Address)
		if !ok {
			t.Fatalf("%s is in the plan of a part, and not in that of the whole", c.Address)
		}
		if diff := cmp.Diff(*want, c); diff != "" {
			t.Fatalf("%s in the plan of the whole -, of a part +:\n%s\nwhole: %s\npart: %s", c.Address, diff, show(all),
				show(got))
		}
	}
	for _, o := range part.Overlays {
		if _, ok := got.Find(o.Address); !ok {
			t.Fatalf("%s is not in the plan of a part that has it", o.Address)
		}
	}
	return len(got.Changes)
}

// TestPartOfPlan: a plan of what is around some places makes the changes of the whole plan, and none of it deletes.
func TestPartOfPlan(t *testing.T) {
	narrower := 0
	for seed := range uint64(6000) {
		r := rand.New(rand.NewPCG(seed, 5))
		w := randomWorld(t, r)
		d := randomSpec(r)
		if r.IntN(4) == 0 { // a link that leads onto an overlay
			w.change("/extra", func(i *overlayfs.PathInfo) { i.Symlink, i.Real = "/extra", fmt.Sprintf("/m/%d", r.IntN(8)) })
		}
		if r.IntN(4) == 0 { // two names of one directory
			of := w.paths[fmt.Sprintf("/u/%d/upper", r.IntN(8))].ID
			w.change(fmt.Sprintf("/u/%d/upper", r.IntN(8)), func(i *overlayfs.PathInfo) { i.ID = of })
		}
		if r.IntN(4) == 0 && len(w.mounts) > 0 {
			at := w.mounts[r.IntN(len(w.mounts))].at
			if top, ok := w.table().Top(at); ok && top.Overlay != nil {
				w.copyOf(at, r.IntN(2) == 0)
			}
		}
		if r.IntN(4) == 0 && len(w.files) > 0 { // the address moved
			for name, u := range w.files {
				u.Address = fmt.Sprintf("overlay.o%d", r.IntN(6))
				w.files[name] = u
				break
			}
		}
		o := w.observe()
		if r.IntN(2) == 0 {
			for _, m := range w.mounts {
				o.Uses = append(o.Uses, overlayfs.Use{
					Mountpoint: m.at, Source: m.source, Upper: w.paths[m.config.Upper].ID, Work: w.paths[m.config.Work].ID,
				})
			}
		}
		places := []string{}
		for range 1 + r.IntN(2) {
			places = append(places, fmt.Sprintf("/m/%d", r.IntN(8)))
		}
		if r.IntN(8) == 0 {
			places = append(places, "/more")
		}
		part := d.Around(places)
		if n := sameChanges(t, part, d, o); n > 0 && n < len(d.Overlays) {
			narrower++
		}
		for _, c := range plan.Diff(part, o, nil).Changes {
			if c.Kind == plan.Delete {
				t.Fatalf("seed %d: a part deletes %s", seed, c.Address)
			}
		}
	}
	if narrower < 1000 {
		t.Errorf("only %d parts were smaller than the whole", narrower)
	}
}

// fleet is a spec of n overlays on two shared lowerdirs, every tenth with its mountpoint on a shared overlay's.
func fleet(n int) plan.Desired {
	overlays := make([]plan.Overlay, 0, n)
	for i := range n {
		o := client(fmt.Sprintf("client%05d", i), "/base", "/tools")
		o.DataDir = fmt.Sprintf("/u/client%05d", i)
		overlays = append(overlays, o)
	}
	return desired(overlays...)
}

func BenchmarkAround10000(b *testing.B) {
	x := plan.NewIndex(fleet(10000))
	b.ReportAllocs()
	for b.Loop() {
		if d := x.Around([]string{"/m/client05000"}); len(d.Overlays) != 1 {
			b.Fatal(len(d.Overlays))
		}
	}
}

func BenchmarkNewIndex10000(b *testing.B) {
	d := fleet(10000)
	b.ReportAllocs()
	for b.Loop() {
		plan.NewIndex(d)
	}
}
