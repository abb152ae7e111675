package plan

import (
	"cmp"
	"slices"

	"github.com/overlayd/overlayd/internal/units"
)

// deletes adds a change for each unit of ours in scope that nothing desires.
func (b *builder) deletes() {
	if b.scope.empty() {
		return
	}
	for _, name := range b.spare {
		if u := b.o.Units[name]; !b.used[name] && b.inScope(u) {
			b.changes = append(b.changes, b.deletion(name, u))
		}
	}
}

// orphans adds a delete for each live overlay of ours that is to go and has no unit file.
func (b *builder) orphans(mountpoints []string) {
	for _, at := range mountpoints {
		name := units.Name(at)
		top, ok := b.o.Mounts.Top(at)
		if b.o.Units[name].Ours || b.byUnit[name] != nil || !ok || !ours(top) {
			continue
		}
		c := &Change{
			Address: at, Unit: name, Mountpoint: at, Kind: Delete, Before: view(*top.Overlay, at),
		}
		stack := b.o.Mounts.At(at)
		c.because("mounted by overlayd, but its unit file is gone: apply the spec that declares it, or overlayd destroy %s", at)
		for _, m := range slices.Backward(stack) {
			if !ours(m) {
				c.conflict("%s (%s) is mounted there too: unmount it first", m.Source, m.FSType)
				break
			}
			b.takeDown(c, m, name)
		}
		if c.Kind != Conflict {
			c.Keeps = append(c.Keeps, stack[0].Overlay.Upper)
			for _, target := range linkedFrom(b.o, name) {
				c.Do.Unlink = append(c.Do.Unlink, [2]string{target, name})
			}
		}
		b.changes = append(b.changes, c)
	}
}

func (b *builder) deletion(name string, u UnitFile) *Change {
	c := &Change{
		Address: cmp.Or(u.Address, name), Unit: name, Mountpoint: u.Where, Source: u.Source, Kind: Delete,
		Before: view(b.o.Units[name].Config, u.Where),
	}
	if b.scope.Contains(u.Source) {
		c.because("no longer declared in %s", u.Source)
	}
	stack := b.o.Mounts.At(u.Where)
	for _, m := range stack {
		if m.Overlay == nil || len(stack) > 1 && (!ours(m) || m.Overlay.Upper != u.Config.Upper) {
			c.conflict("%s (%s) is mounted at %s: unmount it, then apply", m.Source, m.FSType, u.Where)
			return c
		}
	}
	if u.Version > units.Version {
		c.conflict("a later version of overlayd wrote its unit: use that version")
		return c
	}
	if u.PreventDestroy {
		c.conflict("prevent_destroy is set: put prevent_destroy = false into its block and apply, then it can go")
		return c
	}
	for _, m := range slices.Backward(stack) {
		b.takeDown(c, m, name)
	}
	c.Do.Detach = u.OnBusy == "detach"
	c.Do.Remove = []string{name}
	for _, target := range linkedFrom(b.o, name) {
		c.Do.Unlink = append(c.Do.Unlink, [2]string{target, name})
	}
	if u.MadeMountpoint {
		c.Do.Clean = append(c.Do.Clean, u.Where)
	}
	if upper := u.Config.Upper; upper != "" {
		c.Keeps = append(c.Keeps, upper)
		if u.MadeData {
			c.Made = []string{upper, u.Config.Work}
		}
	}
	return c
}
