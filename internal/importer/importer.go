package importer

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/zclconf/go-cty/cty"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// Host is what there is to import from.
type Host struct {
	Mounted   []Mounted
	Fstab     []Line
	Paths     map[string]overlayfs.PathInfo // of all layers and mountpoints, as they are named
	Defaults  overlayfs.Defaults
	Addresses []string // of overlays that are applied: their names are taken
}

// Mounted is one overlay of the mount table.
type Mounted struct {
	Live    overlayfs.Mount
	Stack   int    // mounts in reach at its mountpoint, one on top of the other
	Hidden  bool   // a mount over a directory above has put it out of reach
	Engine  string // container engine whose it is, as people write it; "" for none
	Address string // under which overlayd manages it; "" if it does not
	Unit    string // foreign unit that mounts it; "" for none
	Ours    bool   // overlayd mounted it
}

// Wanted says what else than hand-made mounts is to be written.
type Wanted struct {
	All   bool // those of container engines
	Fstab bool // those of fstab, mounted or not
}

// Draft is a spec that is being written.
type Draft struct {
	overlays []*overlay // by mountpoint
	left     []leftOut
	taken    map[string]bool
	none     bool // there was nothing to import from
}

// overlay is one block.
type overlay struct {
	mountpoint string
	lower      []string
	upper      string
	work       string
	options    []setting
	unit       unitSettings
	notes      []string

	fstab, mounted, ours bool
	detail               string // as leftOut has it
}

// leftOut is an overlay that is a comment only.
type leftOut struct {
	mountpoint string
	detail     string // which unit, line or address
	reason     string
	block      *overlay // as it would be declared, where a change of the host is all that is missing
}

// New makes a draft: triage by what is known of each overlay. The order of what it is given does not matter.
func New(h Host, want Wanted) *Draft {
	d := &Draft{taken: map[string]bool{}, none: len(h.Mounted) == 0 && (len(h.Fstab) == 0 || !want.Fstab)}
	for _, address := range h.Addresses {
		name, _, _ := strings.Cut(strings.TrimPrefix(address, "overlay."), "[")
		d.taken[name] = true
	}
	lines := map[string]Line{}
	for _, l := range slices.Backward(h.Fstab) { // of several lines the first counts
		l.Mountpoint = h.resolved(l.Mountpoint)
		lines[l.Mountpoint] = l
	}
	hiddenLast := slices.Clone(h.Mounted)
	slices.SortStableFunc(hiddenLast, func(a, b Mounted) int {
		switch {
		case a.Hidden == b.Hidden:
			return cmp.Compare(a.Live.Mountpoint, b.Live.Mountpoint)
		case b.Hidden:
			return -1
		}
		return 1
	})
	seen := map[string]bool{}
	shared := h.shared()
	for _, m := range hiddenLast {
		at := m.Live.Mountpoint
		if seen[at] {
			continue // one line for all that are stacked there
		}
		seen[at] = true
		line, inFstab := lines[at]
		o, out := h.mounted(m, line, inFstab, want)
		if other := shared[at]; other != "" && out.reason == "" {
			out.reason = "the overlay at " + show(other) + " has the same upperdir or workdir, and what both write is " +
				"undefined: unmount one of them"
		}
		if out.reason != "" {
			out.mountpoint = at
			d.left = append(d.left, out)
			continue
		}
		d.overlays = append(d.overlays, o)
	}
	if want.Fstab {
		for at, l := range lines {
			if !seen[at] {
				d.fromFstab(h, l)
			}
		}
	}
	slices.SortFunc(d.overlays, func(a, b *overlay) int { return cmp.Compare(a.mountpoint, b.mountpoint) })
	return d
}

// shared finds the mountpoints of overlays that write to the same directories: each with another one.
func (h Host) shared() map[string]string {
	users := map[string][]string{}
	for _, m := range h.Mounted {
		if c := m.Live.Overlay; c.Upper != "" {
			users[h.resolved(c.Upper)] = append(users[h.resolved(c.Upper)], m.Live.Mountpoint)
			users[h.resolved(c.Work)] = append(users[h.resolved(c.Work)], m.Live.Mountpoint)
		}
	}
	out := map[string]string{}
	for _, dir := range slices.Sorted(maps.Keys(users)) {
		at := users[dir]
		slices.Sort(at)
		at = slices.Compact(at)
		for i := range at {
			if other := at[(i+1)%len(at)]; other != at[i] {
				out[at[i]] = other
			}
		}
	}
	return out
}

// mounted makes a block of a mount, or says why there is none.
func (h Host) mounted(m Mounted, line Line, inFstab bool, want Wanted) (*overlay, leftOut) {
	no := func(reason string) (*overlay, leftOut) { return nil, leftOut{reason: reason} }
	switch {
	case m.Address != "":
		return nil, leftOut{reason: managed, detail: m.Address}
	case m.Hidden:
		return no("out of reach below another mount")
	case m.Engine != "" && !want.All:
		return no(m.Engine + " mounts and unmounts it by itself (--all writes it, too)")
	case inFstab && !want.Fstab:
		return nil, leftOut{reason: "a line of fstab mounts it (--fstab writes it, too)", detail: line.place()}
	case m.Unit != "" && !inFstab:
		return nil, leftOut{reason: "a unit that is not overlayd's mounts it", detail: m.Unit}
	case m.Live.Root != "/":
		return no("only a part of an overlay, " + show(m.Live.Root) + ", is mounted there")
	case m.Stack > 1:
		return no(fmt.Sprintf("%d mounts are stacked there; unmount those that do not belong there", m.Stack))
	}
	o := &overlay{mountpoint: m.Live.Mountpoint, mounted: true, ours: m.Ours, fstab: inFstab}
	if reason := o.build(h, m.Live); reason != "" {
		return no(reason)
	}
	if m.Engine != "" {
		o.note("%s mounts this, and unmounts it by itself: once it is applied, overlayd would mount it again.", m.Engine)
	}
	if m.Ours {
		o.note("Mounted by overlayd, and its unit file is gone: plan says update, and apply writes the unit again.")
	}
	if inFstab {
		o.detail = line.place()
		line.annotate(o, m.Live, h.Defaults, h.sameFS(*m.Live.Overlay))
	}
	return o, leftOut{}
}

// fromFstab adds a line of fstab that is not mounted.
func (d *Draft) fromFstab(h Host, l Line) {
	o := &overlay{mountpoint: l.Mountpoint, fstab: true, detail: l.place()}
	reason := l.Err
	if reason == "" {
		reason = o.build(h, l.mount())
	}
	if reason != "" {
		d.left = append(d.left, leftOut{mountpoint: l.Mountpoint, reason: reason, detail: o.detail})
		return
	}
	l.annotate(o, overlayfs.Mount{}, h.Defaults, false)
	d.overlays = append(d.overlays, o)
}

// build fills in layers and options, and says what the language has no words for.
func (o *overlay) build(h Host, m overlayfs.Mount) (reason string) {
	c := m.Overlay
	if len(c.Data) > 0 {
		return "it has data-only layers (" + show(strings.Join(c.Data, ", ")) + "), which the language does not have"
	}
	for _, l := range c.Lower {
		o.lower = append(o.lower, path.Clean(l))
	}
	if c.Upper != "" { // without one, a workdir does nothing
		o.upper, o.work = h.resolved(c.Upper), h.resolved(c.Work)
	}
	if !strings.HasPrefix(o.mountpoint, "/") {
		return "its mountpoint is no absolute path"
	}
	for _, p := range append([]string{o.mountpoint}, o.layers()...) {
		switch {
		case !strings.HasPrefix(p, "/"):
			return "its layer " + show(p) + " is relative to a directory that the mount table does not tell"
		case !utf8.ValidString(p):
			return show(p) + " is not valid UTF-8, and a unit file cannot hold it"
		case cty.StringVal(p).AsString() != p:
			return show(p) + " is not in the composed form of Unicode (NFC), in which HCL writes every text; rename it"
		}
	}
	o.options, reason = h.options(m, !o.mounted)
	return reason
}

// layers are all directories it is made of.
func (o *overlay) layers() []string {
	out := slices.Clone(o.lower)
	if o.upper != "" {
		out = append(out, o.upper, o.work)
	}
	return out
}

func (o *overlay) note(format string, args ...any) {
	o.notes = append(o.notes, fmt.Sprintf(format, args...))
}

// resolved is a path without symlinks: in a mountpoint, upperdir or workdir overlayd accepts none.
func (h Host) resolved(p string) string {
	clean := path.Clean(p)
	for _, known := range []string{p, clean} {
		if info, ok := h.Paths[known]; ok && info.Symlink != "" && info.Real != "" {
			return info.Real
		}
	}
	return clean
}

func (h Host) sameFS(c overlayfs.Config) bool {
	all := slices.Clone(c.Lower)
	if c.Upper != "" {
		all = append(all, c.Upper)
	}
	return !slices.ContainsFunc(all, func(p string) bool { return h.Paths[p].ID.Dev != h.Paths[all[0]].ID.Dev })
}

// LeaveOut makes a comment of the overlay at a mountpoint. Its block stays, in the comment, if it is right but for
// something on the host.
func (d *Draft) LeaveOut(mountpoint, reason string, keepBlock bool) {
	at := slices.IndexFunc(d.overlays, func(o *overlay) bool { return o.mountpoint == mountpoint })
	if at < 0 {
		return
	}
	out := leftOut{mountpoint: mountpoint, reason: reason, detail: d.overlays[at].detail}
	if keepBlock {
		out.block = d.overlays[at]
	}
	d.left = append(d.left, out)
	d.overlays = slices.Delete(d.overlays, at, at+1)
}

// managed counts what is left out as it is managed by overlayd.
func (d *Draft) managed() int {
	n := 0
	for _, l := range d.left {
		if l.reason == managed {
			n++
		}
	}
	return n
}

const managed = "managed by overlayd already"

// Count tells how many overlays are declared, and how many are comments only.
func (d *Draft) Count() (declared, left int) { return len(d.overlays), len(d.left) }
