package reconcile

import (
	"slices"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// Applied gives what was last applied, from the unit files, as what is desired: the difference between that and the
// host is drift. Live overlays of ours without a unit file are orphans. It needs no spec.
func (h *Host) Applied() (plan.Desired, error) {
	var o plan.Observed
	if err := h.observeUnits(plan.Desired{}, &o); err != nil {
		return plan.Desired{}, err
	}
	var d plan.Desired
	for _, u := range o.Units {
		if u.Ours {
			d.Overlays = append(d.Overlays, appliedOverlay(u))
		}
	}
	d.Sort()
	orphans, err := h.orphans(&o)
	d.Orphans = orphans
	return d, err
}

func appliedOverlay(u plan.UnitFile) plan.Overlay {
	return plan.Overlay{
		Address: u.Address, Source: u.Source, Lower: u.Config.Lower, Upper: u.Config.Upper, Work: u.Config.Work,
		Mountpoint: u.Where, AllowUnsafeParent: true, UID: -1, GID: -1, Options: u.Config.Options,
		Description: u.Description, WantedBy: u.WantedBy, After: u.After, Requires: u.Requires,
		PreventDestroy: u.PreventDestroy, OnBusy: u.OnBusy, Applied: &u,
	}
}

// orphans lists the mountpoints of live overlays of ours that have no unit file.
func (h *Host) orphans(o *plan.Observed) ([]string, error) {
	if h.Offline() {
		return nil, nil
	}
	table, err := host.ReadTable()
	if err != nil {
		return nil, err
	}
	has, devs := map[string]bool{}, map[string]bool{}
	for _, u := range o.Units {
		if u.Ours {
			has[u.Where] = true
			for _, m := range table.At(u.Where) {
				devs[m.Dev] = true // a bind mount of one of ours is no orphan
			}
		}
	}
	var out []string
	for _, m := range table.All() {
		if isOurs(m) && !has[m.Mountpoint] && !devs[m.Dev] {
			has[m.Mountpoint] = true
			out = append(out, m.Mountpoint)
		}
	}
	return out, nil
}

func isOurs(m overlayfs.Mount) bool { return m.Overlay != nil && m.Source == plan.Label }

// DoomedFrom gives what to desire so that all goes that was applied from the spec files of a scope.
func (h *Host) DoomedFrom(s plan.Scope) (plan.Desired, error) {
	applied, err := h.Applied()
	if err != nil {
		return plan.Desired{}, err
	}
	var d plan.Desired
	for _, o := range applied.Overlays {
		if s.Contains(o.Source) {
			d.Scope.Mountpoints = append(d.Scope.Mountpoints, o.Mountpoint)
		}
	}
	return d, nil
}

// Doomed gives what to desire so that the one overlay at a mountpoint goes, with or without a unit file; found is false
// if none of ours is there.
func (h *Host) Doomed(mountpoint string) (d plan.Desired, found bool, err error) {
	at := recorded(mountpoint, h.Root)
	applied, err := h.Applied()
	if err != nil {
		return plan.Desired{}, false, err
	}
	for _, o := range applied.Overlays {
		if o.Mountpoint == at {
			return plan.Desired{Scope: plan.Scope{Mountpoints: []string{at}}}, true, nil
		}
	}
	if slices.Contains(applied.Orphans, at) {
		return plan.Desired{Orphans: []string{at}}, true, nil
	}
	return plan.Desired{}, false, nil
}
