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
	return h.planFrom(ctx, nil, d, targets)
}

// planFrom is Plan whose first look at the whole of a spec is from a glance, which is used up by it; nil for none.
func (h *Host) planFrom(ctx context.Context, g *glance, d plan.Desired, targets []plan.Target,
) (plan.Plan, *plan.Observed, error) {
	for again := 0; ; {
		o, err := h.observe(g, d)
		g = nil
		if err != nil {
			return plan.Plan{}, nil, err
		}
		p, wide := plan.DiffWide(d, o, targets)
		if len(wide.Overlays) > len(d.Overlays) {
			d = wide
			continue
		}
		closer, err := h.lookCloser(ctx, d, p, o)
		if err != nil {
			return plan.Plan{}, nil, err
		}
		if !closer {
			return p, o, nil
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

// lookCloser looks at what the changes of a plan would hit, and tells whether there was anything to look at.
func (h *Host) lookCloser(ctx context.Context, d plan.Desired, p plan.Plan, o *plan.Observed) (bool, error) {
	if h.Offline() {
		return false, nil
	}
	looks := disturbs(p, o)
	if looks {
		if err := h.observeImpact(ctx, p, o); err != nil {
			return false, err
		}
	}
	asked, err := h.observeRequired(ctx, d, p, o)
	return looks || asked, err
}

// disturbs tells whether a plan takes a mount down, renews what one is mounted on, or mounts on an upperdir or workdir
// that is there already, and may be mounted elsewhere. To find that out takes the mount table of each namespace; with
// thousands of overlays in each that is longer than the whole look before, and new clients need none of it.
func disturbs(p plan.Plan, o *plan.Observed) bool {
	there := func(dir string) bool {
		info, looked := o.Paths[dir]
		return dir != "" && (!looked || info.Exists)
	}
	return slices.ContainsFunc(p.Changes, func(c plan.Change) bool {
		return len(c.Do.Unmount) > 0 || c.Do.Reset != nil ||
			c.Do.Mount != nil && (there(c.Do.Mount.Upper) || there(c.Do.Mount.Work))
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

// observeRequired asks systemd for the units that the overlays to be mounted require, if there are any. A missing one
// would only show when the start job fails.
func (h *Host) observeRequired(ctx context.Context, d plan.Desired, p plan.Plan, o *plan.Observed) (bool, error) {
	starts := map[string]bool{}
	for _, c := range p.Changes {
		if c.Do.Start {
			starts[c.Address] = true
		}
	}
	if len(starts) == 0 {
		return false, nil
	}
	var names []string
	own := map[string]bool{} // written before they are needed
	for _, want := range d.Overlays {
		own[units.Name(want.Mountpoint)] = true
		if starts[want.Address] {
			names = append(names, want.Requires...)
		}
	}
	if len(names) == 0 {
		return false, nil
	}
	m, hangUp, err := h.dial(ctx)
	if err != nil {
		return false, err
	}
	defer hangUp()
	slices.Sort(names)
	states, err := m.States(ctx, slices.Compact(names))
	if err != nil {
		return false, err
	}
	o.NoUnit = map[string]bool{}
	for name, s := range states {
		o.NoUnit[name] = s.Load == "not-found" && !own[name]
	}
	return true, nil
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
