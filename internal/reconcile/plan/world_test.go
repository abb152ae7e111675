package plan_test

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/units"
)

// world is a host made of values: what Observe would read, and what the steps of an apply do to it.
type world struct {
	t       testing.TB
	files   map[string]units.Mount // our unit files as written
	edited  map[string]string      // unit files that differ from what overlayd wrote
	wants   map[string]map[string]bool
	target  bool
	mounts  []worldMount // in the order in which they were made
	paths   map[string]overlayfs.PathInfo
	fstab   map[string]plan.FstabLine
	else_   map[string]string
	dropIns map[string][]string
	gone    map[string]bool
	uses    []overlayfs.Use
	noUnit  map[string]bool
	impact  map[string]plan.Impact
	systemd bool
	offline bool
	alien   bool // overlayd.target is somebody else's
	resets  map[string]plan.ResetFacts
	reset   map[string]bool // mountpoints that were reset
	nextIno uint64
}

type worldMount struct {
	at, source, fstype string
	config             overlayfs.Config
	superRO            bool
}

func newWorld(t testing.TB) *world {
	return &world{
		t: t, files: map[string]units.Mount{}, edited: map[string]string{}, wants: map[string]map[string]bool{},
		paths: map[string]overlayfs.PathInfo{}, fstab: map[string]plan.FstabLine{}, else_: map[string]string{},
		dropIns: map[string][]string{}, gone: map[string]bool{}, impact: map[string]plan.Impact{}, systemd: true, noUnit: map[string]bool{},
		resets: map[string]plan.ResetFacts{}, reset: map[string]bool{}, nextIno: 100,
	}
}

// dir makes directories.
func (w *world) dir(paths ...string) {
	for _, p := range paths {
		if _, ok := w.paths[p]; ok {
			continue
		}
		w.nextIno++
		w.paths[p] = overlayfs.PathInfo{
			Path: p, Real: p, Exists: true, IsDir: true, ID: overlayfs.FileID{Dev: 1, Ino: w.nextIno}, Mode: 0o755,
			Base: path.Dir(p), MountID: 1, FSType: "ext4",
		}
	}
}

// change edits what is known of a path.
func (w *world) change(p string, f func(*overlayfs.PathInfo)) {
	w.dir(p)
	info := w.paths[p]
	f(&info)
	w.paths[p] = info
}

func (w *world) mount(at, source string, c overlayfs.Config) {
	w.mounts = append(w.mounts, worldMount{at: at, source: source, fstype: "overlay", config: c})
}

func (w *world) foreign(at string) {
	w.mounts = append(w.mounts, worldMount{at: at, source: "somebody", fstype: "tmpfs"})
}

func (w *world) umount(at string) bool {
	for i, m := range slices.Backward(w.mounts) {
		if m.at == at {
			w.mounts = slices.Delete(w.mounts, i, i+1)
			return true
		}
	}
	return false
}

// copyOf adds a copy of a live overlay in another mount namespace.
func (w *world) copyOf(at string, follows bool) {
	m, _ := w.table().Top(at)
	w.uses = append(w.uses, overlayfs.Use{
		Mountpoint: at, Source: m.Source, Dev: m.Dev, PID: 4711, Follows: follows,
		Upper: w.paths[m.Overlay.Upper].ID, Work: w.paths[m.Overlay.Work].ID,
	})
}

// table renders the mounts as the kernel would, and reads that.
func (w *world) table() *overlayfs.Table {
	var b strings.Builder
	b.WriteString("20 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n")
	ids := map[string]int{"/": 20}
	parent := func(p string) int {
		for dir := p; ; dir = path.Dir(dir) {
			if id, ok := ids[dir]; ok {
				return id
			}
		}
	}
	for i, m := range w.mounts {
		id := 21 + i
		flags, super := "rw,relatime", "rw"
		for _, name := range slices.Sorted(maps.Keys(m.config.Options)) {
			if overlayfs.ClassOf(name) == overlayfs.ClassPerMount {
				flags += "," + name
			}
		}
		if m.superRO {
			super = "ro"
		}
		if m.fstype == "overlay" {
			var kept []string
			for o := range strings.SplitSeq(m.config.KernelData(), ",") {
				if !strings.HasSuffix(o, "=off") { // the kernel does not show its defaults
					kept = append(kept, o)
				}
			}
			super += "," + strings.Join(kept, ",")
		}
		fmt.Fprintf(&b, "%d %d 0:%d / %s %s - %s %s %s\n", id, parent(m.at), 40+i, m.at, flags, m.fstype, m.source, super)
		ids[m.at] = id
	}
	t, err := overlayfs.ParseTable(strings.NewReader(b.String()))
	if err != nil {
		w.t.Fatalf("cannot read the world's mount table: %v", err)
	}
	return t
}

func (w *world) observe() *plan.Observed {
	o := &plan.Observed{
		Units: map[string]plan.UnitFile{}, Elsewhere: w.else_, DropIns: w.dropIns, Wants: map[string]map[string]bool{},
		Fstab: w.fstab, Gone: w.gone, Mounts: w.table(), Paths: maps.Clone(w.paths), Systemd: w.systemd,
		Offline: w.offline, Uses: w.uses, Impact: w.impact, NoUnit: w.noUnit, Resets: w.resets,
		Defaults: overlayfs.Defaults{RedirectAlwaysFollow: true},
	}
	for target, linked := range w.wants {
		o.Wants[target] = maps.Clone(linked)
	}
	o.Target = plan.TargetUnit{
		Exists: w.target || w.alien, Ours: w.target, Current: w.target, Enabled: w.target,
		Path: "/etc/systemd/system/overlayd.target",
	}
	add := func(name, text string) {
		f, err := units.Parse([]byte(text))
		u := plan.UnitFile{File: f, Path: "/etc/systemd/system/" + name, Text: text}
		if err == nil && f.Ours {
			u.Config, err = overlayfs.ParseMountOptions(f.Options)
		}
		if err != nil {
			u.Ours, u.Err = units.IsOurs([]byte(text)), err.Error()
		}
		u.Where, _ = units.PathOf(name)
		o.Units[name] = u
	}
	for name, m := range w.files {
		add(name, string(m.Render()))
	}
	for name, text := range w.edited {
		add(name, text)
	}
	return o
}

// apply carries a plan out as package reconcile does, with a hand on each step: fail says which go wrong.
func (w *world) apply(p plan.Plan, o *plan.Observed, held map[int]string, fail func(plan.Step) bool) (skipped int) {
	held = p.Hold(held)
	run := plan.NewRun(o)
	schedule := p.Steps(func(i int) bool { _, no := held[i]; return !no })
	ended := map[int]bool{}
	for i := range held {
		ended[i] = true
	}
	step := func(s plan.Step) {
		c := &p.Changes[s.Change]
		if ended[s.Change] {
			return
		}
		if run.Refuse(c, s) != "" {
			ended[s.Change] = true
			skipped++
			return
		}
		if fail(s) {
			ended[s.Change] = true
			return
		}
		w.step(c, s)
		run.Did(c, s)
		w.oneWriter()
	}
	for _, wave := range schedule.Waves() {
		for _, s := range slices.Backward(wave) { // they are independent of each other
			step(s)
		}
	}
	for i := range p.Changes {
		c := &p.Changes[i]
		if ended[i] || c.Kind == plan.Conflict {
			continue
		}
		w.write(c)
	}
	w.target = w.target && p.Target != plan.TargetRemove || p.Target == plan.TargetWrite
	for _, g := range schedule.Groups {
		for _, s := range g {
			step(s)
		}
	}
	return skipped
}

func (w *world) write(c *plan.Change) {
	if c.Do.Write != nil {
		w.files[c.Unit] = *c.Do.Write
		delete(w.edited, c.Unit)
	}
	for _, name := range c.Do.Remove {
		delete(w.files, name)
		delete(w.edited, name)
	}
	for _, l := range c.Do.Link {
		if w.wants[l[0]] == nil {
			w.wants[l[0]] = map[string]bool{}
		}
		w.wants[l[0]][l[1]] = true
	}
	for _, l := range c.Do.Unlink {
		delete(w.wants[l[0]], l[1])
	}
}

func (w *world) step(c *plan.Change, s plan.Step) {
	down := func(at string) {
		if !w.umount(at) {
			w.t.Fatalf("%s: nothing is mounted at %s to take down", c.Address, at)
		}
	}
	up := func() {
		for _, d := range c.Do.Dirs {
			w.dir(d.Path)
		}
		w.dir(c.Mountpoint)
		w.mount(c.Mountpoint, plan.Label, *c.Do.Mount)
	}
	switch s.Kind {
	case plan.StepUnmount:
		for _, m := range w.mounts {
			if m.fstype == "overlay" && m.at != s.Live.Mountpoint && slices.ContainsFunc(m.config.Lower, func(l string) bool {
				return l == s.Live.Mountpoint
			}) {
				w.t.Fatalf("%s is taken from under %s", s.Live.Mountpoint, m.at)
			}
		}
		down(s.Live.Mountpoint)
	case plan.StepMount:
		up()
	case plan.StepRestart:
		down(s.Live.Mountpoint)
		up()
	case plan.StepRemount:
		m := &w.mounts[slices.IndexFunc(w.mounts, func(m worldMount) bool { return m.at == c.Mountpoint })]
		m.config.Options = m.config.Options.Clone()
		for name := range m.config.Options {
			if overlayfs.ClassOf(name) == overlayfs.ClassPerMount {
				delete(m.config.Options, name)
			}
		}
		maps.Copy(m.config.Options, c.Do.Remount)
	case plan.StepReset:
		for _, m := range w.mounts {
			if m.config.Upper == c.After.Upperdir || m.config.Work == c.After.Workdir {
				w.t.Fatalf("%s: %s is reset while it is mounted at %s", c.Address, c.After.Upperdir, m.at)
			}
		}
		w.reset[c.Mountpoint] = true
	case plan.StepRevive:
	}
}

// oneWriter is the promise: no upperdir or workdir is live twice, by device and inode.
func (w *world) oneWriter() {
	holder := map[overlayfs.FileID]string{}
	for _, m := range w.mounts {
		if m.source != plan.Label || m.config.Upper == "" {
			continue
		}
		for _, dir := range []string{m.config.Upper, m.config.Work} {
			id := w.paths[dir].ID
			if other, held := holder[id]; held {
				w.t.Fatalf("%s is live twice, at %s and at %s", dir, other, m.at)
			}
			holder[id] = m.at
		}
	}
}

// desired makes a spec of overlays, with what is usual filled in.
func desired(overlays ...plan.Overlay) plan.Desired {
	d := plan.Desired{Scope: plan.Scope{Files: []string{"/s/a.hcl"}}}
	for _, o := range overlays {
		if o.Source == "" {
			o.Source = "/s/a.hcl"
		}
		if o.Address == "" {
			o.Address = "overlay." + path.Base(o.Mountpoint)
		}
		if o.Description == "" {
			o.Description = o.Address
		}
		if o.WantedBy == nil {
			o.WantedBy = []string{units.TargetName}
		}
		if o.OnBusy == "" {
			o.OnBusy = "fail"
		}
		o.Options = overlayfs.Pin(o.Options)
		o.UID, o.GID = -1, -1
		d.Overlays = append(d.Overlays, o)
	}
	d.Sort()
	return d
}

// client is an overlay of the kind most are: /m/NAME over lowers, with upper and work below /u/NAME.
func client(name string, lowers ...string) plan.Overlay {
	if len(lowers) == 0 {
		lowers = []string{"/base"}
	}
	return plan.Overlay{Mountpoint: "/m/" + name, Lower: lowers, Upper: "/u/" + name + "/upper", Work: "/u/" + name + "/work"}
}

// settled is a world in which a spec was applied.
func settled(t testing.TB, overlays ...plan.Overlay) *world {
	w := newWorld(t)
	w.dir("/base", "/tools")
	w.bring(desired(overlays...))
	return w
}

// bring applies a spec and checks that nothing is left to do.
func (w *world) bring(d plan.Desired) {
	w.t.Helper()
	o := w.observe()
	p := plan.Diff(d, o, nil)
	w.apply(p, o, nil, func(plan.Step) bool { return false })
	if left := plan.Diff(d, w.observe(), nil); left.Pending() {
		w.t.Fatalf("applied, but there is more to do: %s", show(left))
	}
}

func show(p plan.Plan) string {
	var b strings.Builder
	for _, c := range p.Changes {
		fmt.Fprintf(&b, "\n  %s %s via %q disruptive=%t: %s", c.Kind, c.Address, c.Via, c.Disruptive,
			strings.Join(c.Reasons, "; "))
	}
	if p.Target != plan.TargetKeep {
		fmt.Fprintf(&b, "\n  overlayd.target: %d", p.Target)
	}
	return b.String()
}
