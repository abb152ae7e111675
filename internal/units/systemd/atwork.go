package systemd

import (
	"context"
	"fmt"

	"github.com/overlayd/overlayd/internal/units"
)

// AtWork is what systemd is about to do with units, and what it has done on purpose.
type AtWork struct {
	// Busy has the units with a job, queued or running, and its type: start, stop, restart … Without a job, as after
	// systemctl cancel, a unit may be on its way still: activating, deactivating. overlayd.target is there as well.
	Busy map[string]string
	// Stopped has the other units that are down because a stop job took them down, rather than umount(2).
	Stopped map[string]bool
	// TargetUp tells that overlayd.target is active.
	TargetUp bool
	// Stopping tells that the machine goes down, and all mounts with it.
	Stopping bool
}

// shutdownTarget is started by everything that takes a machine down: poweroff, reboot, kexec, soft-reboot, exit. Its
// job is queued before the first unit is stopped. systemd's own SystemState asks for the same.
const shutdownTarget = "shutdown.target"

// AtWork asks what systemd is at with units. Who saw a mount vanish and asks then, knows whether systemd did it: a stop
// job is queued before its umount(8) runs, and is there until systemd has seen the end of that and says inactive. State
// and job of a unit come in one reply, from one moment, so none can end in between. Of an umount(2) by somebody else
// systemd hears late; a unit that it calls active, and that has no job, was unmounted so.
//
// Before anything is done about a unit, look at the mount table again: a restart may have ended meanwhile. An error is
// no leave to go on: near its end, a shutdown takes the bus away.
//
// systemd forgets a unit that is down and that nothing wants, a .wants link for one, and with it who took it down. Such
// a unit is not among Stopped.
//
// It takes one call, and one round of calls more if systemd calls a unit inactive. systemd answers when it has read
// the mount table that changed: with 1,000 mounts after some 13 ms.
func (m *Manager) AtWork(ctx context.Context, names []string) (AtWork, error) {
	fail := func(err error) (AtWork, error) {
		return AtWork{}, fmt.Errorf("cannot ask systemd what it is doing: %w", err)
	}
	asked := make([]string, 0, len(names)+2)
	asked = append(append(asked, names...), units.TargetName, shutdownTarget)
	list, err := m.list(ctx, asked)
	if err != nil {
		return fail(err)
	}
	work := AtWork{Busy: map[string]string{}}
	var inactive []string
	for _, unit := range list {
		state := stateOf(unit)
		if unit.Name == units.TargetName {
			work.TargetUp = state.Active == "active"
		}
		switch {
		case unit.Name == shutdownTarget:
			work.Stopping = state.Up() || unit.JobId != 0 && unit.JobType != "stop"
		case unit.JobId != 0:
			work.Busy[unit.Name] = unit.JobType
		case state.Active == "activating" || state.Active == "deactivating" || state.Active == "reloading":
			work.Busy[unit.Name] = state.Active
		case unit.Name != units.TargetName && state.Active == "inactive" && state.Load != "not-found":
			inactive = append(inactive, unit.Name)
		}
	}
	if work.Stopped, err = m.stopped(ctx, inactive); err != nil {
		return fail(err)
	}
	return work, nil
}
