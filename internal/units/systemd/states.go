package systemd

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/dbus"
)

// State is what systemd knows of a unit. What it costs a call to ask for, Result, NeedReload and StoppedByJob, is
// there for units that are not active only.
type State struct {
	Load   string // loaded, not-found, bad-setting, masked, error
	Active string // active, inactive, failed, activating, deactivating, reloading
	Sub    string // mounted, dead, failed, mounting, unmounting …

	Result       string // of a mount: success, exit-code, timeout, protocol …
	NeedReload   bool   // its file has changed since systemd read it
	StoppedByJob bool   // inactive because a stop job took it down, rather than umount(2)
}

// Up tells whether the unit is active or on its way there.
func (s State) Up() bool { return isUp(s.Active) }

func isUp(active string) bool {
	return active == "active" || active == "activating" || active == "reloading"
}

// chunk is how many units one call asks for; a reply has a few hundred bytes for each.
const chunk = 500

// States asks for units, which systemd loads if it has to. One without a file has Load "not-found".
func (m *Manager) States(ctx context.Context, names []string) (map[string]State, error) {
	states, err := m.listStates(ctx, names)
	if err != nil {
		return nil, fmt.Errorf("cannot ask systemd for the state of units: %w", err)
	}
	var down []string
	for name, state := range states {
		if state.Active != "active" && state.Load != "not-found" {
			down = append(down, name)
		}
	}
	details := make([]State, len(down))
	err = each(len(down), func(i int) (err error) {
		details[i], err = m.detail(ctx, down[i], states[down[i]])
		return err
	})
	if err != nil {
		return nil, err
	}
	for i, name := range down {
		states[name] = details[i]
	}
	return states, nil
}

func (m *Manager) listStates(ctx context.Context, names []string) (map[string]State, error) {
	states := make(map[string]State, len(names))
	for part := range slices.Chunk(names, chunk) {
		err := m.call(ctx, func(conn *dbus.Conn) error {
			list, err := conn.ListUnitsByNamesContext(ctx, part)
			for _, unit := range list {
				states[unit.Name] = State{Load: unit.LoadState, Active: unit.ActiveState, Sub: unit.SubState}
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return states, nil
}

func (m *Manager) detail(ctx context.Context, unit string, state State) (State, error) {
	var left, up, leftUp, down uint64
	err := m.call(ctx, func(conn *dbus.Conn) error {
		u := &asked{ctx: ctx, conn: conn, unit: unit}
		state.NeedReload = ask[bool](u, "Unit", "NeedDaemonReload")
		left = ask[uint64](u, "Unit", "InactiveExitTimestampMonotonic")
		up = ask[uint64](u, "Unit", "ActiveEnterTimestampMonotonic")
		leftUp = ask[uint64](u, "Unit", "ActiveExitTimestampMonotonic")
		down = ask[uint64](u, "Unit", "InactiveEnterTimestampMonotonic")
		if strings.HasSuffix(unit, mountSuffix) {
			state.Result = ask[string](u, "Mount", "Result")
		}
		return u.err
	})
	if err != nil {
		return state, fmt.Errorf("cannot ask systemd for unit %s: %w", unit, err)
	}
	state.StoppedByJob = state.Active == "inactive" && stoppedByJob(left, up, leftUp, down)
	return state, nil
}

// asked is a unit of which several properties are asked for, one by one. GetAll would be one call, but systemd looks
// at files for some properties (UnitFilePreset, for one), which takes far longer than the few calls.
type asked struct {
	ctx  context.Context
	conn *dbus.Conn
	unit string
	err  error // the first
}

func ask[T any](u *asked, unitType, name string) T {
	var value T
	if u.err != nil {
		return value
	}
	property, err := u.conn.GetUnitTypePropertyContext(u.ctx, u.unit, unitType, name)
	if err != nil {
		u.err = err
		return value
	}
	value, _ = property.Value.Value().(T)
	return value
}

// stoppedByJob tells from the time stamps how a unit came down: when it left inactive, became active, left active and
// became inactive. A job takes it through "deactivating", so that it leaves active before it gets to inactive; of an
// umount(2) systemd sees only the end, and both are one moment. Up and down have to be one life: a start that failed
// leaves stamps of its own. systemd keeps the stamps over a daemon-reload, which it does not do with what ran for
// ExecUnmount.
func stoppedByJob(left, up, leftUp, down uint64) bool {
	return up > 0 && left <= up && up <= leftUp && leftUp < down
}
