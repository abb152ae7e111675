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
	if err := m.addDetails(ctx, states, down); err != nil {
		return nil, fmt.Errorf("cannot ask systemd for the state of units: %w", err)
	}
	return states, nil
}

func (m *Manager) listStates(ctx context.Context, names []string) (map[string]State, error) {
	list, err := m.list(ctx, names)
	states := make(map[string]State, len(list))
	for _, unit := range list {
		states[unit.Name] = stateOf(unit)
	}
	return states, err
}

func stateOf(unit dbus.UnitStatus) State {
	return State{Load: unit.LoadState, Active: unit.ActiveState, Sub: unit.SubState}
}

func (m *Manager) list(ctx context.Context, names []string) ([]dbus.UnitStatus, error) {
	all := make([]dbus.UnitStatus, 0, len(names))
	for part := range slices.Chunk(names, chunk) {
		err := m.call(ctx, func(conn *dbus.Conn) error {
			list, err := conn.ListUnitsByNamesContext(ctx, part)
			all = append(all, list...)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (m *Manager) addDetails(ctx context.Context, states map[string]State, down []string) error {
	var ask []property
	for _, unit := range down {
		ask = append(ask, property{unit, "Unit", "NeedDaemonReload"})
		if strings.HasSuffix(unit, mountSuffix) {
			ask = append(ask, property{unit, "Mount", "Result"})
		}
	}
	values, err := m.properties(ctx, ask)
	if err != nil {
		return err
	}
	for i, p := range ask {
		state := states[p.unit]
		switch value := values[i].(type) {
		case bool:
			state.NeedReload = value
		case string:
			state.Result = value
		}
		states[p.unit] = state
	}
	stopped, err := m.stopped(ctx, slices.DeleteFunc(down, func(unit string) bool {
		return states[unit].Active != "inactive"
	}))
	for unit := range stopped {
		state := states[unit]
		state.StoppedByJob = true
		states[unit] = state
	}
	return err
}

// stopped gives those of inactive units that a stop job took down.
func (m *Manager) stopped(ctx context.Context, inactive []string) (map[string]bool, error) {
	// The later two stamps tell already of what was unmounted by hand, and that is where somebody waits.
	last, err := m.stamps(ctx, inactive, "ActiveExitTimestampMonotonic", "InactiveEnterTimestampMonotonic")
	if err != nil {
		return nil, err
	}
	var maybe []string
	var ends [][2]uint64
	for i, unit := range inactive {
		if last[i][0] < last[i][1] {
			maybe, ends = append(maybe, unit), append(ends, last[i])
		}
	}
	first, err := m.stamps(ctx, maybe, "InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic")
	if err != nil {
		return nil, err
	}
	stopped := map[string]bool{}
	for i, unit := range maybe {
		if stoppedByJob(first[i][0], first[i][1], ends[i][0], ends[i][1]) {
			stopped[unit] = true
		}
	}
	return stopped, nil
}

// stoppedByJob tells from the time stamps how a unit came down: when it left inactive, became active, left active and
// became inactive. A job takes it through "deactivating", so that it leaves active before it gets to inactive; of an
// umount(2) systemd sees only the end, and both are one moment. Up and down have to be one life: a start that failed
// leaves stamps of its own. systemd keeps the stamps over a daemon-reload, which it does not do with what ran for
// ExecUnmount.
func stoppedByJob(left, up, leftUp, down uint64) bool {
	return up > 0 && left <= up && up <= leftUp && leftUp < down
}

// stamps asks for two time stamps of each unit.
func (m *Manager) stamps(ctx context.Context, names []string, one, other string) ([][2]uint64, error) {
	ask := make([]property, 0, 2*len(names))
	for _, unit := range names {
		ask = append(ask, property{unit, "Unit", one}, property{unit, "Unit", other})
	}
	values, err := m.properties(ctx, ask)
	if err != nil {
		return nil, err
	}
	stamps := make([][2]uint64, len(names))
	for i, value := range values {
		stamps[i/2][i%2], _ = value.(uint64)
	}
	return stamps, nil
}

// property is one of a unit, with the last word of its D-Bus interface.
type property struct{ unit, kind, name string }

// properties asks for properties one by one, several at a time. GetAll would be one call for a unit, but systemd looks
// at files for some properties (UnitFilePreset, for one), which takes far longer than the few calls.
func (m *Manager) properties(ctx context.Context, list []property) ([]any, error) {
	values := make([]any, len(list))
	err := each(len(list), func(i int) error {
		p := list[i]
		err := m.call(ctx, func(conn *dbus.Conn) error {
			got, err := conn.GetUnitTypePropertyContext(ctx, p.unit, p.kind, p.name)
			if err == nil {
				values[i] = got.Value.Value()
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("%s of unit %s: %w", p.name, p.unit, err)
		}
		return nil
	})
	return values, err
}
