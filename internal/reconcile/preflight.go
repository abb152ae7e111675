package reconcile

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// preflight tries what can be tried before anything is touched, and gives what is held back. A mount that is busy is
// found here, so its unit is not rewritten; what the kernel would refuse is found here, so it costs no downtime. What
// waits already is not tried.
func (a *apply) preflight(waits map[int]string) map[int]string {
	failed := maps.Clone(waits)
	note := func(i int, err error) {
		if err != nil {
			failed[i] = err.Error()
			a.end(i, Failed, err)
		}
	}
	for i, err := range a.lost(failed) {
		note(i, err)
	}
	going := a.going()
	var uppers host.UpperTrials
	var trials []int
	var configs []overlayfs.Config
	for i, c := range a.p.Changes {
		if c.Kind == plan.Conflict {
			a.end(i, Skipped, skippedConflict(c).Err)
			continue
		}
		if failed[i] != "" {
			continue
		}
		if len(c.Do.Unmount) > 0 {
			note(i, idle(c, going))
		}
		if c.Do.Mount == nil || failed[i] != "" {
			continue
		}
		// To delete what a client wrote is the way out when its disk is full; all else needs room, for the mount, too.
		makesRoom := c.Do.Reset != nil && !c.Do.Reset.Keep && len(c.Do.Reset.Paths) == 0
		// Where it was mounted before, the mount itself tells what has changed since.
		again := c.Kind == plan.Repair && len(c.Do.Unmount) == 0
		if c.Do.Mount.Upper != "" && !a.h.Offline() && !makesRoom && !again {
			note(i, uppers.Check(c.Do.Mount.Upper))
		}
		if len(c.Do.Unmount) > 0 && failed[i] == "" && len(c.Do.Below) == 0 {
			// What stands on another overlay cannot be tried before that one is mounted.
			trials, configs = append(trials, i), append(configs, *c.Do.Mount)
		}
	}
	for n, err := range host.TrialMounts(configs) {
		note(trials[n], err)
	}
	return a.hold(failed)
}

// going gives the mountpoints of all that goes down.
func (a *apply) going() map[string]bool {
	going := map[string]bool{}
	for _, c := range a.p.Changes {
		for _, l := range c.Do.Unmount {
			going[l.Mountpoint] = true
		}
	}
	return going
}

// hold ends what cannot be done without changes that failed, and gives all that is held back.
func (a *apply) hold(failed map[int]string) map[int]string {
	held := a.p.Hold(failed)
	for i, why := range held {
		if failed[i] == "" {
			a.end(i, Skipped, errors.New(why))
		}
	}
	return held
}

// idle gives an error if a mount that must go is in use by something that does not go with it.
func idle(c plan.Change, going map[string]bool) error {
	mounts := slices.DeleteFunc(slices.Clone(c.Impact.Mounts), func(m string) bool { return going[m] })
	processes := slices.DeleteFunc(slices.Clone(c.Impact.Processes), func(p overlayfs.Process) bool {
		return slices.ContainsFunc(c.Impact.Units, func(unit string) bool { return runsIn(p.PID, unit) })
	})
	if c.Do.Detach {
		processes = nil // a detached mount lives on for them; others' mounts below would go with it
	}
	if reason := inUse(processes, mounts); reason != "" {
		return errors.New(reason)
	}
	return nil
}

// runsIn tells whether a process belongs to a unit, by its control group: it will be stopped with the unit.
func runsIn(pid int, unit string) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return false
	}
	for line := range bytes.Lines(text) {
		for part := range strings.SplitSeq(strings.TrimSpace(string(line)), "/") {
			if part == unit {
				return true
			}
		}
	}
	return false
}

// inUse says what keeps a mount busy, and what to do; "" if nothing does.
func inUse(processes []overlayfs.Process, mounts []string) string {
	var parts []string
	if len(processes) > 0 {
		names := make([]string, 0, len(processes))
		slices.SortFunc(processes, func(a, b overlayfs.Process) int { return a.PID - b.PID })
		for _, p := range slices.Compact(processes) {
			names = append(names, fmt.Sprintf("%d (%s)", p.PID, p.Command))
		}
		parts = append(parts, "busy, as these processes use it: "+strings.Join(names, ", ")+
			": end them, then try again")
	}
	if len(mounts) > 0 {
		parts = append(parts, "busy, as there are mounts below it: "+strings.Join(mounts, ", ")+
			": unmount them, then try again")
	}
	return strings.Join(parts, "; ")
}
