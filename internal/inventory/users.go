package inventory

import (
	"context"
	"errors"
	"path/filepath"
	"slices"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/units"
	"github.com/overlayd/overlayd/internal/units/systemd"
)

// Users gives what uses a mounted overlay: the units that systemd would stop with it, the mounts below it, and the
// processes that hold it, also by a bind mount. Processes is nil where only root may look.
func (i *Inventory) Users(ctx context.Context, o Overlay) (plan.Impact, error) {
	use := plan.Impact{Units: []string{}, Mounts: []string{}, Processes: []overlayfs.Process{}}
	if !o.Mounted {
		return use, nil
	}
	for _, m := range i.table.Below(o.Mountpoint) {
		use.Mounts = append(use.Mounts, m.Mountpoint)
	}
	slices.Sort(use.Mounts)
	use.Mounts = slices.Compact(use.Mounts)

	ids := map[int]string{}
	for _, m := range i.table.All() {
		if m.Dev == o.Mount.Dev {
			ids[m.ID] = m.Mountpoint
		}
	}
	holders, err := host.Users(ids)
	switch {
	case errors.Is(err, host.ErrNotPermitted):
		use.Processes = nil
	case err != nil:
		return use, err
	}
	for _, processes := range holders {
		use.Processes = append(use.Processes, processes...)
	}
	slices.SortFunc(use.Processes, func(a, b overlayfs.Process) int { return a.PID - b.PID })
	use.Processes = slices.Compact(use.Processes)

	dependents, err := dependentsOf(ctx, units.Name(o.Mountpoint))
	use.Units = append(use.Units, dependents...)
	return use, err
}

// dependentsOf asks systemd, where it runs. A mount has a unit there whether or not that has a file.
func dependentsOf(ctx context.Context, unit string) ([]string, error) {
	if !systemd.Running() || len(unit) > units.MaxName {
		return nil, nil // of a longer path the unit has a hashed name, which nobody can write a dependency on
	}
	m, err := systemd.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	all, err := m.DependentsOf(ctx, []string{unit})
	return all[unit], err
}

// Below gives the overlays that o stands on: those that hold one of its layers.
func (i *Inventory) Below(o Overlay) []Overlay {
	return i.filter(func(other Overlay) bool { return i.standsOn(o, other) })
}

// Above gives the overlays that stand on o.
func (i *Inventory) Above(o Overlay) []Overlay {
	return i.filter(func(other Overlay) bool { return i.standsOn(other, o) })
}

// standsOn goes by what the layers are called; the units of ours have names without symlinks.
func (i *Inventory) standsOn(o, other Overlay) bool {
	if same(o, other) {
		return false
	}
	return slices.ContainsFunc(slices.Concat(o.Config.Lower, o.Config.Data), func(layer string) bool {
		if !filepath.IsAbs(layer) || !under(layer, other.Mountpoint) {
			return false
		}
		holder, ok := i.above(filepath.Clean(layer))
		return ok && same(holder, other) && !i.elsewhere(layer, holder)
	})
}

func same(a, b Overlay) bool { return a.Mountpoint == b.Mountpoint && a.Mount.ID == b.Mount.ID }

// Neighbours gives the mounts at the place of o beside o itself: those in reach, bottom to top, and those that a mount
// over a directory above hides.
func (i *Inventory) Neighbours(o Overlay) (inReach, hidden []overlayfs.Mount) {
	others := func(mounts []overlayfs.Mount) []overlayfs.Mount {
		return slices.DeleteFunc(mounts, func(m overlayfs.Mount) bool { return o.Mounted && m.ID == o.Mount.ID })
	}
	return others(i.table.At(o.Mountpoint)), others(i.table.Hidden(o.Mountpoint))
}

// Beneath gives the overlays with a unit of ours that are mounted at the place of o, below o.
func (i *Inventory) Beneath(o Overlay) []Overlay {
	var out []Overlay
	for _, m := range i.table.At(o.Mountpoint) {
		if !o.Mounted || m.ID == o.Mount.ID {
			break
		}
		if k, ok := i.byMount[m.ID]; ok && i.overlays[k].Managed && i.overlays[k].Mount.ID == m.ID {
			out = append(out, i.overlays[k])
		}
	}
	return out
}

// Hides gives the mount on which path resolution ends at the place of a hidden overlay.
func (i *Inventory) Hides(o Overlay) (overlayfs.Mount, bool) {
	if !o.Hidden {
		return overlayfs.Mount{}, false
	}
	return i.table.Covering(o.Mountpoint)
}

// Copies gives the other places where o is mounted, by a bind mount.
func (i *Inventory) Copies(o Overlay) []overlayfs.Mount {
	var out []overlayfs.Mount
	for _, m := range i.table.All() {
		if o.Mounted && m.Dev == o.Mount.Dev && m.ID != o.Mount.ID {
			out = append(out, m)
		}
	}
	return out
}
