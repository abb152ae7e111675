package systemd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/units"
)

// unitDir is where overlayd writes, below a root.
const unitDir = "etc/systemd/system"

// searchPath is where systemd looks for system units, first wins: systemd.unit(5) and systemd-analyze unit-paths of
// systemd 252 and 257, which agree, and /lib for systems where it is not a link to /usr/lib.
var searchPath = [...]string{
	"etc/systemd/system.control",
	"run/systemd/system.control",
	"run/systemd/transient",
	"run/systemd/generator.early",
	unitDir,
	"etc/systemd/system.attached",
	"run/systemd/system",
	"run/systemd/system.attached",
	"run/systemd/generator",
	"usr/local/lib/systemd/system",
	"usr/lib/systemd/system",
	"lib/systemd/system",
	"run/systemd/generator.late",
}

// Dir is the directory /etc/systemd/system of a host.
type Dir struct {
	Root string // "" or "/" is this host, else the tree of --root
}

// UnitFile is what stands at a unit's name in /etc/systemd/system.
type UnitFile struct {
	Name string
	Path string
	Text []byte // nil for a symlink or a directory; one that is empty masks the unit
	Link string // where a symlink leads, as written in it; to /dev/null masks the unit

	Stamp  Stamp // of a regular file, where ListBut asked for it
	Unread bool  // ListBut left it out, and Text is nil
}

// Listing is what the unit directories hold that concerns mounts.
type Listing struct {
	// Units has every .mount unit and overlayd.target of /etc/systemd/system, other people's too.
	Units map[string]UnitFile
	// Elsewhere has the .mount and .target units of all other directories that systemd reads: unit to path, or to
	// "/dev/null" for one that is masked there. Of several the one that systemd takes.
	Elsewhere map[string]string
	// DropIns has the files that set something in [Mount], by what their directory is for: "srv-a.mount",
	// "srv-.mount" (every unit that begins so) or "mount" (every one). DropInsOf knows which concern a unit.
	DropIns map[string][]string
	// Wants has the .mount units and overlayd.target that TARGET.wants in /etc/systemd/system links to.
	Wants map[string]map[string]bool
}

// DropInsOf gives the drop-in files that set something in [Mount] of a unit, which need not exist. A file hides those
// of its name in directories of the same kind; that systemd also lets it hide those of other kinds does not count here.
func (l *Listing) DropInsOf(unit string) []string {
	if len(l.DropIns) == 0 {
		return nil
	}
	files := slices.Clone(l.DropIns[unit])
	stem := strings.TrimSuffix(unit, mountSuffix)
	// systemd.unit(5): foo-bar-baz.mount has foo-bar-.mount.d and foo-.mount.d as well.
	for i := len(stem) - 1; i > 0; i-- {
		if stem[i-1] == '-' {
			files = append(files, l.DropIns[stem[:i]+mountSuffix]...)
		}
	}
	return append(files, l.DropIns["mount"]...)
}

const devNull = "/dev/null"

const (
	mountSuffix  = ".mount"
	targetSuffix = ".target"
	dropInSuffix = ".mount.d"
	wantsSuffix  = ".wants"
)

func isOurKind(name string) bool {
	return strings.HasSuffix(name, mountSuffix) || name == units.TargetName
}

// List reads the unit directories. One that does not exist is empty, but the root has to be there.
func (d Dir) List() (*Listing, error) { return d.ListBut(nil) }

// ListBut is List without reading those regular files of which known, called with the name and how the file is now,
// says that their text is known. Several goroutines call it at once; nil knows nothing, and asks for no stamps.
func (d Dir) ListBut(known func(name string, s Stamp) bool) (*Listing, error) {
	root, err := openDir(d.Root, ".")
	if err != nil {
		return nil, fmt.Errorf("cannot list unit files: %w", err)
	}
	root.Close()
	l := &Listing{
		Units:     map[string]UnitFile{},
		Elsewhere: map[string]string{},
		DropIns:   map[string][]string{},
		Wants:     map[string]map[string]bool{},
	}
	overrides := map[string]bool{} // drop-ins by directory and name, of which the first counts
	var seen []fs.FileInfo
	for _, rel := range searchPath {
		if err := d.listDir(l, rel, overrides, &seen, known); err != nil {
			return nil, fmt.Errorf("cannot list unit files: %w", err)
		}
	}
	return l, nil
}

func (d Dir) listDir(l *Listing, rel string, overrides map[string]bool, seen *[]fs.FileInfo,
	known func(name string, s Stamp) bool,
) error {
	dir, err := openDir(d.Root, rel)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	info, err := dir.Stat()
	if err != nil {
		return err
	}
	// A merged /usr shows /usr/lib a second time as /lib.
	if slices.ContainsFunc(*seen, func(other fs.FileInfo) bool { return os.SameFile(info, other) }) {
		return nil
	}
	*seen = append(*seen, info)
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return err
	}
	var regular []string
	for _, e := range entries {
		name := e.Name()
		switch {
		case name == "mount.d", strings.HasSuffix(name, dropInSuffix):
			err = d.listDropIns(l, rel+"/"+name, overrides)
		case rel == unitDir && strings.HasSuffix(name, wantsSuffix):
			err = d.listWants(l, strings.TrimSuffix(name, wantsSuffix), rel+"/"+name)
		case rel == unitDir && isOurKind(name) && e.Type().IsRegular():
			regular = append(regular, name)
		case rel == unitDir && isOurKind(name):
			err = listOdd(l, dir, name)
		case rel != unitDir && (strings.HasSuffix(name, mountSuffix) || strings.HasSuffix(name, targetSuffix)):
			err = listElsewhere(l, dir, e)
		}
		if err != nil {
			return err
		}
	}
	return listRegular(l, dir, regular, known)
}

// listRegular reads unit files, a part on each of a few goroutines: what takes the time is the kernel's path lookup,
// which runs in parallel.
func listRegular(l *Listing, dir *os.File, names []string, known func(name string, s Stamp) bool) error {
	const part = 256
	files := make([]UnitFile, len(names))
	errs := make([]error, (len(names)+part-1)/part)
	fd := int(dir.Fd())
	limit := make(chan struct{}, 4)
	var wait sync.WaitGroup
	for i := range errs {
		limit <- struct{}{}
		wait.Go(func() {
			defer func() { <-limit }()
			var buf []byte
			for j := i * part; j < min(len(names), (i+1)*part); j++ {
				f, err := readUnit(fd, names[j], known, &buf)
				if errors.Is(err, fs.ErrNotExist) {
					continue // removed since
				}
				where := dir.Name() + "/" + names[j]
				if err != nil {
					errs[i] = &fs.PathError{Op: "read", Path: where, Err: err}
					return
				}
				f.Name, f.Path = names[j], where
				files[j] = f
			}
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if len(l.Units) == 0 {
		l.Units = make(map[string]UnitFile, len(names))
	}
	for i := range files {
		if f := &files[i]; f.Name != "" {
			l.Units[f.Name] = *f
		}
	}
	return nil
}

// listOdd lists what is no regular file at a unit's name.
func listOdd(l *Listing, dir *os.File, name string) error {
	link, _, err := linkAt(int(dir.Fd()), name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "readlink", Path: dir.Name() + "/" + name, Err: err}
	}
	l.Units[name] = UnitFile{Name: name, Path: dir.Name() + "/" + name, Link: link}
	return nil
}

func listElsewhere(l *Listing, dir *os.File, e fs.DirEntry) error {
	name := e.Name()
	if e.IsDir() || l.Elsewhere[name] != "" {
		return nil
	}
	where := dir.Name() + "/" + name
	if e.Type() == fs.ModeSymlink {
		link, _, err := linkAt(int(dir.Fd()), name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &fs.PathError{Op: "readlink", Path: where, Err: err}
		}
		if path.Clean(link) == devNull {
			where = devNull
		}
	}
	l.Elsewhere[name] = where
	return nil
}

// open opens a directory and reads its entries; dir is nil where there is none.
func (d Dir) open(rel string) (dir *os.File, entries []fs.DirEntry, err error) {
	dir, err = openDir(d.Root, rel)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if entries, err = dir.ReadDir(-1); err != nil {
		_ = dir.Close()
		return nil, nil, err
	}
	return dir, entries, nil
}

func (d Dir) listWants(l *Listing, target, rel string) error {
	dir, entries, err := d.open(rel)
	if dir == nil || err != nil {
		return err
	}
	defer dir.Close()
	wanted := make(map[string]bool, len(entries))
	for _, e := range entries {
		if isOurKind(e.Name()) && e.Type() == fs.ModeSymlink {
			wanted[e.Name()] = true
		}
	}
	if len(wanted) > 0 {
		l.Wants[target] = wanted
	}
	return nil
}

// listDropIns adds the files of one drop-in directory. A file hides those of its name in later directories of the
// search path, also when it is empty or leads to /dev/null.
func (d Dir) listDropIns(l *Listing, rel string, overrides map[string]bool) error {
	dir, entries, err := d.open(rel)
	if dir == nil || err != nil {
		return err
	}
	defer dir.Close()
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, e := range entries {
		id := path.Base(rel) + "/" + e.Name()
		if !strings.HasSuffix(id, ".conf") || overrides[id] {
			continue
		}
		if link, _, err := linkAt(int(dir.Fd()), e.Name()); err == nil && path.Clean(link) == devNull {
			overrides[id] = true // not read: an image may have no /dev/null
			continue
		}
		text, err := d.readDropIn(rel + "/" + e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		overrides[id] = true
		if units.SetsMount(text) {
			what := strings.TrimSuffix(path.Base(rel), ".d")
			l.DropIns[what] = append(l.DropIns[what], joinRoot(d.Root, rel+"/"+e.Name()))
		}
	}
	return nil
}

// readDropIn reads a file below the root, through symlinks, which drop-ins often are. What is no regular file is
// empty.
func (d Dir) readDropIn(rel string) ([]byte, error) {
	file, err := openBelow(d.Root, rel, unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	var buf []byte
	text, err := readFD(int(file.Fd()), &buf)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: file.Name(), Err: err}
	}
	return text, nil
}
