package reconcile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/safedir"
	"github.com/overlayd/overlayd/internal/units"
	"github.com/overlayd/overlayd/internal/units/systemd"
)

// batch gathers what changes in the unit directory, of all changes that have not failed so far.
func (a *apply) batch() systemd.Batch {
	b := systemd.Batch{Write: map[string][]byte{}}
	deleted := true
	for i := range a.p.Changes {
		c := &a.p.Changes[i]
		if a.results[i] != nil {
			deleted = deleted && len(c.Do.Remove) == 0
			continue
		}
		if c.Do.Write != nil {
			b.Write[c.Unit] = c.Do.Write.Render()
		}
		b.Remove = append(b.Remove, c.Do.Remove...)
		b.Link = append(b.Link, c.Do.Link...)
		b.Unlink = append(b.Unlink, c.Do.Unlink...)
	}
	link := [2]string{"multi-user.target", units.TargetName}
	switch {
	case a.p.Target == plan.TargetWrite && (len(b.Write) > 0 || a.hasUnits()):
		b.Write[units.TargetName] = units.RenderTarget()
		b.Link = append(b.Link, link)
	case a.p.Target == plan.TargetRemove && deleted:
		b.Remove = append(b.Remove, units.TargetName)
		b.Unlink = append(b.Unlink, link)
	}
	return b
}

// hasUnits tells whether units of ours were there before.
func (a *apply) hasUnits() bool {
	for _, u := range a.o.Units {
		if u.Ours {
			return true
		}
	}
	return false
}

// offlineDirs makes the directories of a tree that is prepared with --root; for a live host each is made right before
// its mount.
func (a *apply) offlineDirs() {
	if !a.h.Offline() {
		return
	}
	for i := range a.p.Changes {
		if a.results[i] == nil {
			if err := a.makeDirs(&a.p.Changes[i]); err != nil {
				a.end(i, Failed, err)
			}
		}
	}
}

// finishUnits ends the changes all of whose steps went well.
func (a *apply) finishUnits() {
	for i := range a.p.Changes {
		switch {
		case a.p.Changes[i].Kind == plan.NoOp || a.results[i] != nil:
		case a.wrong[i] != nil:
			a.end(i, Failed, a.wrong[i])
		default:
			a.end(i, Done, nil)
		}
	}
}

// done tells whether a change was carried out; no-ops are not.
func (a *apply) done(i int) bool { return a.results[i] != nil && a.results[i].Status == Done }

// verify counts the mounts at each path that was mounted: one, of ours. A start job of systemd that ran at the same
// moment can have mounted a second one on top, and the upperdir would have two writers; and a job can say done
// although nothing is mounted.
func (a *apply) verify() (mounted []int, err error) {
	for i, c := range a.p.Changes {
		if c.Do.Mount != nil && a.results[i] == nil && !a.h.Offline() {
			mounted = append(mounted, i)
		}
	}
	if len(mounted) == 0 {
		return nil, nil
	}
	table, err := host.ReadTable()
	if err != nil {
		return mounted, err
	}
	for _, i := range mounted {
		if err := a.unstack(table.At(a.p.Changes[i].Mountpoint), &a.p.Changes[i]); err != nil {
			a.fail(i, err)
		}
	}
	return mounted, nil
}

// fail makes a failure of a change that seemed to be done.
func (a *apply) fail(i int, err error) {
	a.mu.Lock()
	delete(a.results, i)
	a.mu.Unlock()
	a.end(i, Failed, err)
}

// settle starts overlayd.target and counts again. The target is started on its own: what it wants and is down is down
// for a reason that the report tells, or because somebody stopped it.
func (a *apply) settle(mounted []int, owed bool) error {
	if !a.o.Systemd || a.manager == nil {
		return nil
	}
	switch {
	case a.targetGone:
		// The unit is loaded still, and nothing is left for it to hold. The agent, which is part of it, runs on.
		if err := a.manager.StopAlone(a.work, units.TargetName); err != nil {
			return err
		}
	case len(mounted) > 0 || owed && (a.p.Target == plan.TargetWrite || a.o.Target.Exists):
		if !a.targetUp {
			if err := a.manager.StartAlone(a.work, units.TargetName); err != nil {
				return err
			}
		}
		if err := a.calm(mounted); err != nil {
			return err
		}
		table, err := host.ReadTable()
		if err != nil {
			return err
		}
		for _, i := range mounted {
			if !a.done(i) {
				continue
			}
			if err := a.unstack(table.At(a.p.Changes[i].Mountpoint), &a.p.Changes[i]); err != nil {
				a.fail(i, err)
			}
		}
		if err := a.seen(mounted); err != nil {
			return err
		}
	}
	return a.h.owed().clear()
}

// seenLimit bounds the wait for systemd to see mounts. It may be busy for longer with the mounts of others, which is no
// failure of ours.
const seenLimit = 5 * time.Second

// seen waits until systemd has seen what was mounted, so that a "systemctl stop" right after the apply finds it. Nobody
// waits for an agent.
func (a *apply) seen(mounted []int) error {
	if a.opt.Unattended != nil {
		return nil
	}
	var names []string
	for _, i := range mounted {
		if a.done(i) {
			names = append(names, a.p.Changes[i].Unit)
		}
	}
	ctx, cancel := context.WithTimeout(a.work, seenLimit)
	defer cancel()
	all, err := a.manager.WaitActive(ctx, names)
	if err == nil && !all {
		a.h.Log.Debug("systemd has not seen all mounts yet")
	}
	return err
}

// calmLimit bounds the wait for start jobs on what was mounted. Where they come without end, as from a loop in a script,
// they find the unit active by then and mount nothing.
const calmLimit = 3 * time.Second

// calm waits for start jobs of systemd on what was mounted: such a job that began before our mount can have its mount(8)
// still on the way.
func (a *apply) calm(mounted []int) error {
	names := make(map[string]bool, len(mounted))
	for _, i := range mounted {
		names[a.p.Changes[i].Unit] = true
	}
	ctx, cancel := context.WithTimeout(a.work, calmLimit)
	defer cancel()
	if _, err := a.manager.WaitJobs(ctx, names); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// ErrGone says that somebody took a mount away right after it was made.
var ErrGone = errors.New("it was mounted, and is not any more")

// unstack leaves one mount where equal ones of ours stand on each other. All go, and one comes back: each that came on
// top emptied the workdir of the one below. Their texts in the mount table can differ: a kernel shows uuid=on at the
// first mount of an upperdir only.
func (a *apply) unstack(stack []overlayfs.Mount, c *plan.Change) error {
	if len(stack) == 0 {
		return fmt.Errorf("cannot mount %s: %w; apply again", c.Mountpoint, ErrGone)
	}
	if len(stack) == 1 {
		return nil
	}
	for _, m := range stack {
		if !isOurs(m) || m.Overlay.Upper != c.Do.Mount.Upper {
			return fmt.Errorf("cannot mount %s: %s (%s) was mounted there at the same moment; unmount it, then apply "+
				"again", c.Mountpoint, m.Source, m.FSType)
		}
	}
	for range stack {
		if err := host.Unmount(c.Mountpoint); err != nil {
			return fmt.Errorf("cannot take the second mount away that systemd made at %s: %w", c.Mountpoint, err)
		}
	}
	return a.mount(c)
}

// cleanUp removes directories overlayd made that nothing uses any more: empty mountpoints, and client data if asked.
func (a *apply) cleanUp() {
	a.writing = nil
	a.endTakings()
	for i, c := range a.p.Changes {
		if !a.done(i) {
			continue
		}
		if a.opt.Purge && c.Kind == plan.Delete {
			a.purge(i, c)
		}
		if a.heldElsewhere(c) {
			continue // rmdir(2) of the mountpoint would detach the mount there, under whoever uses it
		}
		for _, dir := range c.Do.Clean {
			// A directory that somebody put something into is no longer ours to remove, so an error is no failure.
			if err := safedir.RemoveEmpty(a.h.inRoot(dir), ""); err != nil {
				a.h.Log.WithError(err).WithField("address", c.Address).Debug("mountpoint stays")
			}
		}
	}
}

// heldElsewhere tells whether a mount that was taken down lives on in another mount namespace.
func (a *apply) heldElsewhere(c plan.Change) bool {
	return slices.ContainsFunc(a.o.Uses, func(u overlayfs.Use) bool {
		return u.PID != 0 && !u.Follows && slices.ContainsFunc(c.Do.Unmount, func(l plan.Live) bool {
			return l.Dev == u.Dev
		})
	})
}

// purge deletes the data of a deleted client, if overlayd made its directories.
func (a *apply) purge(i int, c plan.Change) {
	u := a.o.Units[c.Unit]
	if !u.MadeData || u.Config.Upper == "" {
		return
	}
	for _, dir := range []string{u.Config.Upper, u.Config.Work} {
		who, err := a.writer(dir)
		if err == nil && who != "" {
			err = fmt.Errorf("unmounted, but its data is kept: %s is in use by %s", dir, who)
		}
		if err != nil {
			a.results[i].Status, a.results[i].Err = Failed, err
			return
		}
	}
	var errs []error
	for _, dir := range []string{u.Config.Upper, u.Config.Work} {
		if err := safedir.RemoveTree(a.h.inRoot(dir)); err != nil {
			errs = append(errs, err)
			continue
		}
		a.purged = append(a.purged, dir)
	}
	parent := filepath.Dir(u.Config.Upper)
	m, marked, err := safedir.ReadMarker(a.h.inRoot(parent))
	asides := a.asidesIn(parent)
	a.aside = append(a.aside, asides...)
	if err == nil && marked && m.Mountpoint == c.Mountpoint && len(errs) == 0 && len(asides) == 0 {
		if err := safedir.RemoveTree(a.h.inRoot(parent)); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		a.results[i].Status, a.results[i].Err = Failed, fmt.Errorf("unmounted, but its data is not all deleted: %w", err)
	}
}

// asidesIn lists what "reset --keep" set aside in a directory. A purge is about what is there now.
func (a *apply) asidesIn(dir string) []string {
	entries, err := os.ReadDir(a.h.inRoot(dir))
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		if _, kept, ok := SetAside(e.Name()); ok && kept {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out
}

func (h *Host) inRoot(p string) string { return filepath.Join("/", h.Root, p) }
