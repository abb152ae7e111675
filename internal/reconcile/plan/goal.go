package plan

import (
	"maps"
	"path"
	"slices"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/units"
)

// networkUnits are what _netdev implies. Mounts made by mount(2) lose it, since systemd learns of _netdev from
// libmount's utab, which only mount(8) writes; said in words it stays (systemd 252, 257).
var (
	networkAfter = []string{"remote-fs-pre.target", "network.target", "network-online.target"}
	networkWants = []string{"network-online.target"}
)

// inherited are the flags of a layer's mount that the kernel does not carry over to the overlay by itself.
var inherited = [...]string{"nosuid", "nodev", "noexec"}

// goal is a desired overlay together with what the host makes of it: symlinks resolved, flags taken over.
type goal struct {
	*Overlay
	name         string // of the unit
	config       overlayfs.Config
	shown        overlayfs.Options // those of config that people see
	text         string            // of the options of config, as the unit has it
	network      bool              // the spec says so, or a layer is on a network filesystem
	parents      []string          // mountpoints of desired overlays that this one stands on, by layer or by path
	layerParents []string          // those by layer, which count for the depth
	links        map[string]string // layers as the spec names them → where their symlinks lead
	depth        int               // overlays below each other; the kernel allows two
	cyclic       bool
	upper, work  dirID
	state        int // of resolve: 1 while its parents are resolved, 2 afterwards
}

// goals makes the goals of a spec, in its order and by mountpoint.
func goals(d Desired, o *Observed) (wanted []*goal, byMount map[string]*goal) {
	wanted = make([]*goal, len(d.Overlays))
	byMount = make(map[string]*goal, len(d.Overlays))
	all := make([]goal, len(d.Overlays))
	for i := range all {
		want := &d.Overlays[i]
		all[i] = goal{Overlay: want, name: units.Name(want.Mountpoint)}
		wanted[i], byMount[want.Mountpoint] = &all[i], &all[i]
	}
	if len(byMount) < len(wanted) { // no spec names a mountpoint twice; if one does the last has it
		for i, g := range wanted {
			wanted[i] = byMount[g.Mountpoint]
		}
	}
	known := func(p string) bool { return byMount[p] != nil }
	if d.whole != nil {
		known = d.whole.has
	}
	near := nearest{known: known}
	var lower []string
	for i := range all {
		g := &all[i]
		lower = lower[:0]
		for _, l := range g.Lower {
			lower = append(lower, o.target(l))
		}
		g.layerParents = near.below(lower, nil, g.Mountpoint, "")
		g.parents = near.below(lower, nil, g.Mountpoint, path.Dir(g.Mountpoint))
	}
	r := resolver{o: o, goals: byMount}
	for _, g := range wanted {
		r.resolve(g)
	}
	return wanted, byMount
}

// standsOn gives the mountpoints, of those known, that an overlay needs below it: its layers lie on them, or the
// directory above its own mountpoint does.
func standsOn(layers []string, mountpoint, above string, known func(string) bool) []string {
	near := nearest{known: known}
	return near.below(layers, nil, mountpoint, above)
}

// nearest finds out for many overlays what they stand on. It remembers directories, for their layers are mostly the
// same.
type nearest struct {
	known func(p string) bool
	dirs  map[string]string // directory → the nearest known mountpoint at it or above, "" for none
}

func (n *nearest) of(p string) string {
	if at, ok := n.dirs[p]; ok {
		return at
	}
	at := ""
	switch {
	case n.known(p):
		at = p
	case p != "/" && p != ".":
		at = n.of(path.Dir(p))
	}
	if n.dirs == nil {
		n.dirs = map[string]string{}
	}
	n.dirs[p] = at
	return at
}

// below gives the mountpoints of [standsOn], of the layers in both lists.
func (n *nearest) below(layers, data []string, mountpoint, above string) []string {
	var out []string
	look := func(p string) {
		at := n.of(p)
		if at == mountpoint && at != "" {
			if at == "/" {
				return
			}
			at = n.of(path.Dir(at))
		}
		if at != "" {
			out = append(out, at)
		}
	}
	for _, l := range layers {
		look(l)
	}
	for _, l := range data {
		look(l)
	}
	if above != "" {
		look(above)
	}
	if len(out) < 2 {
		return out
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// resolver finds out what the host makes of goals.
type resolver struct {
	o     *Observed
	goals map[string]*goal // by mountpoint
	last  optionSet
}

// resolve fills in the config, those of the parents first, since their flags are taken over.
func (r *resolver) resolve(g *goal) {
	if g.state == 2 {
		return
	}
	g.state = 1
	for _, p := range g.parents {
		parent := r.goals[p]
		if parent == nil {
			continue // of a part of a spec, which has to have it: see wanting
		}
		if parent.state == 1 {
			g.cyclic, parent.cyclic = true, true
			continue
		}
		r.resolve(parent)
		if slices.Contains(g.layerParents, p) {
			g.depth = max(g.depth, parent.depth+1)
		}
		g.cyclic = g.cyclic || parent.cyclic
	}
	if g.Applied != nil {
		g.config, g.shown = g.Applied.Config, shown(g.Applied.Config.Options)
	} else {
		r.layers(g)
	}
	g.state = 2
}

// layers makes the config: symlinks of layers resolved, flags of the mounts they live on taken over.
func (r *resolver) layers(g *goal) {
	g.config = overlayfs.Config{Lower: g.Lower, Upper: g.Upper, Work: g.Work}
	g.network = g.Network
	var taken [len(inherited)]bool
	take := func(flags overlayfs.Options) {
		for i, f := range inherited {
			if _, on := flags[f]; on && !slices.Contains(g.OffFlags, f) {
				taken[i] = true
			}
		}
	}
	for i, l := range g.Lower {
		info := r.o.path(l)
		target := leadsTo(l, &info)
		if target != l {
			if g.links == nil {
				g.links = map[string]string{}
				g.config.Lower = slices.Clone(g.Lower)
			}
			g.links[l] = target
			g.config.Lower[i] = target
		}
		if parent := r.goals[parentOf(target, g.parents)]; parent != nil {
			// The parent may not be mounted yet, so what it will be counts, not what is seen there now.
			take(parent.config.Options)
			continue
		}
		take(info.Flags)
		g.network = g.network || info.Network
	}
	if !g.ReadOnly() {
		take(r.o.path(g.Upper).Flags)
	}
	s := r.options(g, taken)
	g.config.Options, g.shown, g.text = s.config, s.shown, s.text
}

// optionSet are options as a spec has them, and what becomes of them.
type optionSet struct {
	spec, config, shown overlayfs.Options
	text                string // of config, as a unit has it
	taken               [len(inherited)]bool
	network             bool
}

// options adds to those of the spec. Neighbours mostly have the same, and then share them.
func (r *resolver) options(g *goal, taken [len(inherited)]bool) *optionSet {
	s := &r.last
	if s.config != nil && s.taken == taken && s.network == g.network && maps.Equal(s.spec, g.Options) {
		return s
	}
	*s = optionSet{spec: g.Options, config: g.Options.Clone(), taken: taken, network: g.network}
	for i, on := range taken {
		if on {
			s.config[inherited[i]] = ""
		}
	}
	s.config["nofail"] = ""
	if g.network {
		s.config["_netdev"] = ""
	}
	s.shown, s.text = shown(s.config), s.config.Text()
	return s
}

func parentOf(p string, parents []string) string {
	found := ""
	for _, parent := range parents {
		if within(p, parent) && len(parent) > len(found) {
			found = parent
		}
	}
	return found
}

// unit gives the unit of a goal. The paths that it requires are in needs, whose memory is used again.
func (g *goal) unit(needs []string) (unit units.Mount, used []string) {
	if g.Applied != nil {
		return g.Applied.Mount, needs
	}
	needs = append(needs[:0], g.config.Lower...)
	if !g.ReadOnly() {
		needs = append(needs, g.Upper, g.Work)
	}
	unit = units.Mount{
		Description:       g.Description,
		RequiresMountsFor: needs,
		After:             g.After,
		Requires:          g.Requires,
		What:              Label,
		Where:             g.Mountpoint,
		Options:           g.config.MountOptionsWith(g.text),
		WantedBy:          g.WantedBy,
		Address:           g.Address,
		Source:            g.Source,
		OnBusy:            g.OnBusy,
		PreventDestroy:    g.PreventDestroy,
	}
	if g.network {
		unit.After = append(slices.Clone(networkAfter), g.After...)
		unit.Wants = networkWants
	}
	return unit, needs
}

// Label is the source that our mounts show in the mount table; it marks them as ours even without a unit file.
const Label = "overlayd"
