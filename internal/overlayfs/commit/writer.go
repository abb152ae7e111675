package commit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs/layers"
)

// sink takes the entries of a layer: a directory before what is in it, but not always right before.
type sink interface{ add(*entry) error }

// writer turns what differs between a client's view and its base into the entries of a layer.
type writer struct {
	ctx    context.Context
	view   *layers.View
	prefix string // of the overlay's own xattrs
	// indexed says that a file may have more names than its link count tells.
	indexed bool
	sockets bool // can be written
	report  func(done, total int64)

	opaque      map[string]bool // directories that may hide all below them
	done, total int64

	sink    sink
	result  Result
	pending []*entry        // directories that are as in the base, from the root down: written if something in them is
	hidden  string          // the directory written as opaque that we are in, "" for none
	first   map[file]string // the path of a file that may have more names
	names   map[file]int    // how many names were written of a lower file that has more
}

type file struct{ dev, ino uint64 }

func (w *writer) close() { w.view.Close() }

// copied counts n bytes of contents, or of a hole passed over.
func (w *writer) copied(n int64, hole bool) {
	if !hole {
		w.result.Bytes += n
	}
	w.done += n
	if w.report != nil {
		w.report(w.done, max(w.done, w.total))
	}
}

// survey goes through the view before anything is written: for what cannot be written at all (unfit says why), for
// directories that can be opaque, and for how much there is to copy.
func (w *writer) survey(unfit func(*entry) string) error {
	w.opaque = make(map[string]bool)
	const most = 10
	var refusals []error
	_, err := w.view.Walk(w.ctx, func(p *layers.Pair) error {
		if p.Merged == nil {
			return nil
		}
		if p.Merged.Refused != nil {
			return fmt.Errorf("not even the client can open %s, so it cannot be in a layer; remove it: %w",
				shown(p.Path), p.Merged.Refused)
		}
		if !p.Merged.IsDir() {
			w.total += p.Merged.Stat.Size
		} else if p.Merged.Upper {
			if err := w.mark(p); err != nil {
				return err
			}
		}
		if unfit == nil || shinesThrough(p) {
			return nil
		}
		e, err := newEntry(p)
		if err != nil {
			return err
		}
		if reason := unfit(e); reason != "" && len(refusals) < most {
			refusals = append(refusals, fmt.Errorf("%s cannot be in an archive: %s", shown(p.Path), reason))
		}
		return nil
	})
	return errors.Join(append([]error{err}, refusals...)...)
}

// mark notes that an upper directory is opaque. It is no longer good for that if a directory below it was moved there
// from a lowerdir: what came with it may be left to shine through in its old place.
func (w *writer) mark(p *layers.Pair) error {
	opaque, moved, err := p.Merged.Marks()
	if err != nil {
		return err
	}
	// The root is merged all the same, to the kernel.
	if opaque && p.Base != nil && p.Base.IsDir() && p.Path != "/" {
		w.opaque[p.Path] = true
	}
	for at := p.Path; moved && at != "/"; {
		at = path.Dir(at)
		delete(w.opaque, at)
	}
	return nil
}

// shinesThrough tells whether both sides of a path are one and the same thing in a lowerdir.
func shinesThrough(p *layers.Pair) bool {
	return p.Base != nil && p.Merged != nil && !p.Merged.Upper && p.Base.Stat.Dev == p.Merged.Stat.Dev &&
		p.Base.Stat.Ino == p.Merged.Stat.Ino
}

// unchanged tells whether both sides of a path are the same in all respects, times and other names included, as after
// a copy-up.
func unchanged(p *layers.Pair) (bool, error) {
	if p.Base == nil || p.Merged == nil || p.Base.Stat.Mtim != p.Merged.Stat.Mtim {
		return false, nil
	}
	if !p.Merged.IsDir() && (p.Base.Stat.Nlink != 1 || p.Merged.Stat.Nlink != 1) {
		return false, nil
	}
	kind, err := p.Kind()
	return kind == "", err
}

// write hands the layer's entries to a sink.
func (w *writer) write(to sink) error {
	w.sink, w.first, w.names = to, make(map[file]string), make(map[file]int)
	w.done = 0
	notes, err := w.view.Walk(w.ctx, w.pair)
	if err != nil {
		return err
	}
	if len(w.names) > 0 {
		var paths []string
		for id := range w.names {
			paths = append(paths, shown(w.first[id]))
		}
		slices.Sort(paths)
		w.warn("hard links to base files become copies: "+
			"the base keeps some names of these, and a layer cannot link to what is in another: %s", some(paths))
	}
	if notes.Moved {
		w.warn("the client wrote while it was read: the layer may hold some of that and lack some")
	}
	return nil
}

func (w *writer) warn(format string, args ...any) {
	w.result.Warnings = append(w.result.Warnings, fmt.Sprintf(format, args...))
}

// some shows the first few.
func some(all []string) string {
	const most = 5
	if len(all) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
	}
	return strings.Join(all, ", ")
}

func (w *writer) pair(p *layers.Pair) error {
	// Sorted as they are, what comes at or behind dir+"0" is in dir no more: 0 is next to the slash.
	for n := len(w.pending); n > 0 && p.Path >= w.pending[n-1].path+"0"; n-- {
		w.pending = w.pending[:n-1]
	}
	if w.hidden != "" && p.Path >= w.hidden+"0" {
		w.hidden = ""
	}
	hidden := w.hidden != "" && strings.HasPrefix(p.Path, w.hidden+"/")
	switch {
	case p.Merged == nil && hidden:
		return nil
	case p.Merged == nil:
		return w.put(&entry{path: p.Path, whiteout: true})
	case p.Merged.Refused != nil:
		return fmt.Errorf("not even the client can open %s any more: %w", shown(p.Path), p.Merged.Refused)
	}
	same := shinesThrough(p)
	var err error
	if !same && !hidden && p.Path != "/" && !w.opaque[p.Path] {
		if same, err = unchanged(p); err != nil {
			return err
		}
	}
	if same && !hidden && !p.Merged.IsDir() {
		return nil
	}
	if !w.sockets && p.Merged.Stat.Mode&unix.S_IFMT == unix.S_IFSOCK {
		w.warn("%s is a socket and left out: a tar has none", shown(p.Path))
		if p.Base == nil || hidden {
			return nil
		}
		return w.put(&entry{path: p.Path, whiteout: true})
	}
	e, err := newEntry(p)
	if err != nil {
		return err
	}
	if same && !hidden {
		w.pending = append(w.pending, e)
		return nil
	}
	if w.opaque[p.Path] && e.isDir() && p.Base != nil && p.Base.IsDir() {
		e.opaque = true
		if !hidden {
			w.hidden = p.Path
		}
	}
	return w.put(e)
}

// put writes an entry, after the directories above it that are not there yet.
func (w *writer) put(e *entry) error {
	var rest []*entry // what begins as e does, and is not above it
	for _, above := range w.pending {
		if !strings.HasPrefix(e.path, above.path+"/") {
			rest = append(rest, above)
		} else if err := w.emit(above); err != nil {
			return err
		}
	}
	w.pending = rest
	return w.emit(e)
}

func (w *writer) emit(e *entry) error {
	if !e.whiteout && !e.isDir() {
		w.name(e)
	}
	if err := w.sink.add(e); err != nil {
		return err
	}
	if e.torn {
		w.warn("%s changed while it was copied", shown(e.path))
	}
	switch {
	case e.whiteout:
		w.result.Deletions++
	case !e.isDir():
		w.result.Files++
	case e.path != "/":
		w.result.Directories++
	}
	return nil
}

// name finds out whether the file was written already, under another name.
func (w *writer) name(e *entry) {
	id := file{e.stat.Dev, e.stat.Ino}
	if e.link = w.first[id]; e.link == "" && (e.stat.Nlink > 1 || w.indexed) {
		w.first[id] = e.path
	}
	if e.lower && e.stat.Nlink > 1 {
		w.names[id]++
		if w.names[id] == int(e.stat.Nlink) {
			delete(w.names, id)
		}
	}
}

// newEntry makes an entry of what the client sees.
func newEntry(p *layers.Pair) (*entry, error) {
	e := &entry{path: p.Path, stat: p.Merged.Stat, lower: !p.Merged.Upper}
	xattrs, err := p.Merged.Xattrs()
	if err != nil {
		return nil, err
	}
	e.xattrs = make(map[string]string, len(xattrs))
	for name, value := range xattrs {
		e.xattrs[name] = string(bytes.Clone(value))
	}
	switch e.stat.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		e.target, err = p.Merged.Target()
	case unix.S_IFREG:
		e.open = p.Merged.Open
	}
	return e, err
}
