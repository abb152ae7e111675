package reconcile

import (
	"slices"
	"time"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/units"
	"github.com/overlayd/overlayd/internal/units/systemd"
)

// Memory is what a long-running process remembers of the host between looks at parts of a spec, see
// [plan.Desired.Around], so that these cost little however many overlays there are. What it says is checked each time
// against what cannot stay the same when it has changed; what cannot be checked is looked at. Looks at a whole spec do
// not use it. The zero Memory is empty. It is not safe for use by several goroutines at once.
type Memory struct {
	ours       map[string]systemd.Stamp // unit files of overlayd by name, as they were when they were read
	held       host.Held
	namespaces host.Namespaces
	now        func() time.Time // nil for the clock
}

// Remember fills the memory, so that the next look at a part of the spec is as fast as those after it. It changes
// nothing, and does nothing for a host without a memory.
func (h *Host) Remember(d plan.Desired) error {
	if h.Memory == nil || h.Offline() {
		return nil
	}
	o, err := h.Observe(d.Around(nil))
	if err == nil {
		_, err = h.usesButCopies(o)
	}
	return err
}

// list reads the unit files named in want, and of the others those that are not remembered to be overlayd's.
func (m *Memory) list(dir systemd.Dir, want map[string]bool) (*systemd.Listing, error) {
	if m == nil {
		return dir.List()
	}
	now := time.Now
	if m.now != nil {
		now = m.now
	}
	begun := now()
	l, err := dir.ListBut(func(name string, s systemd.Stamp) bool {
		known, ok := m.ours[name]
		return ok && known == s && !want[name] && name != units.TargetName
	})
	if err != nil {
		return nil, err
	}
	if m.ours == nil {
		m.ours = make(map[string]systemd.Stamp, len(l.Units))
	}
	for name, f := range l.Units {
		switch {
		case f.Unread, name == units.TargetName: // whose text is always looked at
		case f.Link == "" && f.Stamp.Settled(begun) && units.IsOurs(f.Text):
			m.ours[name] = f.Stamp
		default:
			delete(m.ours, name)
		}
	}
	for name := range m.ours {
		if _, is := l.Units[name]; !is {
			delete(m.ours, name)
		}
	}
	return l, nil
}

// beginTable has to be called before a mount table is read that held is to learn from.
func (m *Memory) beginTable() {
	if m != nil {
		m.held.Begin()
	}
}

// observeHeld finds out which directories are the upperdirs and workdirs of overlays that a part of the spec does not
// have, and gives those paths that lead nowhere: they need a closer look.
func (h *Host) observeHeld(d plan.Desired, o *plan.Observed) (nowhere []string) {
	var paths []string
	if h.Offline() {
		d.Holds(func(dir string) { paths = append(paths, dir) })
		return paths
	}
	var known map[int]host.Dirs
	if h.Memory != nil {
		known = h.Memory.held.Of(o.Mounts)
	}
	o.Held = make(map[string]overlayfs.FileID, 2*len(o.Mounts.All()))
	note := func(p string, id overlayfs.FileID) (otherwise bool) {
		if _, seen := o.Paths[p]; seen {
			return false
		}
		was, seen := o.Held[p]
		if !seen {
			o.Held[p] = id
		}
		return seen && was != id
	}
	var unknown []*overlayfs.Mount
	mounts := o.Mounts.All()
	for i := range mounts {
		m := &mounts[i]
		if m.Overlay == nil || m.Overlay.Upper == "" {
			continue
		}
		dirs, ok := known[m.ID]
		if !ok {
			unknown = append(unknown, m)
			paths = append(paths, m.Overlay.Upper, m.Overlay.Work)
			continue
		}
		// Where two overlays name one path and mean two directories, one was replaced under the first. What is there now
		// is what others would mount.
		if note(m.Overlay.Upper, dirs.Upper) {
			paths = append(paths, m.Overlay.Upper)
		}
		if note(m.Overlay.Work, dirs.Work) {
			paths = append(paths, m.Overlay.Work)
		}
	}
	d.Holds(func(dir string) {
		if _, seen := o.Held[dir]; !seen {
			paths = append(paths, dir)
		}
	})
	paths = unseen(paths, o)
	for i, id := range host.Identify(paths) {
		if id == (overlayfs.FileID{}) {
			delete(o.Held, paths[i])
			nowhere = append(nowhere, paths[i])
		} else {
			o.Held[paths[i]] = id
		}
	}
	if h.Memory != nil {
		h.Memory.learn(unknown, o)
	}
	return nowhere
}

// learn takes in the directories of overlays that were not known.
func (m *Memory) learn(unknown []*overlayfs.Mount, o *plan.Observed) {
	dirs := make(map[int]host.Dirs, len(unknown))
	for _, u := range unknown {
		is := host.Dirs{Upper: o.ID(u.Overlay.Upper), Work: o.ID(u.Overlay.Work)}
		if is.Upper != (overlayfs.FileID{}) && is.Work != (overlayfs.FileID{}) {
			dirs[u.ID] = is
		}
	}
	m.held.Learn(dirs)
}

// unseen gives the paths that were not looked at yet, each once.
func unseen(paths []string, o *plan.Observed) []string {
	out := make([]string, 0, len(paths))
	for _, p := range paths {
		if _, seen := o.Paths[p]; p != "" && !seen {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
