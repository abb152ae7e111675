package plan

import (
	"cmp"
	"path"
	"slices"
	"strings"
)

// Index answers which overlays of a spec have to do with a place. It is made once for a Desired, takes about 300 bytes
// for an overlay beyond that, and is never changed: several goroutines may ask it.
type Index struct {
	d         Desired
	at        map[string]int32    // mountpoint → index into d.Overlays
	addresses map[string]struct{} // all that are desired
	places    []namedPlace        // mountpoints and layers, in byte order
}

// namedPlace is a path that an overlay names.
type namedPlace struct {
	path    string
	overlay int32
}

// NewIndex indexes what is desired. Scope, Orphans and Resets play no part in it.
func NewIndex(d Desired) *Index {
	x := &Index{
		d: d, at: make(map[string]int32, len(d.Overlays)), addresses: make(map[string]struct{}, len(d.Overlays)),
		places: make([]namedPlace, 0, 5*len(d.Overlays)),
	}
	for i := range d.Overlays {
		o := &d.Overlays[i]
		x.at[o.Mountpoint] = int32(i)
		x.addresses[o.Address] = struct{}{}
		for _, p := range o.paths() {
			x.places = append(x.places, namedPlace{p, int32(i)})
		}
	}
	slices.SortFunc(x.places, func(a, b namedPlace) int {
		return cmp.Or(strings.Compare(a.path, b.path), cmp.Compare(a.overlay, b.overlay))
	})
	return x
}

// Around gives the part of what is desired that a change of the mounts at these places concerns: the overlays that are
// mounted there, or below, or have something there or below as a layer, upperdir or workdir; and the overlays that
// these stand on. Nothing is deleted by it: its scope is empty.
//
// [Diff] makes the same changes of it as of the whole without a scope. Where it finds that others matter as well, since
// they stand on what has to go down or hold an upperdir, it takes them in, see [DiffWide].
func (x *Index) Around(places []string) Desired {
	picked := map[int32]bool{}
	for _, p := range places {
		p = path.Clean(p)
		x.below(p, func(i int32) { picked[i] = true })
	}
	return x.part(picked)
}

// Around gives a part of what is desired, as [Index.Around] does. Who asks often makes an Index.
func (d Desired) Around(places []string) Desired {
	if d.whole != nil {
		return d.whole.Around(places)
	}
	return NewIndex(d).Around(places)
}

// Partial tells whether this is a part of a spec, made by Around. Of units and mounts of other overlays a look needs to
// know only what they hold.
func (d Desired) Partial() bool { return d.whole != nil }

// Holds calls f with the upperdir and workdir of each overlay of the whole spec that d is a part of.
func (d Desired) Holds(f func(dir string)) {
	all := d.Overlays
	if d.whole != nil {
		all = d.whole.d.Overlays
	}
	for i := range all {
		if o := &all[i]; !o.ReadOnly() {
			f(o.Upper)
			f(o.Work)
		}
	}
}

// below calls f with the overlays that name p or something below it.
func (x *Index) below(p string, f func(i int32)) {
	scan := func(from string, in func(at string) bool) {
		i, _ := slices.BinarySearchFunc(x.places, from, func(e namedPlace, s string) int {
			return strings.Compare(e.path, s)
		})
		for ; i < len(x.places) && in(x.places[i].path); i++ {
			f(x.places[i].overlay)
		}
	}
	scan(p, func(at string) bool { return at == p })
	prefix := strings.TrimSuffix(p, "/") + "/"
	scan(prefix, func(at string) bool { return strings.HasPrefix(at, prefix) })
}

func (x *Index) has(mountpoint string) bool {
	_, ok := x.at[mountpoint]
	return ok
}

// part makes a part of the overlays picked and of those they stand on.
func (x *Index) part(picked map[int32]bool) Desired {
	queue := make([]int32, 0, len(picked))
	for i := range picked {
		queue = append(queue, i)
	}
	for len(queue) > 0 {
		o := &x.d.Overlays[queue[len(queue)-1]]
		queue = queue[:len(queue)-1]
		for _, p := range standsOn(o.Lower, o.Mountpoint, path.Dir(o.Mountpoint), x.has) {
			if i := x.at[p]; !picked[i] {
				picked[i] = true
				queue = append(queue, i)
			}
		}
	}
	d := Desired{Overlays: make([]Overlay, 0, len(picked)), whole: x}
	for i := range picked {
		queue = append(queue, i)
	}
	slices.Sort(queue) // the order of the whole
	for _, i := range queue {
		d.Overlays = append(d.Overlays, x.d.Overlays[i])
	}
	return d
}

// with takes in the overlays at further mountpoints.
func (d Desired) with(mountpoints []string) Desired {
	picked := make(map[int32]bool, len(d.Overlays)+len(mountpoints))
	for i := range d.Overlays {
		picked[d.whole.at[d.Overlays[i].Mountpoint]] = true
	}
	for _, m := range mountpoints {
		picked[d.whole.at[m]] = true
	}
	return d.whole.part(picked)
}

// wanting gives the mountpoints of overlays that are desired and not in this part of the spec, but matter for it.
func (b *builder) wanting() []string {
	if b.whole == nil {
		return nil
	}
	var out []string
	seen := map[string]bool{}
	want := func(at string) {
		if !seen[at] && b.goals[at] == nil && b.whole.has(at) {
			out = append(out, at)
		}
		seen[at] = true
	}
	climbed := map[string]bool{}
	var above func(at string)
	above = func(at string) {
		for _, kid := range b.family.children[at] {
			if !climbed[kid] {
				climbed[kid] = true
				want(kid)
				above(kid)
			}
		}
	}
	for _, g := range b.goals {
		for _, p := range g.parents {
			want(p) // a symlink leads there
		}
		for _, p := range b.family.parents[g.Mountpoint] {
			want(p) // it may go down, and take this one with it
		}
	}
	for _, c := range b.changes {
		for _, l := range c.Do.Unmount {
			above(l.Mountpoint)
		}
		if upper, work := c.data(b.goals); upper != "" {
			for _, dir := range []string{upper, work} {
				for _, at := range b.family.holders[dir] {
					want(at)
				}
				if info := b.o.path(dir); info.Exists {
					for _, at := range b.family.ids[info.ID] {
						want(at)
					}
					for _, u := range b.family.alien[info.ID] {
						b.family.mountedFrom(u.Dev, want) // its copy goes with it, if it goes
					}
				}
			}
		}
	}
	return out
}
