package plan

import (
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
var inherited = []string{"nosuid", "nodev", "noexec"}

// goal is a desired overlay together with what the host makes of it: symlinks resolved, flags taken over.
type goal struct {
	Overlay
	name         string // of the unit
	config       overlayfs.Config
	unit         units.Mount
	parents      []string          // mountpoints of desired overlays that this one stands on, by layer or by path
	layerParents []string          // those by layer, which count for the depth
	links        map[string]string // layers as the spec names them → where their symlinks lead
	depth        int               // overlays below each other; the kernel allows two
	cyclic       bool
}

// goals makes the goals of a spec, by mountpoint.
func goals(d Desired, o *Observed) map[string]*goal {
	byMount := make(map[string]*goal, len(d.Overlays))
	for _, want := range d.Overlays {
		byMount[want.Mountpoint] = &goal{Overlay: want, name: units.Name(want.Mountpoint)}
	}
	known := func(p string) bool { return byMount[p] != nil }
	if d.whole != nil {
		known = d.whole.has
	}
	near := nearest{known: known}
	var lower []string
	for _, g := range byMount {
		lower = lower[:0]
		for _, l := range g.Lower {
			lower = append(lower, o.target(l))
		}
		g.layerParents = near.below(lower, nil, g.Mountpoint, "")
		g.parents = near.below(lower, nil, g.Mountpoint, path.Dir(g.Mountpoint))
	}
	state := make(map[*goal]int, len(byMount)) // 1: being resolved, 2: done
	for _, want := range d.Overlays {
		byMount[want.Mountpoint].resolve(o, byMount, state)
	}
	return byMount
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

// resolve fills in config and unit, those of the parents first, since their flags are taken over.
func (g *goal) resolve(o *Observed, byMount map[string]*goal, state map[*goal]int) {
	if state[g] == 2 {
		return
	}
	state[g] = 1
	for _, p := range g.parents {
		parent := byMount[p]
		if parent == nil {
			continue // of a part of a spec, which has to have it: see wanting
		}
		if state[parent] == 1 {
			g.cyclic, parent.cyclic = true, true
			continue
		}
		parent.resolve(o, byMount, state)
		if slices.Contains(g.layerParents, p) {
			g.depth = max(g.depth, parent.depth+1)
		}
		g.cyclic = g.cyclic || parent.cyclic
	}
	if g.Applied != nil {
		g.config, g.unit = g.Applied.Config, g.Applied.Mount
	} else {
		g.layers(o, byMount)
		g.render()
	}
	state[g] = 2
}

// layers makes the config: symlinks of layers resolved, flags of the mounts they live on taken over.
func (g *goal) layers(o *Observed, byMount map[string]*goal) {
	g.config = overlayfs.Config{Upper: g.Upper, Work: g.Work, Options: g.Options.Clone()}
	network := g.Network
	take := func(flags overlayfs.Options) {
		for _, f := range inherited {
			if _, on := flags[f]; on && !slices.Contains(g.OffFlags, f) {
				g.config.Options[f] = ""
			}
		}
	}
	for _, l := range g.Lower {
		info := o.path(l)
		target := o.target(l)
		if target != l {
			if g.links == nil {
				g.links = map[string]string{}
			}
			g.links[l] = target
		}
		g.config.Lower = append(g.config.Lower, target)
		if parent := byMount[parentOf(target, g.parents)]; parent != nil {
			// The parent may not be mounted yet, so what it will be counts, not what is seen there now.
			take(parent.config.Options)
			continue
		}
		take(info.Flags)
		network = network || info.Network
	}
	if !g.ReadOnly() {
		take(o.path(g.Upper).Flags)
	}
	g.Network = network
	g.config.Options["nofail"] = ""
	if network {
		g.config.Options["_netdev"] = ""
	}
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

func (g *goal) render() {
	needs := slices.Clone(g.config.Lower)
	if !g.ReadOnly() {
		needs = append(needs, g.Upper, g.Work)
	}
	g.unit = units.Mount{
		Description:       g.Description,
		RequiresMountsFor: needs,
		After:             g.After,
		Requires:          g.Requires,
		What:              Label,
		Where:             g.Mountpoint,
		Options:           g.config.MountOptions(),
		WantedBy:          g.WantedBy,
		Address:           g.Address,
		Source:            g.Source,
		OnBusy:            g.OnBusy,
		PreventDestroy:    g.PreventDestroy,
	}
	if g.Network {
		g.unit.After = append(slices.Clone(networkAfter), g.After...)
		g.unit.Wants = networkWants
	}
}

// Label is the source that our mounts show in the mount table; it marks them as ours even without a unit file.
const Label = "overlayd"

// sameFS tells whether all layers lie on one filesystem; then the kernel never shows xino.
func (g *goal) sameFS(o *Observed) bool {
	all := slices.Clone(g.config.Lower)
	if !g.ReadOnly() {
		all = append(all, g.Upper)
	}
	if len(all) == 0 {
		return true // a unit that was edited into having no layers
	}
	first := o.path(all[0]).ID.Dev
	return !slices.ContainsFunc(all, func(p string) bool { return o.path(p).ID.Dev != first })
}
