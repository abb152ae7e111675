package reconcile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/safedir"
)

// candidate is a directory that may be deleted if nothing uses it.
type candidate struct {
	DataDir
	aside  bool       // what a reset took out of the way, not a whole data directory
	within *candidate // the data directory that it lies in, if that has the mark
	usedBy string     // what uses it, "" for nothing that was found so far
	// claimed tells that a unit or the spec uses it, mounted or not.
	claimed bool
}

// search finds data directories and who uses them.
type search struct {
	h       *Host
	root    string // of the tree, without symlinks
	table   *overlayfs.Table
	prober  *host.Prober
	units   []plan.UnitFile // of ours
	found   []*candidate
	ignored []error
}

func (h *Host) newSearch() (*search, error) {
	root, err := filepath.EvalSymlinks(h.inRoot("/"))
	if err != nil {
		return nil, err
	}
	table, err := host.ReadTable()
	if err != nil {
		return nil, err
	}
	return &search{h: h, root: root, table: table, prober: host.NewProber(table)}, nil
}

func (s *search) real(p string) string { return filepath.Join(s.root, p) }

// readUnits reads what is applied. A unit of ours that does not say what it mounts may need any directory.
func (s *search) readUnits() error {
	var o plan.Observed
	if err := s.h.observeUnits(plan.Desired{}, &o); err != nil {
		return err
	}
	for _, u := range o.Units {
		if u.Ours && u.Err != "" {
			return fmt.Errorf("unit file %s cannot be read (%s): apply its overlay again, or remove the file", u.Path, u.Err)
		}
		if u.Ours {
			s.units = append(s.units, u)
		}
	}
	slices.SortFunc(s.units, func(a, b plan.UnitFile) int { return strings.Compare(a.Where, b.Where) })
	return nil
}

// find looks for directories with overlayd's mark in the state directories, those of the spec and those that what is
// applied lies in, and for what was set aside.
func (s *search) find(stateDirs []string) error {
	dirs := slices.Clone(stateDirs)
	type beside struct{ dir, name string }
	asides := map[beside]plan.UnitFile{} // data that overlayd made in directories without its mark
	for _, u := range s.units {
		if u.Config.Upper == "" {
			continue
		}
		for _, p := range []string{u.Config.Upper, u.Config.Work} {
			dir := filepath.Dir(p)
			if _, marked, err := safedir.ReadMarker(s.real(dir)); err == nil && marked {
				dirs = append(dirs, filepath.Dir(dir))
			} else if u.MadeData {
				asides[beside{dir, filepath.Base(p)}] = u
			}
		}
	}
	slices.Sort(dirs)
	for _, dir := range slices.Compact(dirs) {
		if err := s.stateDir(dir); err != nil {
			return err
		}
	}
	for at, u := range asides {
		owner := DataDir{Path: at.dir, Address: u.Address, Mountpoint: u.Where}
		if err := s.setAside(owner, at.name, nil); err != nil {
			return err
		}
	}
	slices.SortFunc(s.found, func(a, b *candidate) int { return strings.Compare(a.Path, b.Path) })
	return nil
}

// stateDir looks at the directories in a state directory.
func (s *search) stateDir(dir string) error {
	if info := s.h.look(s.prober, dir); info.Symlink != "" {
		s.ignored = append(s.ignored, fmt.Errorf("cannot look for data directories in %s: %s is a symlink, and overlayd "+
			"makes nothing beyond one; name %s", dir, info.Symlink, info.Real))
		return nil
	}
	entries, err := readDir(s.real(dir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		leftover := strings.HasPrefix(e.Name(), doomedPrefix)
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") && !leftover {
			continue
		}
		path := filepath.Join(dir, e.Name())
		c, err := s.marked(path, leftover)
		switch {
		case errors.Is(err, fs.ErrPermission):
			return lackRoot(err)
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			s.ignored = append(s.ignored, fmt.Errorf("%s is left alone: %w", path, err))
		case c != nil:
			s.found = append(s.found, c)
			if !leftover {
				err = s.setAside(c.DataDir, "", c)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// marked looks whether a directory bears overlayd's mark, and none that somebody else could have put there.
func (s *search) marked(path string, leftover bool) (*candidate, error) {
	real := s.real(path)
	m, marked, err := safedir.ReadMarker(real)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Lstat(real, &st); err != nil {
		return nil, fmt.Errorf("cannot look at it: %w", err)
	}
	c := &candidate{DataDir: DataDir{
		Path: path, Real: real, Address: m.Address, Mountpoint: m.Mountpoint, Leftover: leftover,
		id: overlayfs.FileID{Dev: st.Dev, Ino: st.Ino},
	}}
	ours := st.Uid == 0 || st.Uid == uint32(os.Geteuid())
	switch {
	case leftover && filepath.Base(path) != doomedName(st.Ino):
		return nil, nil // the number is part of the name, so this is none of ours
	case leftover && ours && !marked:
		// The mark is the last thing to go.
		entries, err := readDir(real)
		if err != nil || len(entries) > 0 {
			return nil, err
		}
		return c, nil
	case !marked:
		return nil, nil
	case !ours:
		return nil, fmt.Errorf("it bears overlayd's mark and belongs to uid %d, so overlayd did not make it", st.Uid)
	case st.Mode&0o022 != 0:
		return nil, fmt.Errorf("it bears overlayd's mark, which others than root could have put there (mode %04o); "+
			"chmod go-w it if it is overlayd's", st.Mode&0o7777)
	}
	return c, nil
}

// setAside finds in a client's directory what resets took out of the way there: of the upperdir or workdir of that
// name, or of any for "".
func (s *search) setAside(owner DataDir, name string, within *candidate) error {
	entries, err := readDir(s.real(owner.Path))
	if err != nil {
		return err
	}
	for _, e := range entries {
		of, kept, ok := SetAside(e.Name())
		if !e.IsDir() || !ok || name != "" && of != name {
			continue
		}
		dir := owner
		dir.Path, dir.Kept, dir.Leftover = filepath.Join(owner.Path, e.Name()), kept, !kept
		dir.SetAside = asideTime(e.Name())
		dir.Real = s.real(dir.Path)
		var st unix.Stat_t
		if err := unix.Lstat(dir.Real, &st); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return fmt.Errorf("cannot look at %s: %w", dir.Real, err)
		}
		dir.id = overlayfs.FileID{Dev: st.Dev, Ino: st.Ino}
		s.found = append(s.found, &candidate{DataDir: dir, aside: true, within: within})
	}
	return nil
}

// asideTime is when a reset gave a name, which [SetAside] knows for one.
func asideTime(name string) time.Time {
	date := name[strings.LastIndexByte(name, '-')+1:]
	at, err := time.Parse(asideDate, date[:len(asideDate)])
	if err != nil { // digits, and no date
		return time.Time{}
	}
	return at
}

// readDir lists a directory; one that is not there is empty.
func readDir(path string) ([]os.DirEntry, error) {
	entries, err := os.ReadDir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, fs.ErrPermission):
		return nil, lackRoot(err)
	}
	return entries, err
}

func lackRoot(err error) error { return fmt.Errorf("%w; looking takes root", err) }

// doomedPrefix begins the name that a data directory has while it is being deleted: should that be cut short, no
// client finds half of its data in the old place. The rest of the name is the inode's number, by which it is known
// for one of ours.
const doomedPrefix = ".overlayd-prune-"

func doomedName(ino uint64) string { return doomedPrefix + strconv.FormatUint(ino, 16) }
