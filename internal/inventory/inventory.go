package inventory

import (
	"bytes"
	"cmp"
	"os"
	"slices"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/units"
	"github.com/overlayd/overlayd/internal/units/systemd"
)

// Overlay is one overlay of the host.
type Overlay struct {
	Address    string // "" if it is not overlayd's, or its unit file is gone
	Managed    bool   // has a unit of ours
	Owner      overlayfs.Owner
	Mountpoint string
	Config     overlayfs.Config // as mounted; of one that is not mounted, as its unit says
	Mounted    bool
	Mount      overlayfs.Mount // the table's line, if Mounted
	Hidden     bool            // mounted, but out of reach below another mount
	Unit       string          // name of the managing unit (ours, or a foreign .mount unit that has a file), "" without
	UnitFile   string          // path of its file
	Applied    *plan.UnitFile  // of ours, nil without
}

// String names the overlay in a message: by its address, or by where it is.
func (o Overlay) String() string {
	if o.Address != "" {
		return o.Address
	}
	return "the overlay at " + o.Mountpoint
}

// Inventory is what overlays a host has. It is one look, and does not follow what changes later.
type Inventory struct {
	overlays []Overlay // sorted
	table    *overlayfs.Table
	byMount  map[int]int // mount ID → index; the bind mounts of an overlay lead to it, too
	root     string
}

// Read looks at a host, or at a tree, where nothing is mounted. It changes nothing and needs no privileges.
func Read(h *reconcile.Host) (*Inventory, error) {
	applied, err := h.Applied()
	if err != nil {
		return nil, err
	}
	listing, err := systemd.Dir{Root: h.Root}.List()
	if err != nil {
		return nil, err
	}
	var table *overlayfs.Table
	if h.Offline() {
		table, err = overlayfs.ParseTable(bytes.NewReader(nil))
	} else {
		table, err = host.ReadTable()
	}
	if err != nil {
		return nil, err
	}
	i := New(applied, listing, table)
	i.root = h.Root
	return i, nil
}

// New puts an inventory together from what was applied, the unit directories and the mount table.
func New(applied plan.Desired, listing *systemd.Listing, table *overlayfs.Table) *Inventory {
	i := &Inventory{table: table}
	at := map[string][]overlayfs.Mount{} // overlays by mountpoint, in the order of the table
	for _, m := range table.All() {
		if m.Overlay != nil {
			at[m.Mountpoint] = append(at[m.Mountpoint], m)
		}
	}
	taken := map[int]bool{}
	managed := map[string]bool{} // mountpoints
	for _, a := range applied.Overlays {
		managed[a.Mountpoint] = true
		o := Overlay{
			Address: a.Address, Managed: true, Owner: overlayfs.OwnerOverlayd, Mountpoint: a.Mountpoint,
			Config: a.Applied.Config, Unit: units.Name(a.Mountpoint), UnitFile: a.Applied.Path,
			Applied: a.Applied,
		}
		if m, ok := i.standsFor(at[a.Mountpoint]); ok {
			taken[m.ID] = true
			i.put(&o, m)
		}
		i.overlays = append(i.overlays, o)
	}
	for _, m := range i.mains(taken) {
		o := Overlay{Owner: overlayfs.OwnerOf(m), Mountpoint: m.Mountpoint}
		if !managed[m.Mountpoint] { // else it is over or below what our unit is about
			o.Unit, o.UnitFile = foreignUnit(m.Mountpoint, listing)
		}
		i.put(&o, m)
		i.overlays = append(i.overlays, o)
	}
	slices.SortStableFunc(i.overlays, func(a, b Overlay) int {
		without := func(o Overlay) int {
			if o.Address == "" {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(without(a), without(b)), cmp.Compare(a.Address, b.Address),
			cmp.Compare(a.Mountpoint, b.Mountpoint))
	})
	i.index()
	return i
}

// put says that o is mounted as m.
func (i *Inventory) put(o *Overlay, m overlayfs.Mount) {
	o.Mounted, o.Mount, o.Config, o.Hidden = true, m, *m.Overlay, i.hidden(m)
}

// hidden tells whether path resolution does not end on m at its mountpoint.
func (i *Inventory) hidden(m overlayfs.Mount) bool {
	top, ok := i.table.Covering(m.Mountpoint)
	return !ok || top.ID != m.ID
}

// standsFor picks the mount that a unit of ours is about from the overlays at its mountpoint. In reach goes before
// hidden, a mount with our label before one by hand, later before earlier.
func (i *Inventory) standsFor(at []overlayfs.Mount) (overlayfs.Mount, bool) {
	if len(at) == 0 {
		return overlayfs.Mount{}, false
	}
	inReach := i.table.At(at[0].Mountpoint) // below another mount at the same place counts: it is in the stack
	rank := func(m overlayfs.Mount) int {
		r := 0
		if slices.ContainsFunc(inReach, func(r overlayfs.Mount) bool { return r.ID == m.ID }) {
			r += 2
		}
		if m.Source == plan.Label {
			r++
		}
		return r
	}
	best := at[0]
	for _, m := range at[1:] {
		if rank(m) >= rank(best) {
			best = m
		}
	}
	return best, true
}

// mains gives the mounts of the overlays that no unit of ours is about. A bind mount of an overlay is no overlay of
// its own: of those that share a super block the one of its whole tree counts, in reach if possible, first in the
// table.
func (i *Inventory) mains(taken map[int]bool) []overlayfs.Mount {
	ours := map[string]bool{} // super blocks
	for id := range taken {
		m, _ := i.table.ByID(id)
		ours[m.Dev] = true
	}
	rank := func(m overlayfs.Mount) int {
		r := 0
		if m.Root == "/" {
			r += 2
		}
		if !i.hidden(m) {
			r++
		}
		return r
	}
	index := map[string]int{}
	var out []overlayfs.Mount
	for _, m := range i.table.All() {
		if m.Overlay == nil || ours[m.Dev] {
			continue
		}
		at, seen := index[m.Dev]
		switch {
		case !seen:
			index[m.Dev] = len(out)
			out = append(out, m)
		case rank(m) > rank(out[at]):
			out[at] = m
		}
	}
	return out
}

func (i *Inventory) index() {
	i.byMount = map[int]int{}
	byDev := map[string]int{}
	for k, o := range i.overlays {
		if o.Mounted {
			byDev[o.Mount.Dev] = k
		}
	}
	for _, m := range i.table.All() {
		if k, ok := byDev[m.Dev]; ok && m.Overlay != nil {
			i.byMount[m.ID] = k
		}
	}
	for k, o := range i.overlays {
		if o.Mounted {
			i.byMount[o.Mount.ID] = k
		}
	}
}

// foreignUnit gives the unit of somebody else that has a file for a mountpoint. One that is masked is none.
func foreignUnit(mountpoint string, l *systemd.Listing) (name, file string) {
	name = units.Name(mountpoint)
	f, ok := l.Units[name]
	switch {
	case ok && (f.Link != "" && f.Link != os.DevNull || len(f.Text) > 0):
		return name, f.Path
	case !ok && l.Elsewhere[name] != "" && l.Elsewhere[name] != os.DevNull:
		return name, l.Elsewhere[name]
	}
	return "", ""
}

// All returns the overlays, sorted by address, then mountpoint; those without an address come last.
func (i *Inventory) All() []Overlay { return slices.Clone(i.overlays) }

// Table is the mount table that the inventory was made from; that of a tree is empty.
func (i *Inventory) Table() *overlayfs.Table { return i.table }
