package reconcile

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/sirupsen/logrus"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
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
func (h *Host) Observe(d plan.Desired) (*plan.Observed, error) { return h.observe(nil, d) }

// observe is Observe, for the whole of a spec from a glance that was taken before and is used up by it, if there is one.
func (h *Host) observe(g *glance, d plan.Desired) (*plan.Observed, error) {
	if d.Partial() {
		return h.observePart(d)
	}
	if g == nil {
		var err error
		if g, err = h.glance(); err != nil {
			return nil, err
		}
	}
	observeDropIns(g.list, d, g.o)
	h.observePaths(d, g.o, g.table)
	return g.o, h.observeResets(d, g.o)
}

// glance is what a look at a host begins with, whatever is desired.
type glance struct {
	o     *plan.Observed
	list  *systemd.Listing
	table *overlayfs.Table // of this host, also where a tree is prepared
}

// glance does the greater part of Observe, which needs no spec. It looks at unit files and mount table, and at the
// directories of what is applied and mounted.
func (h *Host) glance() (*glance, error) {
	g := &glance{o: &plan.Observed{Systemd: h.running(), Offline: h.Offline()}}
	var unitsErr, restErr error
	var both sync.WaitGroup
	both.Go(func() { g.table, restErr = h.observeRest(g.o) })
	if g.list, unitsErr = h.dir().List(); unitsErr == nil {
		h.readUnits(g.list, nil, g.o)
		g.list.Units = nil // they are large, and read
	}
	both.Wait()
	if err := cmp.Or(unitsErr, restErr); err != nil {
		return nil, err
	}
	h.glanceAtPaths(g.o, g.table)
	return g, nil
}

// observePart is Observe for a part of a spec: it reads the units of that part. Of the others it only has to know which
// are overlayd's and what they hold, and that may be remembered.
func (h *Host) observePart(d plan.Desired) (*plan.Observed, error) {
	o := &plan.Observed{Systemd: h.running(), Offline: h.Offline()}
	part := make(map[string]bool, len(d.Overlays))
	for i := range d.Overlays {
		part[units.Name(d.Overlays[i].Mountpoint)] = true
	}
	l, err := h.Memory.list(h.dir(), part)
	if err != nil {
		return nil, err
	}
	h.readUnits(l, part, o)
	observeDropIns(l, d, o)
	if !h.Offline() {
		h.Memory.beginTable()
	}
	table, err := h.observeRest(o)
	if err != nil {
		return nil, err
	}
	h.observePaths(d, o, table)
	h.lookAt(h.observeHeld(d, o), host.Layer, o, table)
	return o, h.observeResets(d, o)
}

// observeRest reads what is neither a unit nor a path of an overlay.
func (h *Host) observeRest(o *plan.Observed) (table *overlayfs.Table, err error) {
	if o.Fstab, err = readFstab(filepath.Join("/", h.Root, "etc/fstab")); err != nil {
		return nil, fmt.Errorf("cannot read fstab: %w", err)
	}
	if table, err = host.ReadTable(); err != nil {
		return nil, err
	}
	o.Mounts = table
	if h.Offline() {
		// What is mounted on this host says nothing about the tree.
		o.Mounts, err = overlayfs.ParseTable(bytes.NewReader(nil))
	} else {
		o.Defaults, err = host.ReadDefaults()
	}
	return table, err
}

// observeUnits reads the unit files, and which drop-ins those have that are desired.
func (h *Host) observeUnits(d plan.Desired, o *plan.Observed) error {
	l, err := h.dir().List()
	if err == nil {
		h.readUnits(l, nil, o)
		observeDropIns(l, d, o)
	}
	return err
}

// readUnits reads what was listed. Of units that are not in part it only tells whether they are overlayd's; nil is all.
func (h *Host) readUnits(l *systemd.Listing, part map[string]bool, o *plan.Observed) {
	o.Elsewhere, o.Wants, o.Gone = l.Elsewhere, l.Wants, map[string]bool{}
	files := make([]systemd.UnitFile, 0, len(l.Units))
	for name, f := range l.Units {
		if name != units.TargetName {
			files = append(files, f)
			continue
		}
		o.Target = plan.TargetUnit{
			Exists: true, Ours: units.IsOurs(f.Text), Current: bytes.Equal(f.Text, units.RenderTarget()),
			Enabled: l.Wants["multi-user.target"][units.TargetName], Path: f.Path,
		}
	}
	read := make([]plan.UnitFile, len(files))
	onProcessors(len(files), func(i int) {
		f := &files[i]
		if part == nil || part[f.Name] {
			read[i] = readUnit(f)
			return
		}
		read[i] = plan.UnitFile{Path: f.Path, Link: f.Link}
		read[i].Ours = f.Unread || len(f.Text) > 0 && units.IsOurs(f.Text)
	})
	o.Units = make(map[string]plan.UnitFile, len(files))
	for i := range read {
		u := &read[i]
		o.Units[files[i].Name] = *u
		if !u.Ours || part != nil && !part[files[i].Name] {
			continue
		}
		if _, seen := o.Gone[u.Source]; !seen {
			_, err := os.Lstat(filepath.Join("/", h.Root, u.Source))
			o.Gone[u.Source] = errors.Is(err, fs.ErrNotExist)
		}
	}
}

// onProcessors calls f with the numbers below n, some at once.
func onProcessors(n int, f func(i int)) {
	workers := runtime.GOMAXPROCS(0)
	part := max(256, (n+workers-1)/workers)
	var wait sync.WaitGroup
	for from := 0; from < n; from += part {
		wait.Go(func() {
			for i := from; i < min(n, from+part); i++ {
				f(i)
			}
		})
	}
	wait.Wait()
}

// observeDropIns finds the drop-ins of the units that are desired.
func observeDropIns(l *systemd.Listing, d plan.Desired, o *plan.Observed) {
	o.DropIns = map[string][]string{}
	if len(l.DropIns) == 0 {
		return
	}
	for i := range d.Overlays {
		name := units.Name(d.Overlays[i].Mountpoint)
		if drops := l.DropInsOf(name); len(drops) > 0 {
			o.DropIns[name] = drops
		}
	}
}

func readUnit(f *systemd.UnitFile) plan.UnitFile {
	// One string, of which what is read are parts.
	u := plan.UnitFile{Path: f.Path, Text: string(f.Text), Link: f.Link}
	if f.Link != "" {
		return u
	}
	if u.Text == "" {
		u.Link = os.DevNull // an empty file masks a unit as well (systemd.unit(5))
		return u
	}
	var err error
	u.File, err = units.Parse(u.Text)
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
