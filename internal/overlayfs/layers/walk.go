package layers

import (
	"context"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Notes say what to know about a result.
type Notes struct {
	// Walked says that the whole base was read, which with index=on may be needed: a file written through one of its
	// names shows at its other names, too, of which the upperdir says nothing.
	Walked bool
	// Moved says that somebody changed the layers meanwhile. What was there all the time is right, what came or went
	// may be missing.
	Moved bool
}

// maxOpen is how many directories are kept open at most, but for those of two levels at hand.
const maxOpen = 256

// walker goes through a view and its base side by side.
type walker struct {
	v      *View
	each   func(*Pair) error
	full   bool // also where the upperdir has nothing
	notes  Notes
	path   []byte
	way    []place // from the root to where we are
	parked int     // how many of them are closed for now
	left   []byte  // buffers for contents
	right  []byte
}

// place is one directory of the view: upper, which may be nil, on lower. base is the same place without what the client
// did, nil if there is no directory. They may have directories in common.
type place struct {
	upper       *dir
	lower, base []*dir
}

func (p place) dirs(yield func(*dir) bool) {
	if p.upper != nil && !yield(p.upper) {
		return
	}
	for _, d := range p.lower {
		if !yield(d) {
			return
		}
	}
	for _, d := range p.base {
		if !yield(d) {
			return
		}
	}
}

// Walk calls each with every path at which the view may differ from its base, those included that turn out to be equal,
// in bytewise order: "/" first, /a, /a-b, /a/b. Directories come before what is in them; below a directory that is
// nothing or something else on the other side, all paths come if it is in the view, and none if it is in the base.
//
// An error of each ends the walk and is returned as it is.
func (v *View) Walk(ctx context.Context, each func(*Pair) error) (Notes, error) {
	w := &walker{v: v, each: each, full: v.index != nil && v.index.hidden}
	w.notes.Walked = w.full
	base := v.roots()
	pair := Pair{
		Path: "/", Base: newEntry(rootOf(base[0])), Merged: newEntry(rootOf(v.upper.root)), ctx: ctx, walker: w,
	}
	if err := each(&pair); err != nil {
		return w.notes, err
	}
	err := w.level(ctx, place{v.upper.root, base, base})
	return w.notes, err
}

func rootOf(d *dir) node { return node{meta: &object{dir: d, name: ".", st: d.st}} }

// below is a directory that is still to be gone into.
type below struct {
	name string
	place
}

// level goes through one directory of the view.
func (w *walker) level(ctx context.Context, p place) error {
	w.way = append(w.way, p)
	defer w.leave()
	began, err := modified(p.upper)
	if err != nil {
		return w.tolerate(err)
	}
	plain := slices.EqualFunc(p.lower, p.base, sameDir)
	names, err := w.names(p, plain)
	if err != nil {
		return w.tolerate(err)
	}
	var later []below
	depth := len(w.path)
	for _, name := range names {
		// "a/…" sorts behind "a-b", so what is in a directory waits for its turn. Those that wait begin with one
		// another, the shortest is the last to go.
		for n := len(later) - 1; n >= 0 && slashBefore(later[n].name, name); n-- {
			if err := w.descend(ctx, later[n]); err != nil {
				return err
			}
			later = later[:n]
		}
		w.path = append(append(w.path[:depth], '/'), name...)
		next, err := w.visit(ctx, p, name, plain)
		if err != nil {
			return err
		}
		w.path = w.path[:depth]
		if next != nil {
			later = append(later, *next)
		}
	}
	for _, next := range slices.Backward(later) {
		if err := w.descend(ctx, next); err != nil {
			return err
		}
	}
	ended, err := modified(p.upper)
	if err != nil {
		return w.tolerate(err)
	}
	w.notes.Moved = w.notes.Moved || began != ended
	return nil
}

// descend goes into a directory. If many are open, those farthest above are closed for now.
func (w *walker) descend(ctx context.Context, to below) error {
	for w.v.open > maxOpen && w.parked < len(w.way)-1 {
		for d := range w.way[w.parked].dirs {
			d.park()
		}
		w.parked++
	}
	depth := len(w.path)
	w.path = append(append(w.path, '/'), to.name...)
	err := w.level(ctx, to.place)
	w.path = w.path[:depth]
	return err
}

// leave closes the directories of a place, after those above are open again: from below it is one step to them.
func (w *walker) leave() {
	n := len(w.way) - 1
	for d := range w.way[n].dirs {
		d.unparkParent()
		d.release()
	}
	w.way = w.way[:n]
	w.parked = min(w.parked, max(n-1, 0))
}

// slashBefore tells whether dir+"/" sorts before name, which is behind dir itself.
func slashBefore(dir, name string) bool {
	rest, ok := strings.CutPrefix(name, dir)
	return !ok || rest > "/"
}

// names lists what to look at, sorted: what is in the upper directory, and where the rest is not that of the base, what
// is in any of them.
func (w *walker) names(p place, plain bool) (names []string, err error) {
	for d := range p.dirs {
		if d != p.upper && plain && !w.full {
			break
		}
		if names, err = d.list(names); err != nil {
			return nil, err
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// visit looks at one name, and returns the directory to go into later, nil for none.
func (w *walker) visit(ctx context.Context, p place, name string, plain bool) (*below, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	was, err := w.v.lookup(nil, p.base, name, nil)
	if err != nil {
		return nil, w.tolerate(err)
	}
	var known *node
	if plain {
		known = &was
	}
	now, err := w.v.lookup(p.upper, p.lower, name, known)
	if err == nil && w.full {
		now, err = w.v.throughIndex(now)
	}
	if err != nil {
		return nil, w.tolerate(err)
	}
	pair := Pair{Path: string(w.path), Base: newEntry(was), Merged: newEntry(now), ctx: ctx, walker: w}
	if pair.Base != nil || pair.Merged != nil {
		if err := w.each(&pair); err != nil {
			return nil, err
		}
	}
	if !now.isDir() || !w.full && slices.EqualFunc(now.parts, was.parts, sameDir) {
		return nil, nil
	}
	next := below{name, place{nil, now.parts, was.parts}}
	if now.parts[0].layer.rank == 0 {
		next.upper, next.lower = now.parts[0], now.parts[1:]
	}
	return &next, nil
}

func sameDir(a, b *dir) bool {
	return a == b || a.layer == b.layer && a.st.Dev == b.st.Dev && a.st.Ino == b.st.Ino
}

// tolerate passes over what somebody took away meanwhile.
func (w *walker) tolerate(err error) error {
	if vanished(err) {
		w.notes.Moved = true
		return nil
	}
	return err
}

// modified is when something was last made, renamed or removed in a directory, which may be nil.
func modified(d *dir) (unix.Timespec, error) {
	var st unix.Stat_t
	if d == nil {
		return st.Mtim, nil
	}
	fd, err := d.descriptor()
	if err == nil {
		err = unix.Fstat(fd, &st)
	}
	return st.Mtim, err
}

// throughIndex puts the file in the index in the place of a lower one that has it.
func (v *View) throughIndex(n node) (node, error) {
	if !n.there() || n.isDir() || n.meta.dir.layer.rank == 0 {
		return n, nil
	}
	o, err := v.index.alias(n.meta)
	if o == nil || err != nil {
		return n, err
	}
	data := n.data
	n = leaf(o)
	if n.data == nil {
		return n, nil
	}
	meta, err := o.mark("metacopy")
	if err != nil || meta == nil {
		return n, err
	}
	n.data = data
	if !v.settings.metacopy {
		search := search{v: v, metacopy: true}
		search.mayFollow([]*object{o})
		n.refused = search.refused
	}
	return n, nil
}
