package usage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// Usage is what a tree, or several, store.
type Usage struct {
	Bytes  int64 // on disk, directories included
	Inodes int64
}

func (u *Usage) add(v Usage) {
	u.Bytes += v.Bytes
	u.Inodes += v.Inodes
}

// tree is what was counted of a tree, or the difference of two. Inodes with several names are kept apart: other names
// of theirs may lie in other trees, or may be all that is hidden of them.
type tree struct {
	Usage
	linked map[overlayfs.FileID]link
	sum    int64 // bytes of all of it, where that was asked for
}

type link struct {
	bytes int64
	names int64 // that were counted
}

func (t *tree) count(n node) { t.times(n, 1) }

// times counts a node n times; -1 takes it away.
func (t *tree) times(n node, times int64) {
	if n.dir || n.links < 2 {
		t.add(Usage{times * n.bytes, times})
		return
	}
	t.link(n.id, link{n.bytes, times})
}

func (t *tree) link(id overlayfs.FileID, l link) {
	if t.linked == nil {
		t.linked = map[overlayfs.FileID]link{}
	}
	t.linked[id] = link{max(l.bytes, t.linked[id].bytes), t.linked[id].names + l.names}
}

// plus adds another tree that many times.
func (t *tree) plus(o *tree, times int64) {
	t.add(Usage{times * o.Bytes, times * o.Inodes})
	for id, l := range o.linked {
		t.link(id, link{l.bytes, times * l.names})
	}
}

// claim gives what the tree stores that no tree before it did. counted are the inodes with several names that were.
func (t *tree) claim(counted map[overlayfs.FileID]bool) Usage {
	u := t.Usage
	for id, l := range t.linked {
		if l.names > 0 && !counted[id] {
			counted[id] = true
			u.add(Usage{l.bytes, 1})
		}
	}
	return u
}

// counter counts trees.
type counter struct {
	ctx  context.Context
	skip map[overlayfs.FileID]bool // directories that are left out, with all below them
	seen func(entries int)         // may be nil
}

// dir counts the directory path and all below it; under is as for openTop. skipped tells whether something of it was
// left out.
func (c counter) dir(path string, under bool) (t tree, skipped bool, err error) {
	top, err := openTop(path, under)
	if err != nil {
		return t, false, fmt.Errorf("cannot read %s: %w", path, permission(err))
	}
	defer unix.Close(top)
	return c.open(top, path)
}

// open counts the directory that is open as top, and all below it.
func (c counter) open(top int, path string) (t tree, skipped bool, err error) {
	self, _, err := look(top, "")
	if err != nil {
		return t, false, fmt.Errorf("cannot look at %s: %w", path, err)
	}
	t.count(self)
	w := walker{ctx: c.ctx, path: path, skip: c.skip, visit: t.count, seen: c.seen}
	err = permission(w.walk(top))
	return t, w.skipped, err
}

// permission adds the remedy to an error about missing rights.
func permission(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w; that takes root", err)
	}
	return err
}
