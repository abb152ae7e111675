package config

import (
	"slices"

	"github.com/hashicorp/hcl/v2"
)

// relations holds where every directory of the spec is used. Whether two paths
// are in each other's way is found by walking up from each one and looking
// into used, so that 10,000 overlays are not 50 million pairs.
type relations struct {
	m     *module
	used  map[string]use
	free  map[string]bool   // directories with nothing used at or above them
	lower map[string]string // path → lowerdir.NAME
}

// use is what a directory is used for, by whoever came first.
type use struct {
	mount *Overlay
	data  dataUse
	layer layerUse
}

// dataUse is the use of a directory as upperdir or workdir. The zero value is
// none.
type dataUse struct {
	o    *Overlay
	work bool
}

// layerUse is the use of a directory as a layer. The zero value is none.
type layerUse struct {
	o *Overlay
	i int
}

func (u layerUse) layer() Layer { return u.o.Lowerdirs[u.i] }

// relate checks the overlays of a spec against each other and connects layers
// with the overlays they are mountpoints of.
func (m *module) relate(spec *Spec) {
	r := &relations{
		m:     m,
		used:  make(map[string]use, 3*len(spec.Overlays)),
		free:  map[string]bool{},
		lower: make(map[string]string, len(spec.Lowerdirs)),
	}
	for _, l := range spec.Lowerdirs {
		if _, ok := r.lower[l.Path]; !ok {
			r.lower[l.Path] = kindLowerdir + "." + l.Name
		}
	}
	var last *Overlay
	for _, o := range spec.Overlays {
		r.enter(o)
		if last == nil || !sharesLayers(last, o) {
			r.enterLayers(o)
		}
		last = o
	}
	last = nil
	for _, o := range spec.Overlays {
		if last == nil || !sharesLayers(last, o) {
			r.linkLayers(o)
			r.checkLayers(o)
		}
		last = o
	}
	for _, o := range spec.Overlays {
		r.checkData(o)
		r.checkMountpoint(o)
		r.checkOwnLayers(o)
	}
	r.checkStacking(spec.Overlays)
}

// above yields the directories above p that are used for something, the
// nearest first.
func (r *relations) above(p string) func(yield func(string, use) bool) {
	return func(yield func(string, use) bool) {
		found, steps := false, 0
		for dir := range ancestors(p) {
			if r.free[dir] {
				break
			}
			steps++
			if u, ok := r.used[dir]; ok {
				found = true
				if !yield(dir, u) {
					return
				}
			}
		}
		if found || steps < 2 {
			return
		}
		// The nearest is often there for p alone, and not worth remembering.
		i := 0
		for dir := range ancestors(p) {
			if i++; i > steps {
				return
			}
			if i > 1 {
				r.free[dir] = true
			}
		}
	}
}

func (r *relations) report(o *Overlay, d *hcl.Diagnostic) {
	r.m.diags.addFor(o.Address, d)
}

// dataOf returns the uses that an overlay makes of an upperdir and a workdir,
// whose paths may be "".
func dataOf(o *Overlay) [2]dataUse {
	return [2]dataUse{{o: o}, {o: o, work: true}}
}

func (u dataUse) path() string {
	if u.work {
		return u.o.Workdir
	}
	return u.o.Upperdir
}

func (u dataUse) what() string {
	if u.work {
		return "workdir"
	}
	return "upperdir"
}

func (u dataUse) rng() hcl.Range {
	if u.work {
		return u.o.WorkRange
	}
	return u.o.UpperRange
}

// of names the use for a diagnostic about overlay o.
func (u dataUse) of(o *Overlay) string {
	if u.o == o {
		return "its own " + u.what()
	}
	return "the " + u.what() + " of " + u.o.Address.String() + " (" + place(u.rng()) + ")"
}

// enter notes the directories of an overlay and reports those used twice.
func (r *relations) enter(o *Overlay) {
	if p := o.Mountpoint; p != "" {
		u := r.used[p]
		if first := u.mount; first == nil {
			u.mount = o
			r.used[p] = u
		} else {
			r.report(o, problem(o.MountpointRange, "Duplicate mountpoint", "%s is also the mountpoint of %s (%s).%s",
				quote(p), first.Address, place(first.MountpointRange), keyHint(o, first)))
		}
	}
	for _, d := range dataOf(o) {
		p := d.path()
		if p == "" {
			continue
		}
		u := r.used[p]
		switch first := u.data; first.o {
		case nil:
			u.data = d
			r.used[p] = u
		case o:
			r.report(o, problem(d.rng(), "Directory used twice",
				"%s is upperdir and workdir at once; they must be two directories next to each other.", quote(p)))
		default:
			r.report(o, problem(d.rng(), "Directory used twice", "%s, the %s of %s, is also %s. What one client writes "+
				"must be its own.%s", quote(p), d.what(), o.Address, first.of(o), keyHint(o, first.o)))
		}
	}
}

func (r *relations) enterLayers(o *Overlay) {
	for i, l := range o.Lowerdirs {
		if u := r.used[l.Path]; u.layer.o == nil {
			u.layer = layerUse{o, i}
			r.used[l.Path] = u
		}
	}
}

func keyHint(a, b *Overlay) string {
	if a.Address.Keyed && a.Address.Name == b.Address.Name {
		return " With for_each, the path must differ by each.key."
	}
	return ""
}

// sharesLayers tells whether two instances were given the same slice.
func sharesLayers(a, b *Overlay) bool {
	return len(a.Lowerdirs) > 0 && len(a.Lowerdirs) == len(b.Lowerdirs) && &a.Lowerdirs[0] == &b.Lowerdirs[0]
}

// checkLayers finds layers of one overlay that contain each other, which the
// kernel refuses with ELOOP, and layers inside of what a client writes.
func (r *relations) checkLayers(o *Overlay) {
	seen := make(map[string]bool, len(o.Lowerdirs))
	for _, l := range o.Lowerdirs {
		if seen[l.Path] {
			r.report(o, problem(l.Range, "Duplicate lowerdir", "%s is in the list twice.", quote(l.Path)))
		}
		seen[l.Path] = true
	}
	for _, l := range o.Lowerdirs {
		for dir := range r.above(l.Path) {
			if seen[dir] {
				r.report(o, problem(l.Range, "Overlapping lowerdirs",
					"%s lies inside of %s, another lowerdir of the same overlay. The kernel refuses that.",
					quote(l.Path), quote(dir)))
				break
			}
		}
		if use := r.used[l.Path].layer; use.o != o || use.layer().Range != l.Range {
			continue // reported where it is used first
		}
		for dir, u := range r.above(l.Path) {
			if u.data.o != nil {
				r.report(o, problem(l.Range, "Lowerdir inside of "+withArticle(u.data.what()),
					"%s lies inside of %s, %s. A layer must not change while it is mounted.",
					quote(l.Path), quote(dir), u.data.of(o)))
				break
			}
		}
	}
}

// checkData finds upperdirs and workdirs that lie where they must not.
func (r *relations) checkData(o *Overlay) {
	for _, d := range dataOf(o) {
		p := d.path()
		if p == "" {
			continue
		}
		own := r.used[p]
		if own.data != d {
			continue // used twice, and reported as that
		}
		if use := own.layer; use.o != nil {
			r.report(o, problem(d.rng(), "Lowerdir written to", "%s is the %s of %s and a lowerdir of %s (%s). "+
				"A layer must not change while it is mounted.",
				quote(p), d.what(), o.Address, use.o.Address, place(use.layer().Range)))
		}
		var inLayer, inData, onMount bool
		for dir, u := range r.above(p) {
			if use := u.layer; use.o != nil && !inLayer {
				inLayer = true
				r.report(o, problem(d.rng(), "Directory inside of a lowerdir",
					"%s, the %s of %s, lies inside of %s, a lowerdir of %s (%s). All clients would see it, and a layer "+
						"must not change while it is mounted.",
					quote(p), d.what(), o.Address, quote(dir), use.o.Address, place(use.layer().Range)))
			}
			if u.data.o != nil && !inData {
				inData = true
				r.report(o, problem(d.rng(), "Nested directories", "%s, the %s of %s, lies inside of %s, %s. "+
					"Neither may contain the other.", quote(p), d.what(), o.Address, quote(dir), u.data.of(o)))
			}
			if u.mount != nil && !onMount && !inLayer {
				onMount = true
				r.belowMountpoint(o, u.mount, d)
			}
		}
	}
}

// belowMountpoint is about an upperdir or workdir that a mount hides.
func (r *relations) belowMountpoint(o, other *Overlay, u dataUse) {
	if o == other {
		r.report(o, problem(u.rng(), "Directory below its own mountpoint",
			"%s, the %s of %s, lies below %s, where the overlay itself is mounted.",
			quote(u.path()), u.what(), o.Address, quote(o.Mountpoint)))
		return
	}
	r.report(o, warning(u.rng(), "Directory on an overlay",
		"%s, the %s of %s, lies below %s, the mountpoint of %s. The kernel takes no directory of an overlay as %s, so "+
			"this works only with another filesystem mounted between.",
		quote(u.path()), u.what(), o.Address, quote(other.Mountpoint), other.Address, u.what()))
}

// checkMountpoint finds mountpoints inside of what a client writes or reads.
func (r *relations) checkMountpoint(o *Overlay) {
	p := o.Mountpoint
	if p == "" {
		return
	}
	if d := r.used[p].data; d.o != nil {
		r.report(o, problem(o.MountpointRange, "Mountpoint inside of "+withArticle(d.what()),
			"%s, the mountpoint of %s, is %s.", quote(p), o.Address, d.of(o)))
		return
	}
	inLayer := false
	for dir, u := range r.above(p) {
		if u.data.o != nil {
			r.report(o, problem(o.MountpointRange, "Mountpoint inside of "+withArticle(u.data.what()),
				"%s, the mountpoint of %s, lies inside of %s, %s.", quote(p), o.Address, quote(dir), u.data.of(o)))
			return
		}
		if use := u.layer; use.o != nil && !inLayer && u.mount == nil {
			inLayer = true
			r.report(o, warning(o.MountpointRange, "Mountpoint inside of a lowerdir",
				"%s, the mountpoint of %s, lies inside of %s, a lowerdir of %s (%s). The mount hides that part of the "+
					"lowerdir on this host, and clients see the bare directory.",
				quote(p), o.Address, quote(dir), use.o.Address, place(use.layer().Range)))
		}
	}
}

// checkOwnLayers is about an overlay that is mounted over its own layers.
func (r *relations) checkOwnLayers(o *Overlay) {
	if o.Mountpoint == "" {
		return
	}
	for i, l := range o.Lowerdirs {
		switch {
		case l.Path == o.Mountpoint && r.m.refersToItself(o):
			r.report(o, problem(l.Range, "Cycle", "%s has itself as a layer.", o.Address))
		case l.Path == o.Mountpoint:
			r.report(o, warning(l.Range, "Mountpoint hides a lowerdir",
				"%s is mounted over %s, its own lowerdir, which nobody can reach while it is mounted.",
				o.Address, quote(l.Path)))
		case isBelow(l.Path, o.Mountpoint):
			r.report(o, problem(l.Range, "Directory below its own mountpoint",
				"%s, a lowerdir of %s, lies below %s, where the overlay itself is mounted.",
				quote(l.Path), o.Address, quote(o.Mountpoint)))
		}
		if l.Overlay != nil && *l.Overlay == o.Address {
			// The list may belong to other instances, too.
			o.Lowerdirs = slices.Clone(o.Lowerdirs)
			r.link(&o.Lowerdirs[i], o)
		}
	}
}

// refersToItself tells whether the lowerdirs of an overlay name its own block.
func (m *module) refersToItself(o *Overlay) bool {
	self := m.nodes[node{kindOverlay, o.Address.Name}]
	a := self.block.attr("lowerdirs")
	return slices.ContainsFunc(a.refs, func(r reference) bool { return r.to == self })
}
