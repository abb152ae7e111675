package watch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symlinks the kernel follows in one path (MAXSYMLINKS, path_resolution(7)).
const maxLinks = 40

// view is what paths led to when they were last walked: the directories that matter, and which of their entries do.
type view struct {
	dirs map[string]*dir // by their paths, which have no symlinks
	by   map[string][]string
}

// dir is a directory that matters.
type dir struct {
	self  stamp
	seen  map[string]stamp         // the entries looked at, with those that are not there
	match []func(name string) bool // of each Path that leads here
}

// matters tells whether what happens to an entry is of interest.
func (d *dir) matters(name string) bool {
	_, ok := d.seen[name]
	return ok || d.wanted(name)
}

func (d *dir) wanted(name string) bool {
	for _, match := range d.match {
		if match(name) {
			return true
		}
	}
	return false
}

// entry tells how an entry looked, and false if nobody wanted to know.
func (d *dir) entry(name string) (stamp, bool) {
	if s, ok := d.seen[name]; ok {
		return s, true
	}
	return stamp{failed: unix.ENOENT}, d.wanted(name)
}

// differs tells whether anything that both views were about has changed. What only one of them was about came or went
// with something that both were about, or with other paths to watch.
func (v *view) differs(w *view) bool {
	for path, before := range v.dirs {
		after := w.dirs[path]
		if after == nil {
			continue
		}
		if before.self != after.self {
			return true
		}
		for name, s := range before.seen {
			if now, ok := after.entry(name); ok && now != s {
				return true
			}
		}
		for name, s := range after.seen {
			if once, ok := before.entry(name); ok && once != s {
				return true
			}
		}
	}
	return false
}

// walk resolves paths as the kernel does, component by component, and watches each directory before it looks at what is
// in it. So whatever changes after the look, an event tells of it; what changed before, the look saw.
type walk struct {
	// watch watches a directory and returns the name that its events come under.
	watch    func(path string, id fileID) (label string, err error)
	view     *view
	problems []error
}

func newWalk(watch func(string, fileID) (string, error)) *walk {
	return &walk{watch: watch, view: &view{dirs: map[string]*dir{}, by: map[string][]string{}}}
}

// path walks to a Path, and if it is a directory to what the entries of interest lead to.
func (w *walk) path(p Path) {
	at, s := w.follow("/", p.Path)
	if !s.is(unix.S_IFDIR) {
		return
	}
	match := p.Match
	if match == nil {
		match = func(string) bool { return true }
	}
	d := w.enter(at)
	d.match = append(d.match, match)
	names, err := readNames(at)
	if err != nil {
		w.problem(at, err)
		return
	}
	for _, name := range names {
		if !match(name) {
			continue
		}
		if s := w.look(at, name); s.is(unix.S_IFLNK) {
			w.follow(at, name)
		}
	}
}

// follow walks from a directory along a path. It returns where that ends and how it looks there; this is absent, or the
// symlink that was one too many, if it leads nowhere.
func (w *walk) follow(at, path string) (string, stamp) {
	todo := components(path)
	last := w.enter(at).self
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		if name == ".." {
			at = filepath.Dir(at) // there are no symlinks in it
			last = w.enter(at).self
			continue
		}
		s := w.look(at, name)
		switch {
		case s.is(unix.S_IFDIR):
			at, last = filepath.Join(at, name), s
		case s.is(unix.S_IFLNK) && links < maxLinks:
			links++
			if strings.HasPrefix(s.link, "/") {
				at = "/"
			}
			last = w.enter(at).self
			todo = append(components(s.link), todo...)
		case len(todo) > 0 && s.failed == 0:
			return at, stamp{failed: unix.ENOTDIR}
		default:
			return filepath.Join(at, name), s
		}
	}
	return at, last
}

// look looks at an entry of a directory, once in a walk.
func (w *walk) look(at, name string) stamp {
	d := w.enter(at)
	s, ok := d.seen[name]
	if ok {
		return s
	}
	path := filepath.Join(at, name)
	s = lookAt(path)
	if s.failed != 0 && !s.absent() {
		w.problem(path, s.failed)
	}
	d.seen[name] = s
	return s
}

// enter has a directory watched, once in a walk. One that vanished this very moment is not, and has no entries: an
// event of the directory above tells of that.
func (w *walk) enter(path string) *dir {
	if d := w.view.dirs[path]; d != nil {
		return d
	}
	d := &dir{self: lookAt(path), seen: map[string]stamp{}}
	w.view.dirs[path] = d
	if !d.self.is(unix.S_IFDIR) {
		return d
	}
	label, err := w.watch(path, d.self.id)
	if err != nil {
		w.problem(path, err)
		return d
	}
	w.view.by[label] = append(w.view.by[label], path)
	return d
}

func (w *walk) problem(path string, err error) {
	w.problems = append(w.problems, fmt.Errorf("cannot watch %q: %w", path, err))
}

// components splits a path. One cannot clean it first: in a/../b, a may be a symlink.
func components(path string) []string {
	var list []string
	for name := range strings.SplitSeq(path, "/") {
		if name != "" && name != "." {
			list = append(list, name)
		}
	}
	return list
}

// readNames lists a directory, nothing if it vanished.
func readNames(path string) ([]string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		if no := errno(err); no == unix.ENOENT || no == unix.ENOTDIR || no == unix.ELOOP {
			return nil, nil
		}
		return nil, errno(err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, err
	}
	return names, nil
}
