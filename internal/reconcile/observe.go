package reconcile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
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

func (h *Host) observeUnits(d plan.Desired, o *plan.Observed) error {
	l, err := h.dir().List()
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
		u := readUnit(f)
		o.Units[name] = u
		if _, seen := o.Gone[u.Source]; u.Ours && !seen {
			_, err := os.Lstat(filepath.Join("/", h.Root, u.Source))
			o.Gone[u.Source] = errors.Is(err, fs.ErrNotExist)
		}
	}
	o.DropIns = map[string][]string{}
	for _, want := range d.Overlays {
		name := units.Name(want.Mountpoint)
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

// observePaths looks at all paths of the spec, of our units, and of the overlays that are live.
func (h *Host) observePaths(d plan.Desired, o *plan.Observed, table *overlayfs.Table) {
	prober := host.NewProber(table)
	o.Paths = make(map[string]overlayfs.PathInfo, 4*len(d.Overlays))
	desired := make(map[string]bool, len(d.Overlays))
	look := func(paths ...string) {
		for _, p := range paths {
			if _, seen := o.Paths[p]; p == "" || seen {
				continue
			}
			info := h.look(prober, p)
			o.Paths[p] = info
			// Where a link leads is what a unit mounts, and to be known as the directory that others mounted by the link.
			if _, seen := o.Paths[info.Real]; info.Symlink != "" && !seen {
				o.Paths[info.Real] = h.look(prober, info.Real)
			}
		}
	}
	for _, want := range d.Overlays {
		desired[want.Mountpoint] = true
	}
	look(d.Paths()...)
	o.Marked = map[string]bool{}
	for _, want := range d.Overlays {
		if want.DataDir != "" && o.Paths[want.DataDir].Exists && !o.Units[units.Name(want.Mountpoint)].Ours {
			m, marked, err := safedir.ReadMarker(h.inRoot(want.DataDir))
			// A damaged marker is no mark: then nothing there is ours to delete.
			o.Marked[want.DataDir] = err == nil && marked && m.Address == want.Address
		}
	}
	for _, u := range o.Units {
		if u.Ours {
			look(u.Config.Upper, u.Config.Work)
			if desired[u.Where] {
				look(u.Config.Lower...)
			}
		}
	}
	for _, m := range o.Mounts.All() {
		if m.Overlay != nil {
			look(m.Overlay.Upper, m.Overlay.Work)
			if desired[m.Mountpoint] {
				look(m.Overlay.Lower...)
			}
		}
	}
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

// Plan looks at the host and thinks. It looks a second time, at what the disruptive changes would hit, where there are
// any: which units depend on the mounts, which processes use them, and who holds an upperdir in another mount
// namespace.
func (h *Host) Plan(ctx context.Context, d plan.Desired, targets []plan.Target) (plan.Plan, *plan.Observed, error) {
	o, err := h.Observe(d)
	if err != nil {
		return plan.Plan{}, nil, err
	}
	p := plan.Diff(d, o, targets)
	if h.Offline() || !touches(p) {
		return p, o, nil
	}
	if err := h.observeImpact(ctx, p, o); err != nil {
		return plan.Plan{}, nil, err
	}
	if err := h.observeRequired(ctx, d, p, o); err != nil {
		return plan.Plan{}, nil, err
	}
	return plan.Diff(d, o, targets), o, nil
}

// touches tells whether a plan takes a mount down, puts one up, or renews what one is mounted on.
func touches(p plan.Plan) bool {
	return slices.ContainsFunc(p.Changes, func(c plan.Change) bool {
		return len(c.Do.Unmount) > 0 || c.Do.Mount != nil || c.Do.Reset != nil
	})
}

// observeImpact fills in Uses and Impact for what the plan takes down or puts up.
func (h *Host) observeImpact(ctx context.Context, p plan.Plan, o *plan.Observed) error {
	uses, err := h.uses(o.Mounts)
	if err != nil {
		return err
	}
	o.Uses = uses
	down := map[string]string{} // mountpoint → unit
	ids := map[int]string{}
	for _, c := range p.Changes {
		for _, l := range c.Do.Unmount {
			down[l.Mountpoint] = l.Unit
			for _, m := range o.Mounts.At(l.Mountpoint) {
				ids[m.ID] = l.Mountpoint
			}
		}
	}
	if len(down) == 0 {
		return nil
	}
	users, err := host.Users(ids)
	permitted := !errors.Is(err, host.ErrNotPermitted)
	if err != nil && permitted {
		return err
	}
	o.Impact = make(map[string]plan.Impact, len(down))
	for at := range down {
		i := plan.Impact{}
		for _, m := range o.Mounts.Below(at) {
			i.Mounts = append(i.Mounts, m.Mountpoint)
		}
		if permitted {
			i.Processes = []overlayfs.Process{}
		}
		o.Impact[at] = i
	}
	for id, processes := range users {
		i := o.Impact[ids[id]]
		i.Processes = append(i.Processes, processes...)
		o.Impact[ids[id]] = i
	}
	return h.observeDependents(ctx, down, o)
}

// observeRequired asks systemd for the units that the overlays to be mounted require. A missing one would only show
// when the start job fails.
func (h *Host) observeRequired(ctx context.Context, d plan.Desired, p plan.Plan, o *plan.Observed) error {
	var names []string
	own := map[string]bool{} // written before they are needed
	for _, want := range d.Overlays {
		own[units.Name(want.Mountpoint)] = true
		if c, ok := p.Find(want.Address); ok && c.Do.Start {
			names = append(names, want.Requires...)
		}
	}
	if len(names) == 0 {
		return nil
	}
	m, err := systemd.Connect(ctx)
	if err != nil {
		return err
	}
	defer m.Close()
	slices.Sort(names)
	states, err := m.States(ctx, slices.Compact(names))
	if err != nil {
		return err
	}
	o.NoUnit = map[string]bool{}
	for name, s := range states {
		o.NoUnit[name] = s.Load == "not-found" && !own[name]
	}
	return nil
}

// observeDependents asks systemd which active units stop with each mount.
func (h *Host) observeDependents(ctx context.Context, down map[string]string, o *plan.Observed) error {
	if !o.Systemd {
		return nil
	}
	m, err := systemd.Connect(ctx)
	if err != nil {
		return err
	}
	defer m.Close()
	all, err := m.DependentsOf(ctx, slices.Sorted(maps.Values(down)))
	if err != nil {
		return err
	}
	for at, unit := range down {
		i := o.Impact[at]
		i.Units = append(i.Units, all[unit]...)
		o.Impact[at] = i
	}
	return nil
}
