package reconcile

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/units"
)

// Plan looks at the host and thinks. It looks a second time, at what the disruptive changes would hit, where there are
// any: which units depend on the mounts, which processes use them, and who holds an upperdir in another mount
// namespace. Of a part of a spec it looks at what that part needs, which may turn out to be more than was asked for.
func (h *Host) Plan(ctx context.Context, d plan.Desired, targets []plan.Target) (plan.Plan, *plan.Observed, error) {
	for again := 0; ; {
		o, err := h.Observe(d)
		if err != nil {
			return plan.Plan{}, nil, err
		}
		p, wide := plan.DiffWide(d, o, targets)
		if len(wide.Overlays) > len(d.Overlays) {
			d = wide
			continue
		}
		if h.Offline() || !touches(p) {
			return p, o, nil
		}
		if err := h.observeImpact(ctx, p, o); err != nil {
			return plan.Plan{}, nil, err
		}
		if err := h.observeRequired(ctx, d, p, o); err != nil {
			return plan.Plan{}, nil, err
		}
		conflicts := p.Count(plan.Conflict)
		if p, wide = plan.DiffWide(d, o, targets); len(wide.Overlays) > len(d.Overlays) {
			d = wide
			continue
		}
		// What the agent mounted since the table was read is in other namespaces only, as far as this look goes.
		if p.Count(plan.Conflict) == conflicts || again == mostLooks {
			return p, o, nil
		}
		now, err := host.ReadTable()
		if err != nil || sameMounts(now, o.Mounts) {
			return p, o, err
		}
		again++
	}
}

// mostLooks bounds how often a host that changes under our eyes is looked at again.
const mostLooks = 3

// sameMounts tells whether two mount tables have the same mounts at the same places.
func sameMounts(a, b *overlayfs.Table) bool {
	return slices.EqualFunc(a.All(), b.All(), func(x, y overlayfs.Mount) bool {
		return x.ID == y.ID && x.Dev == y.Dev && x.Mountpoint == y.Mountpoint
	})
}

// touches tells whether a plan takes a mount down, puts one up, or renews what one is mounted on.
func touches(p plan.Plan) bool {
	return slices.ContainsFunc(p.Changes, func(c plan.Change) bool {
		return len(c.Do.Unmount) > 0 || c.Do.Mount != nil || c.Do.Reset != nil
	})
}

// observeImpact fills in Uses and Impact for what the plan takes down or puts up.
func (h *Host) observeImpact(ctx context.Context, p plan.Plan, o *plan.Observed) error {
	down := map[string]string{} // mountpoint → unit
	ids := map[int]string{}
	for _, c := range p.Changes {
		for _, l := range c.Do.Unmount {
			down[l.Mountpoint] = l.Unit
			for _, m := range o.Mounts.At(l.Mountpoint) {
				ids[m.ID] = l.Mountpoint
			}
		}
	}
	var err error
	if len(down) == 0 {
		o.Uses, err = h.usesButCopies(o)
		return err
	}
	if o.Uses, err = h.uses(o.Mounts); err != nil {
		return err
	}
	users, err := host.Users(ids)
	permitted := !errors.Is(err, host.ErrNotPermitted)
	if err != nil && permitted {
		return err
	}
	o.Impact = make(map[string]plan.Impact, len(down))
	for at := range down {
		i := plan.Impact{}
		for _, m := range o.Mounts.Below(at) {
			i.Mounts = append(i.Mounts, m.Mountpoint)
		}
		if permitted {
			i.Processes = []overlayfs.Process{}
		}
		o.Impact[at] = i
	}
	for id, processes := range users {
		i := o.Impact[ids[id]]
		i.Processes = append(i.Processes, processes...)
		o.Impact[ids[id]] = i
	}
	return h.observeDependents(ctx, down, o)
}

// observeRequired asks systemd for the units that the overlays to be mounted require. A missing one would only show
// when the start job fails.
func (h *Host) observeRequired(ctx context.Context, d plan.Desired, p plan.Plan, o *plan.Observed) error {
	var names []string
	own := map[string]bool{} // written before they are needed
	for _, want := range d.Overlays {
		own[units.Name(want.Mountpoint)] = true
		if c, ok := p.Find(want.Address); ok && c.Do.Start {
			names = append(names, want.Requires...)
		}
	}
	if len(names) == 0 {
		return nil
	}
	m, hangUp, err := h.dial(ctx)
	if err != nil {
		return err
	}
	defer hangUp()
	slices.Sort(names)
	states, err := m.States(ctx, slices.Compact(names))
	if err != nil {
		return err
	}
	o.NoUnit = map[string]bool{}
	for name, s := range states {
		o.NoUnit[name] = s.Load == "not-found" && !own[name]
	}
	return nil
}

// observeDependents asks systemd which active units stop with each mount.
func (h *Host) observeDependents(ctx context.Context, down map[string]string, o *plan.Observed) error {
	if !o.Systemd {
		return nil
	}
	m, hangUp, err := h.dial(ctx)
	if err != nil {
		return err
	}
	defer hangUp()
	all, err := m.DependentsOf(ctx, slices.Sorted(maps.Values(down)))
	if err != nil {
		return err
	}
	for at, unit := range down {
		i := o.Impact[at]
		i.Units = append(i.Units, all[unit]...)
		o.Impact[at] = i
	}
	return nil
}
