package usage

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/layers"
)

// stack is what layers show together. What it holds is what the layers below its topmost one hold, and what that one
// changes of it; so the cost of one more layer is that of what it says, not of what lies below, and thousands of
// clients on one base cost one walk of the base.
type stack struct {
	config   overlayfs.Config // the topmost layer is the upperdir
	under    string           // where an overlay of these layers is mounted, "" for nowhere
	defaults overlayfs.Defaults
	below    *stack // nil for one layer

	mu    sync.Mutex
	known map[string]*tree // by path
	err   error            // why not all of it could be counted, for thousands of clients not to try again
}

// mostKnown bounds what a stack remembers. Clients of one base tend to delete the same directories of it.
const mostKnown = 4096

// all counts all that the stack shows. An error is remembered.
func (s *stack) all(c counter) (*tree, error) {
	found, err := s.count(c, []string{"/"})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	return found["/"], err
}

// count counts what the stack shows at each path, which is absolute in it.
func (s *stack) count(c counter, paths []string) (map[string]*tree, error) {
	found := make(map[string]*tree, len(paths))
	var missing []string
	s.mu.Lock()
	for _, p := range paths {
		if t := s.known[p]; t != nil {
			found[p] = t
		} else {
			missing = append(missing, p)
		}
	}
	err := s.err
	s.mu.Unlock()
	if len(missing) == 0 || err != nil {
		return found, err
	}
	ask := s.merged
	if s.below == nil {
		ask = s.single
	}
	fresh, err := ask(c, missing)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := fresh["/"]; t != nil {
		t.sum = t.claim(map[overlayfs.FileID]bool{}).Bytes
	}
	for p, t := range fresh {
		if len(s.known) < mostKnown {
			s.known[p] = t
		}
	}
	maps.Copy(found, fresh)
	return found, nil
}

// single counts in the one layer itself. A whiteout in it hides nothing, and takes no blocks.
func (s *stack) single(c counter, paths []string) (map[string]*tree, error) {
	layer := s.config.Upper
	top, err := openTop(layer, layer == s.under)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", layer, permission(err))
	}
	defer unix.Close(top)
	out := make(map[string]*tree, len(paths))
	for _, p := range paths {
		t, err := c.at(top, layer, p)
		if err != nil {
			return nil, err
		}
		out[p] = &t
	}
	return out, nil
}

// at counts what is at a path below the directory top; nothing, if nothing is there.
func (c counter) at(top int, where, path string) (t tree, err error) {
	dir, err := openat(top, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
	names := strings.Split(strings.Trim(path, "/"), "/")
	for i, name := range names {
		if err != nil || name == "" {
			break
		}
		n, _, lookErr := look(dir, name)
		var next int
		next, err = openDir(dir, name)
		_ = unix.Close(dir)
		if lookErr == nil && !n.dir && i == len(names)-1 {
			if err == nil {
				_ = unix.Close(next)
			}
			t.count(n)
			return t, nil
		}
		dir = next
	}
	switch {
	case gone(err):
		return t, nil
	case err != nil:
		return t, fmt.Errorf("cannot read %s: %w", where+path, permission(err))
	}
	defer unix.Close(dir)
	t, _, err = c.open(dir, strings.TrimSuffix(where+path, "/"))
	return t, err
}

// merged counts what the layers below hold, and what the topmost one changes.
func (s *stack) merged(c counter, paths []string) (map[string]*tree, error) {
	changes, below, err := s.changes(c, paths)
	for p, t := range changes {
		if below[p] != nil {
			t.plus(below[p], 1)
		}
	}
	return changes, err
}

// total counts what the stack takes in all. Unlike all it does not copy what is known of the layers below.
func (s *stack) total(c counter) (int64, error) {
	if s.below == nil {
		t, err := s.all(c)
		if err != nil {
			return 0, err
		}
		return t.sum, nil
	}
	changes, below, err := s.changes(c, []string{"/"})
	if err != nil {
		return 0, err
	}
	base, diff := below["/"], changes["/"]
	bytes := base.sum + diff.Bytes
	for id, l := range diff.linked {
		was, now := base.linked[id].names, base.linked[id].names+l.names
		switch {
		case was <= 0 && now > 0:
			bytes += l.bytes
		case was > 0 && now <= 0:
			bytes -= base.linked[id].bytes
		}
	}
	return bytes, nil
}

// changes counts what the topmost layer makes more or less of what the layers below hold, at each path. below is what
// they hold there, without the paths that it hides with a directory above them.
func (s *stack) changes(c counter, paths []string) (changes, below map[string]*tree, err error) {
	v, err := layers.Open(s.config, s.under, s.defaults)
	if err != nil {
		return nil, nil, err
	}
	defer v.Close()
	changes = make(map[string]*tree, len(paths))
	for _, p := range paths {
		changes[p] = &tree{}
	}
	hidden := map[string][]*tree{} // directories of the layers below, and what they are missing from
	ask := slices.Clone(paths)
	metacopy := s.metacopy()
	seen := 0
	_, err = v.Walk(c.ctx, func(p *layers.Pair) error {
		if seen++; c.seen != nil && seen%1000 == 0 {
			c.seen(1000)
		}
		diff, hides, err := difference(p, metacopy)
		if err != nil {
			return err
		}
		if hides {
			ask = slices.DeleteFunc(ask, func(path string) bool { return strings.HasPrefix(path, p.Path+"/") })
		}
		for at := p.Path; ; at = path.Dir(at) {
			if t := changes[at]; t != nil {
				t.plus(&diff, 1)
				if hides {
					hidden[p.Path] = append(hidden[p.Path], t)
				}
			}
			if at == "/" {
				return nil
			}
		}
	})
	if err != nil {
		return nil, nil, err
	}
	ask = slices.AppendSeq(ask, maps.Keys(hidden))
	slices.Sort(ask)
	if below, err = s.below.count(c, slices.Compact(ask)); err != nil {
		return nil, nil, err
	}
	for p, from := range hidden {
		for _, t := range from {
			t.plus(below[p], -1)
		}
	}
	return changes, below, nil
}

// metacopy tells whether a file's contents may be kept in another layer than its attributes. The mount table says
// nothing of what is as by default.
func (s *stack) metacopy() bool {
	if value, given := s.config.Options["metacopy"]; given {
		return value == "on"
	}
	verity := s.config.Options["verity"] // implies it
	return s.defaults.Metacopy || verity == "on" || verity == "require"
}

// difference counts what a path has more than without the topmost layer. hides tells that a directory goes, with all
// that is in it; nothing of that is in the difference.
func difference(p *layers.Pair, metacopy bool) (diff tree, hides bool, err error) {
	was, now := p.Base, p.Merged
	if was != nil && was.Refused != nil {
		was = nil
	}
	if now != nil && now.Refused != nil {
		now = nil
	}
	wasDir, isDir := was != nil && was.IsDir(), now != nil && now.IsDir()
	hides = wasDir && !isDir
	if was != nil && !hides {
		n, err := nodeOf(was, metacopy)
		if err != nil {
			return diff, hides, err
		}
		diff.times(n, -1)
	}
	if now != nil {
		n, err := nodeOf(now, metacopy)
		if err != nil {
			return diff, hides, err
		}
		diff.times(n, 1)
	}
	if wasDir && isDir {
		diff.Bytes = max(diff.Bytes, 0) // the directory of a copy holds the names of both
	}
	return diff, hides, nil
}

// nodeOf gives what counts of an entry. With metacopy a file's contents may be kept in another layer.
func nodeOf(e *layers.Entry, metacopy bool) (node, error) {
	st := &e.Stat
	n := node{
		id:    overlayfs.FileID{Dev: st.Dev, Ino: st.Ino},
		bytes: st.Blocks * 512,
		links: uint32(st.Nlink),
		dir:   e.IsDir(),
	}
	if !metacopy || st.Mode&unix.S_IFMT != unix.S_IFREG || n.bytes >= st.Size {
		return n, nil
	}
	f, err := e.Open()
	if gone(err) {
		return n, nil
	}
	if err != nil {
		return n, permission(err)
	}
	defer f.Close()
	var data unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &data); err != nil {
		return n, fmt.Errorf("cannot look at the contents of a file: %w", err)
	}
	n.bytes = max(n.bytes, data.Blocks*512)
	return n, nil
}
