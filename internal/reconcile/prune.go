package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// DataDir is a directory with a client's data that overlayd made and that nothing uses any more.
type DataDir struct {
	Path string // with --root, as the tree will see it
	Real string // where it lies on this host
	// Address and Mountpoint are those of the client that it was made for.
	Address    string
	Mountpoint string
	// Kept tells that it is, or holds, what "reset --keep" set aside.
	Kept bool
	// SetAside is when a reset took it out of the way, zero if it is a whole data directory.
	SetAside time.Time
	// Leftover tells that a prune or reset that did not end was about to delete it.
	Leftover bool

	id overlayfs.FileID
}

// Unused is what a prune would delete.
type Unused struct {
	Dirs []DataDir // sorted by path
	// InUse is what no unit of ours and no overlay of the spec has a use for, and somebody has: sorted by path.
	InUse []InUse
	// Ignored says of directories that claim to be overlayd's why they are not believed, and left alone.
	Ignored []error
}

// InUse is a directory that would be unused but for something that is mounted.
type InUse struct {
	DataDir
	By string // what uses it, in words
}

// Unused finds the data directories that overlayd made, in the state directories and beside the data of what is
// applied, and that are of no use: no unit of ours names them, no overlay of d wants them, and no mount in any mount
// namespace stands on them. It changes nothing.
//
// It fails where it cannot know: with a unit of ours that cannot be read, or without the rights to look.
func (h *Host) Unused(d plan.Desired, stateDirs ...string) (Unused, error) {
	s, err := h.search(d, stateDirs)
	if err != nil {
		return Unused{}, fmt.Errorf("cannot tell which data directories are unused: %w", err)
	}
	return s.unused(), nil
}

func (h *Host) search(d plan.Desired, stateDirs []string) (*search, error) {
	s, err := h.newSearch()
	if err != nil {
		return nil, err
	}
	if err := s.readUnits(); err != nil {
		return nil, err
	}
	if err := s.find(stateDirs); err != nil || len(s.found) == 0 {
		return s, err
	}
	s.claim(d)
	for _, c := range s.found {
		c.claimed = c.usedBy != ""
	}
	return s, s.mounted(s.found)
}

// unused gives what was found and nothing uses, or only a mount. What was set aside goes with the directory that it
// lies in.
func (s *search) unused() Unused {
	out := Unused{Ignored: s.ignored}
	for _, c := range s.found {
		switch {
		case c.usedBy != "" && !c.claimed && (c.within == nil || c.within.claimed):
			out.InUse = append(out.InUse, InUse{c.DataDir, c.usedBy})
			continue
		case c.usedBy != "" || c.within != nil && c.within.usedBy == "":
			continue
		}
		dir := c.DataDir
		dir.Kept = dir.Kept || slices.ContainsFunc(s.found, func(o *candidate) bool { return o.within == c && o.Kept })
		out.Dirs = append(out.Dirs, dir)
	}
	slices.SortFunc(out.Dirs, func(a, b DataDir) int { return cmp.Compare(a.Path, b.Path) })
	slices.SortFunc(out.InUse, func(a, b InUse) int { return cmp.Compare(a.Path, b.Path) })
	return out
}

// Pruned is what became of one directory; without an error it is deleted.
type Pruned struct {
	DataDir
	Err error
}

// Prune deletes directories that Unused found, from the same d and state directories. Under the lock it looks at each
// again, and one that is used meanwhile, or is no longer the same, stays. The error is about the prune as a whole; the
// results are true in any case, in the order of dirs.
//
// A cancelled ctx stops the deletion under way. Stopped or killed at any point, what is half deleted lies under a name
// that no client uses, and Unused finds it again.
func (h *Host) Prune(ctx context.Context, d plan.Desired, stateDirs []string, dirs []DataDir,
	lockTimeout time.Duration,
) ([]Pruned, error) {
	if !h.Offline() {
		l, err := acquire(ctx, lockTimeout)
		if err != nil {
			return nil, err
		}
		defer l.Release()
	}
	s, err := h.search(d, stateDirs)
	if err != nil {
		return nil, fmt.Errorf("cannot tell which data directories are still unused, nothing was deleted: %w", err)
	}
	now := s.unused()
	out := make([]Pruned, 0, len(dirs))
	for _, dir := range dirs {
		err := ctx.Err()
		if err != nil {
			err = errors.New("interrupted before its turn: prune again")
		} else {
			err = s.prune(ctx, now, dir)
		}
		log := h.Log.WithField("path", dir.Path)
		if err != nil {
			log.WithError(err).Debug("data directory stays")
		} else {
			log.Info("data directory deleted")
		}
		out = append(out, Pruned{dir, err})
	}
	return out, nil
}

// prune deletes one directory, if it still may go.
func (s *search) prune(ctx context.Context, now Unused, dir DataDir) error {
	same := func(c *candidate) bool { return c.Path == dir.Path && c.id == dir.id }
	i := slices.IndexFunc(s.found, same)
	if i < 0 {
		return fmt.Errorf("cannot delete %s: it is no longer the directory that was found", dir.Path)
	}
	// Units and spec cannot change under the lock. Mounts can, and deleting takes its time.
	c := s.found[i]
	if c.usedBy == "" {
		if err := s.mounted([]*candidate{c}); err != nil {
			return fmt.Errorf("cannot tell whether %s is still unused: %w", dir.Path, err)
		}
	}
	if c.usedBy != "" {
		return fmt.Errorf("cannot delete %s: it is used meanwhile by %s", dir.Path, c.usedBy)
	}
	j := slices.IndexFunc(now.Dirs, func(n DataDir) bool { return n.Path == dir.Path })
	if j >= 0 && now.Dirs[j].Kept && !dir.Kept {
		return fmt.Errorf("cannot delete %s: something was set aside in it meanwhile", dir.Path)
	}
	if c.aside {
		return deleteSetAside(ctx, c)
	}
	return deleteDataDir(ctx, c, filepath.Base(dir.Real))
}
