package reconcile

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/safedir"
	"github.com/overlayd/overlayd/internal/units"
)

// Resettable gives what to desire so that the overlays at these mountpoints go back to pristine: all as it was
// applied.
func (h *Host) Resettable(mountpoints []string, r plan.Reset) (plan.Desired, error) {
	d, err := h.Applied()
	if err != nil {
		return plan.Desired{}, err
	}
	r.Paths = outermost(r.Paths)
	d.Orphans, d.Resets = nil, make(map[string]plan.Reset, len(mountpoints))
	for _, at := range mountpoints {
		d.Resets[at] = r
	}
	return d, nil
}

// observeResets looks at what is to be reset.
func (h *Host) observeResets(d plan.Desired, o *plan.Observed) error {
	if len(d.Resets) == 0 {
		return nil
	}
	o.Resets = make(map[string]plan.ResetFacts, len(d.Resets))
	trash := trashFinder{h: h, seen: map[string]map[string][]string{}}
	for at, r := range d.Resets {
		name := units.Name(at)
		u := o.Units[name]
		if u.Config.Upper == "" {
			continue
		}
		var f plan.ResetFacts
		if u.MadeData { // else no reset ever made any
			f.Leftovers = trash.of(u.Config.Upper, u.Config.Work)
		}
		if !h.Offline() {
			note, found, err := readHalfway(name)
			if err != nil {
				return err
			}
			if f.Halfway = found && note.Mountpoint == at; f.Halfway {
				f.Down = note.Mounts
			}
		}
		for _, dir := range []string{u.Config.Upper, u.Config.Work} {
			if len(filepath.Base(dir))+asideRoom > 255 {
				f.Problems = append(f.Problems, fmt.Sprintf("the name of %s is too long for a dated one beside it: give "+
					"the overlay another directory in the spec", dir))
			}
		}
		var err error
		if len(r.Paths) > 0 {
			var problems []string
			f.Pristine, problems, err = h.lookAtPaths(u.Config, r.Paths, at)
			f.Problems = append(f.Problems, problems...)
		} else if info := o.Paths[u.Config.Upper]; !info.Exists {
			f.Problems = append(f.Problems, fmt.Sprintf("upperdir %s is not there, so what the client wrote cannot be "+
				"told: mount what it lies on, or uncover it; to start afresh, overlayd apply", u.Config.Upper))
		} else {
			info.Path = h.inRoot(info.Path)
			_, userxattr := u.Config.Options["userxattr"]
			f.Pristine, err = pristine(info, h.inRoot(u.Config.Work), userxattr)
		}
		if err != nil {
			return err
		}
		o.Resets[at] = f
	}
	return nil
}

// taking is what one reset takes out of the way.
type taking struct {
	upper, work string // names beside the upperdir and workdir for what is there now
	keep        bool
	taken       []string // where it lies
}

// beginReset notes that overlays go down for a reset, before anything is touched.
func (a *apply) beginReset(steps []plan.Step) error {
	for _, s := range steps {
		if s.Kind != plan.StepReset {
			continue
		}
		c := &a.p.Changes[s.Change]
		now, keep := time.Now(), c.Do.Reset.Keep
		t := &taking{
			upper: asideName(a.h.inRoot(c.After.Upperdir), keep, now),
			work:  asideName(a.h.inRoot(c.After.Workdir), keep, now), keep: keep,
		}
		a.mu.Lock()
		a.takings[s.Change] = t
		a.mu.Unlock()
		if c.Do.Mount == nil || a.h.Offline() {
			continue // what is not mounted now, stays so
		}
		n := halfway{Unit: c.Unit, Mountpoint: c.Mountpoint}
		if keep {
			n.Kept = []string{
				filepath.Join(filepath.Dir(c.After.Upperdir), t.upper), filepath.Join(filepath.Dir(c.After.Workdir), t.work),
			}
		}
		for _, other := range steps {
			n.Units = append(n.Units, a.p.Changes[other.Change].Impact.Units...)
			if other.Kind == plan.StepUnmount && other.Change != s.Change {
				n.Mounts = append(n.Mounts, other.Live.Mountpoint)
			}
		}
		old, _, err := readHalfway(c.Unit)
		if err != nil {
			return err
		}
		a.keptBefore(old)
		n.Units = sortedOnce(append(n.Units, old.Units...))
		n.Mounts = sortedOnce(append(n.Mounts, old.Mounts...))
		if err := n.write(); err != nil {
			return err
		}
	}
	return nil
}

func sortedOnce(s []string) []string {
	slices.Sort(s)
	return slices.Compact(s)
}

// keptBefore reports what a killed reset set aside. Killed a moment earlier, it left an empty directory.
func (a *apply) keptBefore(n halfway) {
	for _, dir := range n.Kept {
		_ = safedir.RemoveEmpty(dir, "") // one that cannot be removed is reported, which does no harm
		if _, err := os.Lstat(dir); err == nil {
			a.mu.Lock()
			a.aside = append(a.aside, dir)
			a.mu.Unlock()
		}
	}
}

// endReset brings back what resets stopped, a killed one included, where the overlay stands again.
func (a *apply) endReset(steps []plan.Step) {
	if a.h.Offline() {
		return
	}
	a.mu.Lock()
	revived := slices.Clone(a.revived)
	a.mu.Unlock()
	for _, s := range steps {
		c := &a.p.Changes[s.Change]
		if s.Kind != plan.StepMount || !a.isUp(c.Mountpoint) {
			continue
		}
		n, found, err := readHalfway(c.Unit)
		if err == nil && found {
			if c.Do.Reset == nil {
				a.keptBefore(n)
			}
			err = a.bringBack(n, revived)
		}
		if err != nil {
			a.end(s.Change, Failed, err)
		}
	}
}

func (a *apply) isUp(mountpoint string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.run.Mounted(mountpoint)
}

// resume finishes resets that were killed when the overlay was mounted already. It comes last: what it starts would
// keep busy what this run has to take down.
func (a *apply) resume() error {
	if a.h.Offline() {
		return nil
	}
	left := halfways()
	if len(left) == 0 {
		return nil
	}
	table, err := host.ReadTable()
	if err != nil {
		return err
	}
	for _, n := range left {
		switch _, err := os.Lstat(a.o.Units[n.Unit].Path); {
		case err != nil: // the overlay was deleted since, or this is not known to have been one of ours
			if err := clearHalfway(n.Unit); err != nil {
				return err
			}
		case len(table.At(n.Mountpoint)) > 0:
			a.keptBefore(n)
			if err := a.bringBack(n, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// bringBack starts the units again that a reset stopped, but for those that run already, and forgets about it: what
// does not start is reported once, and is its administrator's from then on.
func (a *apply) bringBack(n halfway, running []string) error {
	left := slices.DeleteFunc(slices.Clone(n.Units), func(u string) bool { return slices.Contains(running, u) })
	var err error
	if len(left) > 0 && a.o.Systemd {
		if err = a.connect(); err != nil {
			return err
		}
		if err = a.start(left); err != nil {
			err = fmt.Errorf("the reset of %s was interrupted, and not all that it stopped starts again: %w", n.Mountpoint,
				err)
		}
	}
	if cleared := clearHalfway(n.Unit); err == nil {
		err = cleared
	}
	return err
}
