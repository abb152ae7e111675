package plan

import (
	"strings"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// sight is what was seen of the paths that a goal names.
type sight struct {
	lower                   []overlayfs.PathInfo // of Lower, as the spec names them
	upper, work, mountpoint overlayfs.PathInfo
	writable                bool // there are upper and work
}

// look gets what was seen of a goal's paths. A goal has many questions about them, and a spec has thousands of goals.
func (s *sight) look(g *goal, o *Observed) {
	*s = sight{lower: s.lower[:0], mountpoint: o.path(g.Mountpoint), writable: !g.ReadOnly()}
	for _, l := range g.Lower {
		s.lower = append(s.lower, o.path(l))
	}
	if s.writable {
		s.upper, s.work = o.path(g.Upper), o.path(g.Work)
		g.upper, g.work = o.identify(g.Upper, &s.upper), o.identify(g.Work, &s.work)
	}
}

// sameFS tells whether all layers lie on one filesystem; then the kernel never shows xino.
func (s *sight) sameFS() bool {
	for i := range s.lower {
		if s.lower[i].ID.Dev != s.lower[0].ID.Dev {
			return false
		}
	}
	return !s.writable || len(s.lower) == 0 || s.upper.ID.Dev == s.lower[0].ID.Dev
}

// overlaps finds layers that are one directory or lie within each other once symlinks are resolved. The spec alone was
// checked before; this is what links and bind mounts add.
func (g *goal) overlaps(s *sight, add func(string, ...any)) {
	if g.apart(s) {
		return
	}
	type layer struct {
		what, path string
		info       *overlayfs.PathInfo
	}
	layers := make([]layer, 0, len(g.config.Lower)+2)
	for i, l := range g.config.Lower {
		layers = append(layers, layer{"lowerdir", l, &s.lower[i]})
	}
	if !g.ReadOnly() {
		layers = append(layers, layer{"upperdir", g.Upper, &s.upper}, layer{"workdir", g.Work, &s.work})
	}
	byID := make(map[overlayfs.FileID]layer, len(layers))
	byPath := make(map[string]layer, len(layers))
	for _, l := range layers {
		if info := l.info; info.Exists {
			if other, dup := byID[info.ID]; dup {
				add("%s %s and %s %s are the same directory: name each directory once",
					other.what, other.path, l.what, l.path)
				continue
			}
			byID[info.ID] = l
		}
		byPath[l.path] = l
	}
	for _, l := range layers {
		ancestors(l.path, func(dir string) bool {
			other, ok := byPath[dir]
			if !ok || dir == l.path {
				return false
			}
			add("%s %s lies inside %s %s: layers must not contain each other", l.what, l.path, other.what, other.path)
			return true
		})
	}
}

// apart tells of a goal with few layers that none of them is, or lies in, another one. It is what overlaps finds of
// nearly all, for less.
func (g *goal) apart(s *sight) bool {
	const few = 8
	if len(g.config.Lower) > few {
		return false
	}
	var paths [few + 2]string
	var infos [few + 2]*overlayfs.PathInfo
	n := copy(paths[:], g.config.Lower)
	for i := range n {
		infos[i] = &s.lower[i]
	}
	if !g.ReadOnly() {
		paths[n], paths[n+1], infos[n], infos[n+1] = g.Upper, g.Work, &s.upper, &s.work
		n += 2
	}
	for i := range n {
		// May be in other words, in a unit that was edited.
		if strings.Contains(paths[i], "/.") || strings.Contains(paths[i], "//") {
			return false
		}
		for j := range i {
			same := infos[i].Exists && infos[j].Exists && infos[i].ID == infos[j].ID
			if same || within(paths[i], paths[j]) || within(paths[j], paths[i]) {
				return false
			}
		}
	}
	return true
}
