package plan

import (
	"maps"
	"slices"
	"strings"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/units"
)

// unitReasons says in words how the unit file differs from what it should be.
func (b *builder) unitReasons(c *Change, g *goal, u UnitFile, unit *units.Mount) {
	before := len(c.Reasons)
	if u.Err != "" {
		c.because("unit file cannot be read and is written anew: %s", u.Err)
		return
	}
	if !u.HashOK {
		c.because("unit file was edited by hand")
	}
	if u.Address != g.Address {
		c.because("address changed: %s → %s", u.Address, g.Address)
	}
	if u.Source != g.Source {
		how := "declared in %s now, not in %s"
		if !b.inScope(u) && b.o.Gone[u.Source] {
			how = "taken over by %s, as %s no longer exists"
		}
		c.because(how, g.Source, u.Source)
	}
	b.linkReasons(c, g)
	if c.Before != nil && u.HashOK {
		for _, r := range b.compareApplied(g).Reasons {
			if !slices.Contains(c.Reasons, r) {
				c.Reasons = append(c.Reasons, r)
			}
		}
	}
	if u.Description != g.Description {
		c.because("description changed")
	}
	lists := []struct {
		name     string
		was, now []string
	}{
		{"wanted_by", u.WantedBy, unit.WantedBy},
		{"after", u.After, unit.After},
		{"requires", u.Requires, unit.Requires},
	}
	for _, l := range lists {
		if !slices.Equal(l.was, l.now) {
			c.because("%s changed: %s → %s", l.name, list(l.was), list(l.now))
		}
	}
	if u.OnBusy != g.OnBusy {
		c.because("on_busy changed: %s → %s", orNone(u.OnBusy), g.OnBusy)
	}
	if u.PreventDestroy != g.PreventDestroy {
		c.because("prevent_destroy changed: %t → %t", u.PreventDestroy, g.PreventDestroy)
	}
	if len(c.Reasons) > before {
		return
	}
	if names := otherWords(u.Config.Options, g.config.Options); len(names) > 0 {
		c.because("%s changed in the unit, which means the same to the kernel", list(names))
	} else {
		c.because("unit file is written as this version of overlayd does")
	}
}

// otherWords lists the options that are not written alike.
func otherWords(was, now overlayfs.Options) []string {
	var names []string
	for _, options := range []overlayfs.Options{was, now} {
		for name := range options {
			a, inA := was[name]
			b, inB := now[name]
			if a != b || inA != inB {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// linkReasons names the layers whose symlinks lead elsewhere than when the unit was written.
func (b *builder) linkReasons(c *Change, g *goal) {
	was := b.o.Units[g.name].Config.Lower
	for _, l := range g.Lower {
		if target, ok := g.links[l]; ok && !slices.Contains(was, target) {
			c.because("symlink %s now leads to %s", l, target)
		}
	}
}

// linkedFrom lists the targets that have a .wants link to the unit, sorted.
func linkedFrom(o *Observed, unit string) []string {
	var out []string
	for target, linked := range o.Wants {
		if linked[unit] {
			out = append(out, target)
		}
	}
	slices.Sort(out)
	return out
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func list(items []string) string {
	if len(items) == 0 {
		return "none"
	}
	return strings.Join(items, ", ")
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// ours tells whether a live mount shows our label.
func ours(m overlayfs.Mount) bool { return m.Overlay != nil && m.Source == Label }
