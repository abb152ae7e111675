package config

import (
	"slices"

	"github.com/hashicorp/hcl/v2"
)

// relations holds where every directory of the spec is used. Whether two paths
// are in each other's way is found by walking up from each one and looking
// into these maps, so that 10,000 overlays are not 50 million pairs.
type relations struct {
	m      *module
	mounts map[string]*Overlay
	data   map[string]dataUse
	layers map[string]layerUse
	lower  map[string]string // path → lowerdir.NAME
}

// dataUse is the use of a directory as upperdir or workdir.
type dataUse struct {
	o    *Overlay
	what string // "upperdir" or "workdir"
	rng  hcl.Range
}

type layerUse struct {
	o     *Overlay
	layer Layer
}

// relate checks the overlays of a spec against each other and connects layers
// with the overlays they are mountpoints of.
func (m *module) relate(spec *Spec) {
	r := &relations{
		m:      m,
		mounts: make(map[string]*Overlay, len(spec.Overlays)),
		data:   make(map[string]dataUse, 2*len(spec.Overlays)),
		layers: map[string]layerUse{},
		lower:  map[string]string{},
	}
	for _, l := range spec.Lowerdirs {
		if _, ok := r.lower[l.Path]; !ok {
			r.lower[l.Path] = kindLowerdir + "." + l.Name
		}
	}
	for _, o := range spec.Overlays {
		r.enter(o)
	}
	var last *Overlay
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

func (r *relations) report(o *Overlay, d *hcl.Diagnostic) {
	r.m.diags.addFor(o.Address, d)
}

// dataOf returns the upperdir and workdir of an overlay, as far as known.
func dataOf(o *Overlay) []dataUse {
	var out []dataUse
	if o.Upperdir != "" {
		out = append(out, dataUse{o, "upperdir", o.UpperRange})
	}
	if o.Workdir != "" {
		out = append(out, dataUse{o, "workdir", o.WorkRange})
	}
	return out
}

func (u dataUse) path() string {
	if u.what == "workdir" {
		return u.o.Workdir
	}
	return u.o.Upperdir
}

// of names the use for a diagnostic about overlay o.
func (u dataUse) of(o *Overlay) string {
	if u.o == o {
		return "its own " + u.what
	}
	return "the " + u.what + " of " + u.o.Address.String() + " (" + place(u.rng) + ")"
}

// enter notes the directories of an overlay and reports those used twice.
func (r *relations) enter(o *Overlay) {
	if p := o.Mountpoint; p != "" {
		if first := r.mounts[p]; first == nil {
			r.mounts[p] = o
		} else {
			r.report(o, problem(o.MountpointRange, "Duplicate mountpoint", "%s is also the mountpoint of %s (%s).%s",
				quote(p), first.Address, place(first.MountpointRange), keyHint(o, first)))
		}
	}
	for _, u := range dataOf(o) {
		p := u.path()
		first, ok := r.data[p]
		switch {
		case !ok:
			r.data[p] = u
		case first.o == o:
			r.report(o, problem(u.rng, "Directory used twice",
				"%s is upperdir and workdir at once; they must be two directories next to each other.", quote(p)))
		default:
			r.report(o, problem(u.rng, "Directory used twice", "%s, the %s of %s, is also %s. What one client writes "+
				"must be its own.%s", quote(p), u.what, o.Address, first.of(o), keyHint(o, first.o)))
		}
	}
	for _, l := range o.Lowerdirs {
		if _, ok := r.layers[l.Path]; !ok {
			r.layers[l.Path] = layerUse{o, l}
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
		for dir := range ancestors(l.Path) {
			if seen[dir] {
				r.report(o, problem(l.Range, "Overlapping lowerdirs",
					"%s lies inside of %s, another lowerdir of the same overlay. The kernel refuses that.",
					quote(l.Path), quote(dir)))
				break
			}
		}
		if use := r.layers[l.Path]; use.o != o || use.layer.Range != l.Range {
			continue // reported where it is used first
		}
		for dir := range ancestors(l.Path) {
			if u, ok := r.data[dir]; ok {
				r.report(o, problem(l.Range, "Lowerdir inside of "+withArticle(u.what),
					"%s lies inside of %s, %s. A layer must not change while it is mounted.",
					quote(l.Path), quote(dir), u.of(o)))
				break
			}
		}
	}
}

// checkData finds upperdirs and workdirs that lie where they must not.
func (r *relations) checkData(o *Overlay) {
	for _, u := range dataOf(o) {
		p := u.path()
		if r.data[p] != u {
			continue // used twice, and reported as that
		}
		if use, ok := r.layers[p]; ok {
			r.report(o, problem(u.rng, "Lowerdir written to", "%s is the %s of %s and a lowerdir of %s (%s). "+
				"A layer must not change while it is mounted.",
				quote(p), u.what, o.Address, use.o.Address, place(use.layer.Range)))
		}
		above := map[string]bool{}
		for dir := range ancestors(p) {
			if use, ok := r.layers[dir]; ok && !above["layer"] {
				above["layer"] = true
				r.report(o, problem(u.rng, "Directory inside of a lowerdir",
					"%s, the %s of %s, lies inside of %s, a lowerdir of %s (%s). All clients would see it, and a layer "+
						"must not change while it is mounted.",
					quote(p), u.what, o.Address, quote(dir), use.o.Address, place(use.layer.Range)))
			}
			if other, ok := r.data[dir]; ok && !above["data"] {
				above["data"] = true
				r.report(o, problem(u.rng, "Nested directories", "%s, the %s of %s, lies inside of %s, %s. "+
					"Neither may contain the other.", quote(p), u.what, o.Address, quote(dir), other.of(o)))
			}
			if other := r.mounts[dir]; other != nil && !above["mount"] && !above["layer"] {
				above["mount"] = true
				r.belowMountpoint(o, other, u)
			}
		}
	}
}

// belowMountpoint is about an upperdir or workdir that a mount hides.
func (r *relations) belowMountpoint(o, other *Overlay, u dataUse) {
	if o == other {
		r.report(o, problem(u.rng, "Directory below its own mountpoint",
			"%s, the %s of %s, lies below %s, where the overlay itself is mounted.",
			quote(u.path()), u.what, o.Address, quote(o.Mountpoint)))
		return
	}
	r.report(o, warning(u.rng, "Directory on an overlay",
		"%s, the %s of %s, lies below %s, the mountpoint of %s. The kernel takes no directory of an overlay as %s, so "+
			"this works only with another filesystem mounted between.",
		quote(u.path()), u.what, o.Address, quote(other.Mountpoint), other.Address, u.what))
}

// checkMountpoint finds mountpoints inside of what a client writes or reads.
func (r *relations) checkMountpoint(o *Overlay) {
	p := o.Mountpoint
	if p == "" {
		return
	}
	if u, ok := r.data[p]; ok {
		r.report(o, problem(o.MountpointRange, "Mountpoint inside of "+withArticle(u.what),
			"%s, the mountpoint of %s, is %s.", quote(p), o.Address, u.of(o)))
		return
	}
	inLayer := false
	for dir := range ancestors(p) {
		if u, ok := r.data[dir]; ok {
			r.report(o, problem(o.MountpointRange, "Mountpoint inside of "+withArticle(u.what),
				"%s, the mountpoint of %s, lies inside of %s, %s.", quote(p), o.Address, quote(dir), u.of(o)))
			return
		}
		if use, ok := r.layers[dir]; ok && !inLayer && r.mounts[dir] == nil {
			inLayer = true
			r.report(o, warning(o.MountpointRange, "Mountpoint inside of a lowerdir",
				"%s, the mountpoint of %s, lies inside of %s, a lowerdir of %s (%s). The mount hides that part of the "+
					"lowerdir on this host, and clients see the bare directory.",
				quote(p), o.Address, quote(dir), use.o.Address, place(use.layer.Range)))
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
	n := node{kindOverlay, o.Address.Name}
	a := m.nodes[n].block.attrs["lowerdirs"]
	return slices.ContainsFunc(a.refs, func(r reference) bool { return r.node == n })
}
