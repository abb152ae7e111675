package agent

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/units"
	"github.com/overlayd/overlayd/internal/units/systemd"
	"github.com/overlayd/overlayd/internal/watch"
)

// sources are what the agent listens to.
type sources struct {
	mounts    <-chan struct{}
	specFiles *watch.Files
	hostFiles *watch.Files // unit files, and directories that are missing
	signals   <-chan systemd.Event

	specPaths, hostPaths []watch.Path
}

// listen begins to listen, before the first look: what changes from now on is not missed.
func (a *agent) listen(ctx context.Context) (err error) {
	if a.mounts, err = watch.Mounts(ctx); err != nil {
		return err
	}
	if a.specFiles, err = watch.NewFiles(); err != nil {
		return err
	}
	if a.hostFiles, err = watch.NewFiles(); err != nil {
		a.specFiles.Close()
		return err
	}
	if a.Host.Systemd != nil {
		if a.signals, err = systemd.Watch(ctx); err != nil {
			a.hangUp()
			return err
		}
	}
	for _, p := range a.Paths {
		a.specPaths = append(a.specPaths, watch.Path{Path: p, Match: isSpecName})
	}
	a.watchSpec()
	a.watchHost(unitPaths(nil))
	return nil
}

// What cannot be watched is seen at the next resync all the same, so it keeps no agent from its work.
func (a *agent) watchSpec() {
	if err := a.specFiles.Set(a.specPaths); err != nil {
		a.Log.WithError(err).Warn("changes of the spec may be seen late")
	}
}

func (a *agent) watchHost(paths []watch.Path) {
	a.hostPaths = paths
	if err := a.hostFiles.Set(paths); err != nil {
		a.Log.WithError(err).Warn("changes of unit files may be seen late")
	}
}

// followMounts watches files anew where something was mounted over them, or away, of which no event of files tells.
func (a *agent) followMounts(moved []string) {
	if len(moved) == 0 {
		return
	}
	at := make(map[string]bool, len(moved))
	for _, m := range moved {
		at[m] = true
	}
	concerned := func(p watch.Path) bool { return under(at, p.Path) }
	if slices.ContainsFunc(a.specPaths, concerned) {
		a.watchSpec()
	}
	if slices.ContainsFunc(a.hostPaths, concerned) {
		a.watchHost(a.hostPaths)
	}
}

// deaf listens to the mount table anew, or at least later: the kernel had no memory left to poll with.
func (a *agent) deaf(ctx context.Context) {
	var err error
	if a.mounts, err = watch.Mounts(ctx); err != nil {
		a.mounts = nil
		a.Log.WithError(err).Error("cannot listen to the mount table; drift is repaired at resyncs only")
	}
}

func (a *agent) hangUp() {
	a.specFiles.Close()
	a.hostFiles.Close()
}

// isSpecName tells which entries of a directory are read as spec or as values.
func isSpecName(name string) bool {
	return strings.HasSuffix(name, ".hcl") && !strings.HasPrefix(name, ".")
}

const unitDir = "/etc/systemd/system"

// unitPaths are the places where units of ours, and their links, can be changed by hand. What systemd finds elsewhere
// shows when it is reloaded.
func unitPaths(overlays []plan.Overlay) []watch.Path {
	isMount := func(name string) bool { return strings.HasSuffix(name, ".mount") }
	out := []watch.Path{
		{Path: unitDir, Match: func(name string) bool {
			return isMount(name) || name == units.TargetName || strings.HasSuffix(name, ".mount.d")
		}},
		{Path: unitDir + "/multi-user.target.wants/" + units.TargetName},
	}
	targets := []string{units.TargetName}
	for i := range overlays {
		targets = append(targets, overlays[i].WantedBy...)
	}
	slices.Sort(targets)
	for _, target := range slices.Compact(targets) {
		out = append(out, watch.Path{Path: unitDir + "/" + target + ".wants", Match: isMount})
	}
	return out
}

// mostMissing bounds how many directories are waited for; more than that are found at the next resync.
const mostMissing = 200

// watchMissing waits for the layers that conflicts are about: one that appears may end them.
func (a *agent) watchMissing(r reconcile.Report) {
	paths := unitPaths(a.desired.Overlays)
	lacking := missing(r.Results)
	for _, dir := range lacking[:min(len(lacking), mostMissing)] {
		paths = append(paths, watch.Path{Path: dir, Match: func(string) bool { return false }})
	}
	if slices.EqualFunc(paths, a.hostPaths, func(x, y watch.Path) bool { return x.Path == y.Path }) {
		return // each time it looks at every unit file
	}
	a.watchHost(paths)
}

// readOutline reads the mount table in short.
func readOutline() (outline, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cannot read the mount table: %w", err)
	}
	return outlineOf(text), nil
}

// signalled takes in what systemd tells.
func (a *agent) signalled(e systemd.Event) {
	if e.Kind != systemd.JobEnded {
		a.schedule.hostChanged(triggerSystemd, time.Now())
		return
	}
	// It matters where something waits for a job; else the mount table tells. What waits for one of overlayd.target is
	// everything.
	at, err := units.PathOf(e.Unit)
	if err != nil && e.Unit != units.TargetName {
		return
	}
	for i := range a.desired.Overlays {
		if o := &a.desired.Overlays[i]; (o.Mountpoint == at || err != nil) && a.backoff.watches(o.Address) {
			a.backoff.later(o.Address, time.Now())
		}
	}
	a.schedule.retry = a.backoff.next()
}
