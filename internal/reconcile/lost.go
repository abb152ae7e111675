package reconcile

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// lost gives an error for each change that would be the second mount on an upperdir whose first is in no mount table, or
// would delete what that writes to.
// The kernel knows, but an apply that somebody waits for meets mounts that systemd is just making, and they look the
// same; so it is asked only where some process is seen to use an overlay that is out of sight. Only root sees that.
// An unattended apply has asked in any case, see lingering.
func (a *apply) lost(failed map[int]string) map[int]error {
	if a.opt.Unattended != nil || a.h.Offline() {
		return nil
	}
	by := map[string]int{}
	var uppers []string
	live := a.liveUppers()
	for i := range a.p.Changes {
		c := &a.p.Changes[i]
		if failed[i] == "" && a.reuses(c, live) {
			upper := upperOf(c)
			by[upper] = i
			uppers = append(uppers, upper)
		}
	}
	if len(uppers) == 0 {
		return nil
	}
	users, err := host.LostUsers()
	if err != nil || len(users) == 0 {
		return nil // what cannot be seen is not there, as with the upperdirs that InUse cannot ask for
	}
	used := host.InUse(uppers)
	if len(used) == 0 {
		return nil
	}
	table, err := host.ReadTable()
	if err != nil {
		return nil // the mount will say so
	}
	out := map[int]error{}
	for upper := range used {
		i := by[upper]
		if m, ok := table.Top(a.p.Changes[i].Mountpoint); ok && m.Overlay != nil && m.Overlay.Upper == upper {
			continue // systemd has mounted it
		}
		out[i] = errors.New(outOfSight(upper) + "; " + likely(users))
	}
	return out
}

// reuses tells whether a change mounts on an upperdir of before, or empties it, that none of the mounts in the table has,
// whose upperdirs are given. An overlay that was taken from under another one is used on by it, but for reading only.
func (a *apply) reuses(c *plan.Change, live map[overlayfs.FileID]bool) bool {
	upper := upperOf(c)
	return upper != "" && c.Kind != plan.Conflict && !a.layers[c.Mountpoint] && !live[a.o.ID(upper)] &&
		!slices.ContainsFunc(c.Do.Dirs, func(d plan.Dir) bool { return d.Path == upper })
}

// upperOf gives the upperdir that a change mounts on or empties, "" for none.
func upperOf(c *plan.Change) string {
	switch {
	case c.Do.Mount != nil:
		return c.Do.Mount.Upper
	case c.Do.Reset != nil && c.After != nil:
		return c.After.Upperdir
	}
	return ""
}

// liveUppers gives the upperdirs of the mount table.
func (a *apply) liveUppers() map[overlayfs.FileID]bool {
	mounts := a.o.Mounts.All()
	live := make(map[overlayfs.FileID]bool, len(mounts))
	for i := range mounts {
		if o := mounts[i].Overlay; o != nil && o.Upper != "" {
			live[a.o.ID(o.Upper)] = true
		}
	}
	delete(live, overlayfs.FileID{}) // of those whose directories are gone
	return live
}

// likely names those that use some overlay out of sight. Which one it is cannot be seen.
func likely(users []overlayfs.Process) string {
	const most = 10
	names := make([]string, 0, most)
	for _, u := range users[:min(len(users), most)] {
		names = append(names, fmt.Sprintf("%d (%s)", u.PID, u.Command))
	}
	text := "likely " + strings.Join(names, ", ")
	if len(users) > most {
		text += fmt.Sprintf(" and %d more", len(users)-most)
	}
	return text
}
