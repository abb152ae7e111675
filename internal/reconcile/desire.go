package reconcile

import (
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/overlayd/overlayd/internal/config"
	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/units"
)

// Desire translates a spec into what a plan starts from. Accounts are looked up in the passwd and group files below
// root; one that is missing there is a matter of this host, and shows as a conflict. The diagnostics are about what
// the spec alone makes impossible for a unit: a name or mount options that are too long.
func Desire(spec *config.Spec, root string) (plan.Desired, hcl.Diagnostics) {
	var long lengths
	d := plan.Desired{
		Overlays: make([]plan.Overlay, 0, len(spec.Overlays)),
		Scope:    ScopeOf(spec.Files, spec.Dirs, root),
	}
	names := accounts{root: root}
	sources := map[string]string{}
	var options pins
	for _, o := range spec.Overlays {
		source, known := sources[o.Source]
		if !known {
			source = recorded(o.Source, root)
			sources[o.Source] = source
		}
		want := desire(o, source, options.of(o.Options), &names)
		long.check(o, &want)
		d.Overlays = append(d.Overlays, want)
	}
	return d, long.diags()
}

// ScopeOf gives the scope of a run over these spec files and directories.
func ScopeOf(files, dirs []string, root string) plan.Scope {
	var s plan.Scope
	for _, f := range files {
		s.Files = append(s.Files, recorded(f, root))
	}
	for _, d := range dirs {
		s.Dirs = append(s.Dirs, recorded(d, root))
	}
	return s
}

// recorded is how units name a spec file: absolute, symlinks not resolved, and below --root as the prepared tree will
// see it, so that a host booted from it knows its own units.
func recorded(file, root string) string {
	abs := absPath(file)
	if root != "" {
		if inside, ok := cutRoot(abs, absPath(root)); ok {
			return inside
		}
	}
	return abs
}

// pins pins options. Neighbours in a spec mostly have the same, and then share what becomes of them.
type pins struct{ spec, pinned overlayfs.Options }

func (p *pins) of(spec overlayfs.Options) overlayfs.Options {
	if p.pinned == nil || !maps.Equal(p.spec, spec) {
		p.spec, p.pinned = spec, overlayfs.Pin(spec)
	}
	return p.pinned
}

func desire(o *config.Overlay, file string, options overlayfs.Options, names *accounts) plan.Overlay {
	out := plan.Overlay{
		Address: o.Address.String(), Name: o.Address.Name, Key: o.Address.Key,
		Source: file, Line: o.Range.Start.Line,
		Upper: o.Upperdir, Work: o.Workdir, DataDir: o.DataDir, Mountpoint: o.Mountpoint,
		AllowUnsafeParent: o.AllowUnsafeParent, Owner: o.Owner, Group: o.Group, UID: -1, GID: -1,
		Options: options, OffFlags: slices.Sorted(maps.Keys(o.OffFlags)),
		Description: o.Unit.Description, WantedBy: o.Unit.WantedBy, After: o.Unit.After, Requires: o.Unit.Requires,
		Network: o.Unit.Network, PreventDestroy: o.Lifecycle.PreventDestroy, OnBusy: o.Lifecycle.OnBusy,
	}
	out.Lower = make([]string, 0, len(o.Lowerdirs))
	for _, l := range o.Lowerdirs {
		out.Lower = append(out.Lower, l.Path)
	}
	if out.Description == "" {
		out.Description = out.Address
	}
	if o.Mode != nil {
		mode := int(*o.Mode)
		out.Mode = &mode
	}
	out.UID, out.GID, out.BadOwner = names.resolve(o.Owner, o.Group)
	return out
}

// lengths finds names and options that no unit can carry. It counts before symlinks are resolved; what they add is a
// conflict of this host. A block with for_each makes one diagnostic, however many of its instances are too long.
type lengths struct {
	found []*hcl.Diagnostic
	again map[hcl.Range]int // further instances with the diagnostic at a place
}

func (l *lengths) check(o *config.Overlay, want *plan.Overlay) {
	if n := len(units.Name(o.Mountpoint)); n > units.MaxName {
		l.at(o.MountpointRange, "Mountpoint too long for a unit name", fmt.Sprintf(
			"The unit of %s would have a name of %d bytes, and a file name has %d at most. Each byte outside "+
				"A-Za-z0-9:_. counts four times. Choose a shorter mountpoint.", o.Address, n, units.MaxName))
	}
	c := overlayfs.Config{Lower: want.Lower, Upper: want.Upper, Work: want.Work, Options: want.Options}
	if n := c.KernelDataLen(); n > overlayfs.MaxOptionsLen {
		l.at(o.Range, "Mount options too long", fmt.Sprintf(
			"The layers and options of %s make %d bytes, and one mount call carries %d. Use fewer lowerdirs, or give "+
				"them shorter paths.", o.Address, n, overlayfs.MaxOptionsLen))
	}
}

func (l *lengths) at(r hcl.Range, summary, detail string) {
	if l.again == nil {
		l.again = map[hcl.Range]int{}
	}
	if _, known := l.again[r]; known {
		l.again[r]++
		return
	}
	l.again[r] = 0
	l.found = append(l.found, &hcl.Diagnostic{
		Severity: hcl.DiagError, Summary: summary, Detail: detail, Subject: r.Ptr(),
	})
}

func (l *lengths) diags() hcl.Diagnostics {
	for _, d := range l.found {
		switch n := l.again[*d.Subject]; {
		case n == 1:
			d.Detail += "\n\nThe same goes for one more instance."
		case n > 1:
			d.Detail += fmt.Sprintf("\n\nThe same goes for %d more instances.", n)
		}
	}
	return l.found
}
