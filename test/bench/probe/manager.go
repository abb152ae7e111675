package probe

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
)

// manager is systemd, asked without the bus daemon in between.
type manager struct{ *dbus.Conn }

func connect(ctx context.Context) (*manager, error) {
	c, err := dbus.NewSystemdConnectionContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot ask systemd: %w", err)
	}
	return &manager{c}, nil
}

// pause is how long systemd is left alone between questions.
const pause = 5 * time.Millisecond

// alive are the states of a unit that is not down.
var alive = []string{"active", "reloading", "activating", "deactivating"}

// settled returns since when systemd has had the units of n overlays active, or none. A list of thousands of units
// costs systemd a tenth of a second. So it is asked for one unit, and for the list only when that one is as it should
// be: systemd takes in the mount table as a whole, so that the others are, too, as a rule.
func (m *manager) settled(ctx context.Context, n int, up bool) (at time.Time, err error) {
	last := ""
	if up {
		mounts, err := mountpoints()
		if err != nil || len(mounts) < n {
			return at, errors.Join(fmt.Errorf("%d overlays of %d are mounted", len(mounts), n), err)
		}
		last = unitOf(mounts[len(mounts)-1])
	}
	for {
		if last != "" {
			if err := m.waitFor(ctx, last, up); err != nil {
				return at, err
			}
		}
		at = time.Now()
		states := alive
		if up {
			states = alive[:1]
		}
		units, err := m.ListUnitsByPatternsContext(ctx, states, []string{unitsOfAll})
		if err != nil {
			return at, fmt.Errorf("cannot list units: %w", err)
		}
		switch {
		case up && len(units) >= n, !up && len(units) == 0:
			return at, nil
		case !up:
			last = units[len(units)-1].Name
		default:
			if last, err = missing(units); err != nil {
				return at, err
			}
		}
	}
}

// missing finds a mounted overlay the unit of which is not among those.
func missing(units []dbus.UnitStatus) (string, error) {
	known := map[string]bool{}
	for _, u := range units {
		known[u.Name] = true
	}
	mounts, err := mountpoints()
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(mounts, func(at string) bool { return !known[unitOf(at)] })
	if i < 0 {
		return "", fmt.Errorf("cannot find all overlays: %d units and %d mounts", len(units), len(mounts))
	}
	return unitOf(mounts[i]), nil
}

// unitOf names the unit of a mountpoint of the benchmark's, in which nothing has to be escaped.
func unitOf(mountpoint string) string { return "srv-bench-m-" + filepath.Base(mountpoint) + ".mount" }

func (m *manager) waitFor(ctx context.Context, unit string, up bool) error {
	for {
		p, err := m.GetUnitPropertyContext(ctx, unit, "ActiveState")
		if err != nil {
			return fmt.Errorf("cannot ask for the state of %s: %w", unit, err)
		}
		state, ok := p.Value.Value().(string)
		if !ok || state == "failed" {
			return fmt.Errorf("%s is %v", unit, p.Value)
		}
		if up == (state == "active") && (up || !slices.Contains(alive, state)) {
			return nil
		}
		if err := sleep(ctx, pause); err != nil {
			return fmt.Errorf("cannot wait for %s, which is %s: %w", unit, state, err)
		}
	}
}

// forgotten waits until systemd knows none of the units any more, and has taken away their control groups.
func (m *manager) forgotten(ctx context.Context) error {
	for {
		units, err := m.ListUnitsByPatternsContext(ctx, nil, []string{unitsOfAll})
		if err != nil {
			return fmt.Errorf("cannot list units: %w", err)
		}
		groups, err := filepath.Glob("/sys/fs/cgroup/system.slice/" + unitsOfAll)
		if err != nil {
			return err
		}
		if len(units)+len(groups) == 0 {
			break
		}
		if err := sleep(ctx, 10*pause); err != nil {
			return fmt.Errorf("cannot get rid of %d units and %d control groups: %w", len(units), len(groups), err)
		}
	}
	failed, err := m.ListUnitsByPatternsContext(ctx, []string{"failed"}, nil)
	if err != nil || len(failed) == 0 {
		return err
	}
	return fmt.Errorf("cannot go on: %d units have failed, such as %s", len(failed), failed[0].Name)
}
