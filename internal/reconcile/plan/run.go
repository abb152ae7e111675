package plan

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// Run keeps account of what is mounted while an apply goes on, and says of each step whether it may be taken. It is
// where two promises are kept whatever fails on the way: no upperdir or workdir is ever live twice, and no overlay is
// taken from under another. It is not safe for use by several goroutines at once.
type Run struct {
	up      map[string][]standing      // mountpoint → overlays there, bottom to top
	holders map[string][]string        // key of an upperdir or workdir → mountpoints, each once
	kids    map[string]map[string]bool // mountpoint → mountpoints of what stands on it
	alien   map[string][]overlayfs.Use // key of an upperdir or workdir → its writers outside our mount table
}

type standing struct{ holds, below []string }

// NewRun starts from what was observed.
func NewRun(o *Observed) *Run {
	r := &Run{
		up: map[string][]standing{}, holders: map[string][]string{}, kids: map[string]map[string]bool{},
		alien: map[string][]overlayfs.Use{},
	}
	live, mounts := liveOverlays(o), o.Mounts.All()
	for i := range mounts {
		if m := &mounts[i]; m.Overlay != nil {
			r.add(m.Mountpoint, live.standing(o, m))
		}
	}
	for _, u := range o.Uses {
		if u.PID != 0 {
			for _, k := range []string{idKey(u.Upper), idKey(u.Work)} {
				r.alien[k] = append(r.alien[k], u)
			}
		}
	}
	return r
}

// Refuse says why a step must not be taken now; "" means that it may.
func (r *Run) Refuse(c *Change, s Step) string {
	switch s.Kind {
	case StepUnmount:
		return r.refuseDown(s.Live.Mountpoint)
	case StepMount:
		if len(r.up[c.Mountpoint]) > 0 {
			return c.Mountpoint + " is still mounted as it was before"
		}
		return r.refuseUp(c)
	case StepRestart:
		if reason := r.refuseDown(s.Live.Mountpoint); reason != "" {
			return reason
		}
		return r.refuseUp(c)
	case StepReset:
		if len(r.up[c.Mountpoint]) > 0 {
			return c.Mountpoint + " is still mounted"
		}
		return r.refuseData(c)
	case StepRemount, StepRevive:
	}
	return ""
}

func (r *Run) refuseDown(mountpoint string) string {
	if kids := sortedKeys(r.kids[mountpoint]); len(kids) > 0 {
		return "what stands on it is still mounted: " + strings.Join(kids, ", ")
	}
	return ""
}

func (r *Run) refuseUp(c *Change) string {
	if reason := r.refuseData(c); reason != "" {
		return reason
	}
	for _, p := range c.Do.Below {
		if len(r.up[p]) == 0 {
			return "the overlay at " + p + ", which it stands on, is not mounted"
		}
	}
	return ""
}

func (r *Run) refuseData(c *Change) string {
	for i, h := range c.Do.Holds {
		what := c.After.Upperdir
		if i > 0 {
			what = c.After.Workdir
		}
		for _, at := range slices.Sorted(slices.Values(r.holders[h])) {
			if at != c.Mountpoint {
				return what + " is still in use by the overlay mounted at " + at
			}
		}
		if u := r.alien[h]; len(u) > 0 && len(r.up[c.Mountpoint]) == 0 {
			return what + " is still in use by " + whereElse(u[0]) + ": end that process, then apply again"
		}
	}
	return ""
}

// Did records that a step was taken.
func (r *Run) Did(c *Change, s Step) {
	switch s.Kind {
	case StepUnmount:
		r.remove(s.Live.Mountpoint)
		// Copies that receive our unmounts have gone with it.
		for _, h := range s.Live.Holds {
			r.alien[h] = slices.DeleteFunc(r.alien[h], func(u overlayfs.Use) bool {
				return u.Follows && u.Dev == s.Live.Dev
			})
		}
	case StepRestart:
		r.remove(s.Live.Mountpoint)
		r.add(c.Mountpoint, standing{c.Do.Holds, c.Do.Below})
	case StepMount:
		r.add(c.Mountpoint, standing{c.Do.Holds, c.Do.Below})
	case StepReset, StepRemount, StepRevive:
	}
}

// Mounted tells whether an overlay stands at a mountpoint.
func (r *Run) Mounted(mountpoint string) bool { return len(r.up[mountpoint]) > 0 }

func (r *Run) add(mountpoint string, s standing) {
	r.up[mountpoint] = append(r.up[mountpoint], s)
	for _, k := range s.holds {
		if at := r.holders[k]; !slices.Contains(at, mountpoint) {
			r.holders[k] = append(at, mountpoint)
		}
	}
	for _, k := range s.below {
		if r.kids[k] == nil {
			r.kids[k] = map[string]bool{} // thousands can stand on one
		}
		r.kids[k][mountpoint] = true
	}
}

func (r *Run) remove(mountpoint string) {
	stack := r.up[mountpoint]
	if len(stack) == 0 {
		return
	}
	gone, rest := stack[len(stack)-1], stack[:len(stack)-1]
	if len(rest) == 0 {
		delete(r.up, mountpoint)
	} else {
		r.up[mountpoint] = rest
	}
	for _, k := range gone.holds {
		if !slices.ContainsFunc(rest, func(s standing) bool { return slices.Contains(s.holds, k) }) {
			r.holders[k] = slices.DeleteFunc(r.holders[k], func(at string) bool { return at == mountpoint })
		}
	}
	for _, k := range gone.below {
		if !slices.ContainsFunc(rest, func(s standing) bool { return slices.Contains(s.below, k) }) {
			delete(r.kids[k], mountpoint)
		}
	}
}

// dirID identifies an upperdir or workdir: by device and inode if it exists, else by those of the nearest directory
// that does and the way down from there. So two names of one directory are known before either exists. Without them,
// as for what was not looked at, there is the name alone.
type dirID struct {
	id   overlayfs.FileID
	rest string
	name bool // rest is a name, and id says nothing
}

func (o *Observed) dirID(p string) dirID {
	info := o.path(p)
	return o.identify(p, &info)
}

// identify is dirID of a path that was looked at.
func (o *Observed) identify(p string, info *overlayfs.PathInfo) dirID {
	if id, ok := o.Held[p]; ok {
		return dirID{id: id}
	}
	if info.Exists {
		return dirID{id: info.ID}
	}
	if rest, ok := strings.CutPrefix(info.Real, info.Base); ok && info.Base != "" && info.BaseID != (overlayfs.FileID{}) {
		return dirID{id: info.BaseID, rest: "/" + strings.Trim(rest, "/")}
	}
	return dirID{rest: p, name: true}
}

// key is the identity of an upperdir or workdir as a text.
func (o *Observed) key(p string) string {
	d := o.dirID(p)
	if d.name {
		return d.rest
	}
	return idKey(d.id) + d.rest
}

func idKey(id overlayfs.FileID) string {
	return strconv.FormatUint(id.Dev, 10) + ":" + strconv.FormatUint(id.Ino, 10)
}

// lives answers which live overlays stand on which.
type lives struct {
	at   map[string]bool
	near nearest
}

func liveOverlays(o *Observed) *lives {
	mounts := o.Mounts.All()
	l := &lives{at: make(map[string]bool, len(mounts))}
	for i := range mounts {
		if mounts[i].Overlay != nil {
			l.at[mounts[i].Mountpoint] = true
		}
	}
	l.near = nearest{known: func(p string) bool { return l.at[p] }}
	return l
}

func (l *lives) standing(o *Observed, m *overlayfs.Mount) standing {
	s := standing{below: l.near.below(m.Overlay.Lower, m.Overlay.Data, m.Mountpoint, path.Dir(m.Mountpoint))}
	if m.Overlay.Upper != "" {
		s.holds = []string{o.key(m.Overlay.Upper), o.key(m.Overlay.Work)}
	}
	return s
}
