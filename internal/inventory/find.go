package inventory

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/suggest"
)

const prefix = "overlay." // of every address

// IsAddress tells an address, as a user writes it, from a path.
func IsAddress(ref string) bool { return strings.HasPrefix(ref, prefix) }

// Find gives the overlay that ref means: an address, or an absolute path of which the nearest overlay mountpoint above
// counts, symlinks resolved. An overlay that is applied and not mounted is found by its mountpoint, too. The errors say
// what there is instead, and what to do.
func (i *Inventory) Find(ref string) (Overlay, error) {
	if IsAddress(ref) {
		return i.byAddress(ref)
	}
	return i.byPath(ref)
}

func (i *Inventory) byAddress(ref string) (Overlay, error) {
	hits := i.filter(func(o Overlay) bool { return o.Address == ref })
	if len(hits) == 0 {
		target, err := plan.ParseTarget(ref)
		if err != nil {
			return Overlay{}, fmt.Errorf("cannot read address %q: write overlay.NAME, or overlay.NAME[\"KEY\"]", ref)
		}
		hits = i.filter(func(o Overlay) bool { return o.Address != "" && target.Matches(o.Address) })
	}
	switch {
	case len(hits) == 0:
		return Overlay{}, i.unknown(ref)
	case len(hits) > 1 && hits[0].Address == hits[1].Address:
		return Overlay{}, fmt.Errorf("cannot tell which overlay %s is: units for %s have this address; name the mountpoint",
			ref, join(hits, func(o Overlay) string { return o.Mountpoint }))
	case len(hits) > 1:
		return Overlay{}, fmt.Errorf("cannot tell which overlay %s is: there are %s; name one of them", ref,
			join(hits, Overlay.String))
	}
	return hits[0], nil
}

// unknown says that no overlay has an address, and which one may have been meant.
func (i *Inventory) unknown(ref string) error {
	known := i.filter(func(o Overlay) bool { return o.Address != "" })
	hint := "overlayd apply applies what a spec declares"
	if near := i.nearest(ref); near != "" {
		hint = "did you mean " + near + "?"
	} else if len(known) > 0 {
		hint = "there are " + join(known, Overlay.String)
	}
	return fmt.Errorf("cannot find %s: no overlay of that address is applied; %s", ref, hint)
}

// nearest gives the address, or the block, that differs least from ref, "" if none is close.
func (i *Inventory) nearest(ref string) string {
	name := strings.TrimPrefix(ref, prefix)
	candidates := make([]string, 0, len(i.overlays))
	for _, o := range i.overlays {
		other := strings.TrimPrefix(o.Address, prefix)
		if !strings.Contains(name, "[") {
			other, _, _ = strings.Cut(other, "[")
		}
		candidates = append(candidates, other)
	}
	if best := suggest.Nearest(name, candidates...); best != "" {
		return prefix + best
	}
	return ""
}

func (i *Inventory) byPath(ref string) (Overlay, error) {
	if ref == "" {
		return Overlay{}, errors.New("cannot find an overlay of no name: give an address, overlay.NAME, or a path")
	}
	if !filepath.IsAbs(ref) {
		return Overlay{}, fmt.Errorf("cannot find an overlay at %q: it is neither an address nor an absolute path", ref)
	}
	at := i.resolve(filepath.Clean(ref))
	o, found := i.above(at)
	if found && !i.elsewhere(at, o) {
		return o, nil
	}
	// What lies on a mount of its own inside an overlay's tree, as everything does where / is an overlay, may well be a
	// layer that somebody took for the overlay.
	if err := i.mistaken(ref, at); err != nil {
		return Overlay{}, err
	}
	if found {
		return o, nil
	}
	return Overlay{}, fmt.Errorf("cannot find an overlay at %s: %s (overlayd list --all shows the overlays of this host)",
		ref, i.whatIs(at))
}

// above gives the overlay with the nearest mountpoint above path. What another mount hides counts where it is meant
// to stand, or where it is named exactly.
func (i *Inventory) above(path string) (Overlay, bool) {
	for at := path; ; at = filepath.Dir(at) {
		if m, ok := i.table.Covering(at); ok && m.Overlay != nil && m.Mountpoint == at {
			return i.overlays[i.byMount[m.ID]], true
		}
		hits := i.filter(func(o Overlay) bool { return o.Mountpoint == at && (o.Managed || at == path) })
		if k := slices.IndexFunc(hits, func(o Overlay) bool { return o.Managed }); k >= 0 {
			return hits[k], true
		}
		if len(hits) > 0 {
			return hits[len(hits)-1], true
		}
		if at == "/" {
			return Overlay{}, false
		}
	}
}

// elsewhere tells whether path lies on another mount inside the tree of o.
func (i *Inventory) elsewhere(path string, o Overlay) bool {
	m, ok := i.table.Covering(path)
	return ok && o.Mounted && m.Mountpoint != o.Mountpoint && under(m.Mountpoint, o.Mountpoint)
}

// mistaken says of a path that is a layer whose layer it is; nil if it is none.
func (i *Inventory) mistaken(ref, at string) error {
	for _, layer := range []struct {
		what string
		dirs func(c overlayfs.Config) []string
	}{
		{"the upperdir", func(c overlayfs.Config) []string { return []string{c.Upper} }},
		{"the workdir", func(c overlayfs.Config) []string { return []string{c.Work} }},
		{"a lowerdir", func(c overlayfs.Config) []string { return slices.Concat(c.Lower, c.Data) }},
	} {
		users := i.filter(func(o Overlay) bool {
			return slices.ContainsFunc(layer.dirs(o.Config), func(dir string) bool { return i.inside(at, dir) })
		})
		if len(users) > 0 {
			instead := "name one of them"
			if len(users) == 1 {
				instead = "say " + cmp.Or(users[0].Address, users[0].Mountpoint)
			}
			return fmt.Errorf("cannot find an overlay at %s: that is %s of %s; %s", ref, layer.what,
				join(users, Overlay.String), instead)
		}
	}
	return nil
}

// inside tells whether path lies in the directory that a layer's text means. What is mounted below a layer is not in
// it. Relative texts, as engines with many layers write them, mean nothing to us.
func (i *Inventory) inside(path, layer string) bool {
	if !filepath.IsAbs(layer) {
		return false
	}
	layer = filepath.Clean(layer)
	if !under(path, layer) {
		layer = i.resolve(layer)
	}
	on, _ := i.table.Covering(path)
	of, _ := i.table.Covering(layer)
	return under(path, layer) && on.ID == of.ID
}

// whatIs describes a path that is in no overlay.
func (i *Inventory) whatIs(at string) string {
	if i.root != "" {
		return "nothing that was applied in " + i.root + " has its mountpoint there or above"
	}
	_, err := os.Lstat(at)
	if errors.Is(err, fs.ErrNotExist) {
		return "there is no such file or directory, and no overlay is to be there"
	}
	if m, ok := i.table.Covering(at); ok {
		return fmt.Sprintf("that lies on the %s mounted at %s, and no overlay is above", m.FSType, m.Mountpoint)
	}
	return "no overlay is mounted there or above"
}

// resolve resolves symlinks as far as the path exists. A path in a tree is given as the tree sees it.
func (i *Inventory) resolve(p string) string {
	if i.root != "" {
		if rel, err := filepath.Rel(i.root, p); err == nil && filepath.IsLocal(rel) {
			return filepath.Join("/", rel)
		}
		return p
	}
	rest := ""
	for at := p; ; at = filepath.Dir(at) {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(real, rest)
		}
		if at == "/" {
			return p
		}
		rest = filepath.Join(filepath.Base(at), rest)
	}
}

// Match gives the overlays with addresses that the targets select. A target that selects none is an error.
func (i *Inventory) Match(targets []plan.Target) ([]Overlay, error) {
	var addresses []string
	for _, o := range i.overlays {
		if o.Address != "" {
			addresses = append(addresses, o.Address)
		}
	}
	if none := plan.Unmatched(targets, addresses); len(none) > 0 {
		return nil, i.unknown(none[0].String())
	}
	return i.filter(func(o Overlay) bool {
		return o.Address != "" && slices.ContainsFunc(targets, func(t plan.Target) bool { return t.Matches(o.Address) })
	}), nil
}

func (i *Inventory) filter(keep func(o Overlay) bool) []Overlay {
	var out []Overlay
	for _, o := range i.overlays {
		if keep(o) {
			out = append(out, o)
		}
	}
	return out
}

// under tells whether path is dir or lies below it.
func under(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

// join names a few overlays and counts the rest.
func join(overlays []Overlay, name func(o Overlay) string) string {
	const most = 5
	var names []string
	for _, o := range overlays[:min(len(overlays), most)] {
		names = append(names, name(o))
	}
	if more := len(overlays) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names, ", "), more)
	}
	return strings.Join(names, ", ")
}
