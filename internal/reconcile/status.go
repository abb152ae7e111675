package reconcile

import (
	"cmp"
	"context"
	"slices"

	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/units/systemd"
)

// State is how one overlay is. Of several that fit the first in this order is given.
type State string

// The states.
const (
	StateConflict State = "conflict" // something is in the way, or the host cannot do it
	StateFailed   State = "failed"   // systemd tried to mount it and could not
	StateStopped  State = "stopped"  // taken down by systemctl stop: somebody wants it down
	StateMissing  State = "missing"  // applied, but not mounted
	StateDrifted  State = "drifted"  // mounted or written otherwise than applied
	StatePending  State = "pending"  // the spec asks for something that is not applied yet
	StateMounted  State = "mounted"
)

// Row is the state of one overlay.
type Row struct {
	Address    string
	Mountpoint string
	State      State
	Unit       string
	View       plan.View
	Reasons    []string
}

// Status tells how every overlay is: those of the spec, and those that were applied from others.
func (h *Host) Status(ctx context.Context, d plan.Desired) ([]Row, error) {
	applied, err := h.Applied()
	if err != nil {
		return nil, err
	}
	o, err := h.Observe(applied)
	if err != nil {
		return nil, err
	}
	drift := plan.Diff(applied, o, nil)
	if o, err = h.Observe(d); err != nil {
		return nil, err
	}
	wanted := plan.Diff(d, o, nil)

	rows := map[string]*Row{} // by mountpoint
	for _, p := range []plan.Plan{drift, wanted} {
		for _, c := range p.Changes {
			r := rows[c.Mountpoint]
			if r == nil {
				r = &Row{Address: c.Address, Mountpoint: c.Mountpoint, Unit: c.Unit, State: StateMounted}
				rows[c.Mountpoint] = r
			}
			if v := cmp.Or(c.After, c.Before); v != nil {
				r.View = *v
			}
			r.Reasons = append(r.Reasons, c.Reasons...)
		}
	}
	if err := h.states(ctx, rows, drift, wanted, o); err != nil {
		return nil, err
	}
	out := make([]Row, 0, len(rows))
	for _, r := range rows {
		slices.Sort(r.Reasons)
		r.Reasons = slices.Compact(r.Reasons)
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.Mountpoint, b.Mountpoint))
	})
	return out, nil
}

// states decides for each row. systemd is asked only about what is applied and not mounted.
func (h *Host) states(ctx context.Context, rows map[string]*Row, drift, wanted plan.Plan, o *plan.Observed) error {
	down := map[string]bool{} // units
	for _, c := range drift.Changes {
		if r := rows[c.Mountpoint]; c.Kind != plan.NoOp && c.Kind != plan.Conflict {
			r.State = StateDrifted
			if c.Do.Mount != nil && len(c.Do.Unmount) == 0 {
				r.State = StateMissing
				down[c.Unit] = true
			}
		}
	}
	for _, c := range wanted.Changes {
		r := rows[c.Mountpoint]
		if c.Kind != plan.NoOp && c.Kind != plan.Conflict && r.State == StateMounted {
			r.State = StatePending
		}
	}
	if len(down) > 0 && o.Systemd {
		states, err := h.systemStates(ctx, down)
		if err != nil {
			return err
		}
		for _, r := range rows {
			switch s := states[r.Unit]; {
			case !down[r.Unit]:
			case s.Active == "failed":
				r.State = StateFailed
			case s.StoppedByJob:
				// What a killed reset stopped, nobody wants down.
				if _, halfway, err := readHalfway(r.Unit); err != nil {
					return err
				} else if !halfway {
					r.State = StateStopped
				}
			}
		}
	}
	for _, r := range rows {
		if h.Offline() && r.State == StateMounted {
			r.State = StateMissing // in a tree that is prepared nothing can be mounted
		}
	}
	for _, p := range []plan.Plan{drift, wanted} {
		for _, c := range p.Changes {
			if c.Kind == plan.Conflict {
				rows[c.Mountpoint].State = StateConflict
			}
		}
	}
	return nil
}

func (h *Host) systemStates(ctx context.Context, names map[string]bool) (map[string]systemd.State, error) {
	m, hangUp, err := h.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer hangUp()
	list := make([]string, 0, len(names))
	for n := range names {
		list = append(list, n)
	}
	slices.Sort(list)
	return m.States(ctx, list)
}
