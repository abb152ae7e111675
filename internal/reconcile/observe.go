package reconcile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/safedir"
	"github.com/overlayd/overlayd/internal/units"
	"github.com/overlayd/overlayd/internal/units/systemd"
)

// Host is the machine that is brought to what a spec desires.
type Host struct {
	Root string // tree to prepare instead of this host (--root), "" for this host
	Log  logrus.FieldLogger
	// Systemd is a connection to be used instead of one for each call; may be nil.
	Systemd *systemd.Manager
	// Memory is what a process that looks again and again remembers; nil for one that looks once.
	Memory *Memory
}

// Offline tells whether a tree is prepared, where nothing can be mounted.
func (h *Host) Offline() bool { return h.Root != "" }

func (h *Host) dir() systemd.Dir { return systemd.Dir{Root: h.Root} }

// running tells whether systemd runs what is being changed.
func (h *Host) running() bool { return !h.Offline() && systemd.Running() }

func absPath(p string) string {
	abs, err := filepath.Abs(p)
	if err != nil { // only when the working directory is gone
		return filepath.Clean(p)
	}
	return abs
}

// Observe looks at the host: unit files, mount table, and every path that d names. It changes nothing and needs no
// privileges beyond reading.
func (h *Host) Observe(d plan.Desired) (*plan.Observed, error) {
	o := &plan.Observed{Systemd: h.running(), Offline: h.Offline()}
	if err := h.observeUnits(d, o); err != nil {
		return nil, err
	}
	var err error
	if o.Fstab, err = readFstab(filepath.Join("/", h.Root, "etc/fstab")); err != nil {
		return nil, fmt.Errorf("cannot read fstab: %w", err)
	}
	if d.Partial() && !h.Offline() {
		h.Memory.beginTable()
	}
	table, err := host.ReadTable()
	if err != nil {
		return nil, err
	}
	o.Mounts = table
	if h.Offline() {
		// What is mounted on this host says nothing about the tree.
		if o.Mounts, err = overlayfs.ParseTable(bytes.NewReader(nil)); err != nil {
			return nil, err
		}
	} else if o.Defaults, err = host.ReadDefaults(); err != nil {
		return nil, err
	}
	h.observePaths(d, o, table)
	return o, h.observeResets(d, o)
}

// observeUnits reads the unit files. For a part of a spec it reads those of that part; of the others it only has to
// know which are overlayd's, and that may be remembered.
func (h *Host) observeUnits(d plan.Desired, o *plan.Observed) error {
	names := make([]string, len(d.Overlays))
	for i := range d.Overlays {
		names[i] = units.Name(d.Overlays[i].Mountpoint)
	}
	var l *systemd.Listing
	var err error
	part := map[string]bool{}
	if d.Partial() {
		for _, name := range names {
			part[name] = true
		}
		l, err = h.Memory.list(h.dir(), part)
	} else {
		l, err = h.dir().List()
	}
	if err != nil {
		return err
	}
	o.Units = make(map[string]plan.UnitFile, len(l.Units))
	o.Elsewhere, o.Wants = l.Elsewhere, l.Wants
	o.Gone = map[string]bool{}
	for name, f := range l.Units {
		if name == units.TargetName {
			o.Target = plan.TargetUnit{
				Exists: true, Ours: units.IsOurs(f.Text), Current: bytes.Equal(f.Text, units.RenderTarget()),
				Enabled: l.Wants["multi-user.target"][units.TargetName], Path: f.Path,
			}
			continue
		}
		if d.Partial() && !part[name] {
			u := plan.UnitFile{Path: f.Path, Link: f.Link}
			u.Ours = f.Unread || len(f.Text) > 0 && units.IsOurs(f.Text)
			o.Units[name] = u
			continue
		}
		u := readUnit(f)
		o.Units[name] = u
		if _, seen := o.Gone[u.Source]; u.Ours && !seen {
			_, err := os.Lstat(filepath.Join("/", h.Root, u.Source))
			o.Gone[u.Source] = errors.Is(err, fs.ErrNotExist)
		}
	}
	o.DropIns = map[string][]string{}
	for _, name := range names {
		if drops := l.DropInsOf(name); len(drops) > 0 {
			o.DropIns[name] = drops
		}
	}
	return nil
}

func readUnit(f systemd.UnitFile) plan.UnitFile {
	u := plan.UnitFile{Path: f.Path, Text: string(f.Text), Link: f.Link}
	if f.Link != "" {
		return u
	}
	if len(f.Text) == 0 {
		u.Link = os.DevNull // an empty file masks a unit as well (systemd.unit(5))
		return u
	}
	var err error
	u.File, err = units.Parse(f.Text)
	if err == nil && u.Ours {
		u.Config, err = overlayfs.ParseMountOptions(u.Options)
		if err == nil && (len(u.Config.Lower) == 0 || (u.Config.Upper == "") != (u.Config.Work == "")) {
			err = fmt.Errorf("cannot read Options= of %s: it does not name the layers of an overlay", f.Name)
			u.Config = overlayfs.Config{}
		}
	}
	if err != nil {
		u.Ours = units.IsOurs(f.Text)
		u.Err = err.Error()
	}
	if at, err := units.PathOf(f.Name); err == nil && u.Ours {
		// systemd refuses a Where= that does not fit the name, so what an edited one says is not what we act on.
		u.Where = at
	}
	return u
}

// observePaths looks at all paths of the spec, of our units, and of the overlays that are live. For a part of a spec it
// only finds out which directories the others have as upperdir and workdir.
func (h *Host) observePaths(d plan.Desired, o *plan.Observed, table *overlayfs.Table) {
	desired := make(map[string]bool, len(d.Overlays))
	for i := range d.Overlays {
		desired[d.Overlays[i].Mountpoint] = true
	}
	o.Paths = make(map[string]overlayfs.PathInfo, 4*len(d.Overlays))
	h.lookAt(d.Paths(), d.DataDirs(), o, table)
	h.observeMarks(d, o)
	var more []string
	for _, u := range o.Units {
		if u.Ours {
			more = append(more, u.Config.Upper, u.Config.Work)
			if desired[u.Where] {
				more = append(more, u.Config.Lower...)
			}
		}
	}
	mounts := o.Mounts.All()
	for i := range mounts {
		m := &mounts[i]
		if m.Overlay == nil || d.Partial() && !desired[m.Mountpoint] {
			continue
		}
		more = append(more, m.Overlay.Upper, m.Overlay.Work)
		if desired[m.Mountpoint] {
			more = append(more, m.Overlay.Lower...)
		}
	}
	h.lookAt(more, nil, o, table)
	if d.Partial() {
		h.lookAt(h.observeHeld(d, o), nil, o, table)
	}
}

// observeMarks looks for overlayd's mark on data directories of which no unit tells whose they are.
func (h *Host) observeMarks(d plan.Desired, o *plan.Observed) {
	o.Marked = map[string]bool{}
	for i := range d.Overlays {
		want := &d.Overlays[i]
		if want.DataDir != "" && o.Paths[want.DataDir].Exists && !o.Units[units.Name(want.Mountpoint)].Ours {
			m, marked, err := safedir.ReadMarker(h.inRoot(want.DataDir))
			// A damaged marker is no mark: then nothing there is ours to delete.
			o.Marked[want.DataDir] = err == nil && marked && m.Address == want.Address
		}
	}
}

// lookAt looks at those of the paths that were not looked at yet, and not inside those that are in outside.
func (h *Host) lookAt(paths []string, outside map[string]bool, o *plan.Observed, table *overlayfs.Table) {
	paths = unseen(paths, o)
	var links []string
	for i, info := range h.lookAll(table, paths, outside) {
		o.Paths[paths[i]] = info
		// Where a link leads is what a unit mounts, and to be known as the directory that others mounted by the link.
		if info.Symlink != "" {
			links = append(links, info.Real)
		}
	}
	links = unseen(links, o)
	for i, info := range h.lookAll(table, links, nil) {
		o.Paths[links[i]] = info
	}
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

// lookAll is look for many paths.
func (h *Host) lookAll(table *overlayfs.Table, paths []string, outside map[string]bool) []overlayfs.PathInfo {
	if !h.Offline() {
		return host.LookAll(table, paths, outside)
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
