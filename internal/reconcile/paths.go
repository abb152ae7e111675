package reconcile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/safedir"
	"github.com/overlayd/overlayd/internal/units"
)

// glanceAtPaths looks at what our units and all live overlays write to. These are mostly all paths of a spec that was
// applied.
func (h *Host) glanceAtPaths(o *plan.Observed, table *overlayfs.Table) {
	o.Paths = make(map[string]overlayfs.PathInfo, 4*len(o.Units))
	paths := make([]string, 0, 5*len(o.Units))
	for _, u := range o.Units {
		if u.Ours && u.Config.Upper != "" {
			// Not at the mountpoint of one without an upperdir: its layers may be on a server that does not answer, and
			// it may be no matter of the spec.
			paths = append(paths, u.Config.Upper, u.Config.Work, u.Where)
		}
	}
	mounts := o.Mounts.All()
	for i := range mounts {
		if m := &mounts[i]; m.Overlay != nil {
			paths = append(paths, m.Overlay.Upper, m.Overlay.Work)
		}
	}
	h.lookAt(paths, host.Layer, o, table)
}

// observePaths looks at the paths of the spec, of its units, and of what is live in its places, as far as they were not
// looked at yet.
func (h *Host) observePaths(d plan.Desired, o *plan.Observed, table *overlayfs.Table) {
	if o.Paths == nil {
		o.Paths = make(map[string]overlayfs.PathInfo, 4*len(d.Overlays))
	}
	var fresh, paths []string
	add := func(more ...string) {
		for _, p := range more {
			if _, seen := o.Paths[p]; !seen && p != "" {
				paths = append(paths, p)
			}
		}
	}
	var unmarked []*plan.Overlay // of which no unit tells whose their data are
	for i := range d.Overlays {
		want := &d.Overlays[i]
		add(want.Lower...)
		add(want.Upper, want.Work, want.Mountpoint)
		if u := o.Units[units.Name(want.Mountpoint)]; u.Ours {
			add(u.Config.Lower...)
			add(u.Config.Upper, u.Config.Work)
		} else {
			fresh = append(fresh, want.Upper, want.Mountpoint)
			unmarked = append(unmarked, want)
		}
		if _, reset := d.Resets[want.Mountpoint]; reset {
			fresh = append(fresh, want.Upper)
		}
	}
	desired := sync.OnceValue(func() map[string]bool {
		at := make(map[string]bool, len(d.Overlays))
		for i := range d.Overlays {
			at[d.Overlays[i].Mountpoint] = true
		}
		return at
	})
	mounts := o.Mounts.All()
	for i := range mounts {
		m := &mounts[i]
		if m.Overlay == nil {
			continue
		}
		before := len(paths)
		add(m.Overlay.Upper, m.Overlay.Work)
		add(m.Overlay.Lower...)
		if len(paths) > before && !desired()[m.Mountpoint] {
			paths = paths[:before]
		}
	}
	// Only of these it matters whether they are empty. They may have been looked at as another overlay's.
	for _, p := range fresh {
		delete(o.Paths, p)
	}
	h.lookAt(fresh, host.Inside, o, table)
	h.lookAt(paths, host.Layer, o, table)
	h.observeData(d, unmarked, o, table)
}

// observeData looks at data directories, where nothing in them tells that they exist, and for overlayd's mark on those
// of which no unit tells whose they are.
func (h *Host) observeData(d plan.Desired, unmarked []*plan.Overlay, o *plan.Observed, table *overlayfs.Table) {
	var dirs []string
	for i := range d.Overlays {
		if want := &d.Overlays[i]; want.DataDir != "" && !o.HasData(want) {
			dirs = append(dirs, want.DataDir)
		}
	}
	h.lookAt(dirs, host.Outside, o, table)
	o.Marked = map[string]bool{}
	for _, want := range unmarked {
		if want.DataDir != "" && (o.HasData(want) || o.Paths[want.DataDir].Exists) {
			m, marked, err := safedir.ReadMarker(h.inRoot(want.DataDir))
			// A damaged marker is no mark: then nothing there is ours to delete.
			o.Marked[want.DataDir] = err == nil && marked && m.Address == want.Address
		}
	}
}

// lookAt looks at those of the paths that were not looked at yet.
func (h *Host) lookAt(paths []string, depth host.Depth, o *plan.Observed, table *overlayfs.Table) {
	links := h.lookOnce(paths, depth, o, table)
	h.lookOnce(links, depth, o, table)
}

// lookOnce is lookAt, and gives what those paths lead to that are symlinks, or lie behind one. That is what a unit
// mounts, and to be known as the directory that others mounted by the link.
func (h *Host) lookOnce(
	paths []string, depth host.Depth, o *plan.Observed, table *overlayfs.Table,
) (links []string) {
	unseen := make([]string, 0, len(paths))
	for _, p := range paths {
		if _, seen := o.Paths[p]; !seen && p != "" {
			o.Paths[p] = overlayfs.PathInfo{} // once, though it may be named again
			unseen = append(unseen, p)
		}
	}
	for i, info := range h.lookAll(table, unseen, depth) {
		o.Paths[unseen[i]] = info
		if info.Symlink != "" {
			links = append(links, info.Real)
		}
	}
	return links
}

// lookAll is look for many paths.
func (h *Host) lookAll(table *overlayfs.Table, paths []string, depth host.Depth) []overlayfs.PathInfo {
	if !h.Offline() {
		return host.LookAll(table, paths, depth)
	}
	prober := host.NewProber(table)
	infos := make([]overlayfs.PathInfo, len(paths))
	for i, p := range paths {
		infos[i] = h.look(prober, p)
	}
	return infos
}

// look looks at one path; below --root it is the tree's, and shown without the root.
func (h *Host) look(prober *host.Prober, p string) overlayfs.PathInfo {
	if !h.Offline() {
		return prober.Look(p)
	}
	real, link, err := resolveIn(h.Root, p)
	if err != nil {
		return overlayfs.PathInfo{Path: p, Real: p, Err: err.Error()}
	}
	seen := prober.Look(filepath.Join(h.Root, real))
	// What the tree lies on, and what is above it, is no matter of the tree: an image that is prepared on a nosuid
	// mount, or in a container, on an overlay, is booted elsewhere.
	info := overlayfs.PathInfo{
		Path: p, Real: real, Symlink: link, Exists: seen.Exists, IsDir: seen.IsDir, Empty: seen.Empty, ID: seen.ID,
		UID: seen.UID, GID: seen.GID, Mode: seen.Mode, Err: seen.Err, Denied: seen.Denied,
	}
	if prober.Look(h.Root).Unsafe == "" {
		info.Unsafe = seen.Unsafe
	}
	return info
}

// resolveIn resolves the symlinks of a path as a system booted from root would: an absolute link leads to a place
// below root, and ".." stops there. It gives the first component that is a symlink, "" if there is none.
func resolveIn(root, p string) (real, link string, err error) {
	const maxLinks = 40 // as the kernel
	real, rest := "/", strings.Split(p, "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		at := filepath.Join(real, name)
		to, err := os.Readlink(filepath.Join(root, at))
		if name == "" || err != nil { // no link, or nothing there at all
			real = at
			continue
		}
		if links++; links > maxLinks {
			return "", "", fmt.Errorf("cannot look at %s: %w", p, unix.ELOOP)
		}
		if link == "" {
			link = at
		}
		if filepath.IsAbs(to) {
			real = "/"
		}
		rest = append(strings.Split(to, "/"), rest...)
	}
	return real, link, nil
}

func cutRoot(p, root string) (string, bool) {
	rel, err := filepath.Rel(root, p)
	if err != nil || rel == ".." || len(rel) > 2 && rel[:3] == "../" {
		return "", false
	}
	return filepath.Join("/", rel), true
}
