package systemd

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/units"
)

// Batch is a set of changes to the unit directory.
type Batch struct {
	Write  map[string][]byte // unit to text
	Remove []string          // units
	Link   [][2]string       // target, unit: TARGET.wants/UNIT
	Unlink [][2]string       // target, unit
}

// BatchError says which units of a batch could not be dealt with, and why. What it does not name is done.
type BatchError struct {
	Units map[string]error
}

func (e *BatchError) Error() string {
	var lines []string
	for _, unit := range slices.Sorted(maps.Keys(e.Units)) {
		lines = append(lines, e.Units[unit].Error())
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the errors in the order of their units.
func (e *BatchError) Unwrap() []error {
	var errs []error
	for _, unit := range slices.Sorted(maps.Keys(e.Units)) {
		errs = append(errs, e.Units[unit])
	}
	return errs
}

func (e *BatchError) add(unit string, err error) {
	if err == nil {
		return
	}
	if e.Units == nil {
		e.Units = map[string]error{}
	}
	e.Units[unit] = errors.Join(e.Units[unit], err)
}

func (e *BatchError) orNil() error {
	if len(e.Units) == 0 {
		return nil
	}
	return e
}

// Temporaries have names of their own: a unit's name may be as long as a name can be.
const (
	tempPrefix = ".overlayd-"
	tempSuffix = ".tmp"
)

// Up to so many files are synced one by one. Beyond it, one syncfs(2) is faster than that many waits for the journal;
// below it, syncfs would make us wait for whatever else the filesystem has yet to write.
const syncEach = 16

// Staged is a batch whose texts are on disk under temporary names.
type Staged struct {
	root  string
	dir   *os.File
	temps map[string]string // unit to temporary
	wants map[string]*os.File
	steps []step
}

// step is one change that a reader of the directory sees whole or not at all.
type step struct {
	unit string
	run  func() error
}

// Stage writes the texts of a batch under temporary names and syncs them; no live name is touched. Directories that
// are missing are made, and temporaries that a killed run left are removed. A *[BatchError] names the units that
// [Staged.Commit] would refuse to touch; nothing is staged then.
func (d Dir) Stage(b Batch) (*Staged, error) {
	refused := &BatchError{}
	for _, unit := range slices.Sorted(maps.Keys(b.Write)) {
		refused.add(unit, checkName(unit))
	}
	for _, unit := range b.Remove {
		refused.add(unit, checkName(unit))
	}
	for _, link := range slices.Concat(b.Link, b.Unlink) {
		refused.add(link[1], errors.Join(checkName(link[1]), checkTarget(link[0])))
	}
	if err := refused.orNil(); err != nil {
		return nil, err
	}
	dir, err := makeDir(d.Root, unitDir)
	if err != nil {
		return nil, fmt.Errorf("cannot write unit files: %w", err)
	}
	s := &Staged{root: d.Root, dir: dir, temps: map[string]string{}, wants: map[string]*os.File{}}
	if err := s.stage(b); err != nil {
		s.Discard()
		return nil, err
	}
	return s, nil
}

func (s *Staged) stage(b Batch) error {
	if err := s.removeStale(); err != nil {
		return err
	}
	refused := &BatchError{}
	for _, unit := range slices.Concat(slices.Collect(maps.Keys(b.Write)), b.Remove) {
		_, err := s.checkOurs(unit)
		refused.add(unit, err)
	}
	if err := refused.orNil(); err != nil {
		return err
	}
	if err := s.writeTemps(b.Write); err != nil {
		return err
	}
	for _, unit := range slices.Sorted(maps.Keys(b.Write)) {
		s.steps = append(s.steps, step{unit, func() error { return s.rename(unit) }})
	}
	for _, link := range b.Link {
		s.steps = append(s.steps, step{link[1], func() error { return s.link(link[0], link[1]) }})
	}
	// Links go before what they lead to, so that none dangles.
	for _, link := range b.Unlink {
		s.steps = append(s.steps, step{link[1], func() error { return s.unlink(link[0], link[1]) }})
	}
	for _, unit := range b.Remove {
		s.steps = append(s.steps, step{unit, func() error { return s.remove(unit) }})
	}
	return nil
}

// Commit makes the staged batch live: texts, then new links, then old links and old units, then one sync of each
// directory. Killed anywhere, each unit has its old text or its new one. A step that fails does not keep back the
// others; a *[BatchError] names its unit. The Staged is used up.
func (s *Staged) Commit() error {
	if len(s.steps) == 0 {
		s.Discard()
		return nil // nothing to bring to disk, which takes milliseconds
	}
	failed := &BatchError{}
	for _, step := range s.steps {
		failed.add(step.unit, step.run())
	}
	s.steps = nil
	err := errors.Join(failed.orNil(), s.sync())
	s.Discard()
	return err
}

// Discard drops what is staged and not committed.
func (s *Staged) Discard() {
	if s.dir == nil {
		return
	}
	for _, temp := range s.temps {
		// One that stays is removed by the next Stage.
		_ = unix.Unlinkat(int(s.dir.Fd()), temp, 0)
	}
	for _, wants := range s.wants {
		wants.Close()
	}
	s.dir.Close()
	s.dir, s.temps, s.wants, s.steps = nil, nil, nil, nil
}

func checkName(unit string) error {
	if unit == units.TargetName {
		return nil
	}
	if len(unit) > units.MaxName {
		return fmt.Errorf("cannot write unit %s: its name has %d bytes, systemd takes %d", unit, len(unit), units.MaxName)
	}
	_, err := units.PathOf(unit)
	return err
}

func checkTarget(target string) error {
	if target == "" || target[0] == '.' || strings.ContainsAny(target, "/\x00") ||
		len(target)+len(wantsSuffix) > units.MaxName {
		return fmt.Errorf("cannot link a unit to %q: not a unit name", target)
	}
	return nil
}

// path is what errors call an entry of the directory.
func (s *Staged) path(name string) string { return s.dir.Name() + "/" + name }

func (s *Staged) removeStale() error {
	list, err := openIn(s.dir, ".") // of its own, for the offset of a directory stream is shared
	if err != nil {
		return fmt.Errorf("cannot write unit files: %w", err)
	}
	defer list.Close()
	names, err := list.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("cannot write unit files: %w", err)
	}
	for _, name := range names {
		if !strings.HasPrefix(name, tempPrefix) || !strings.HasSuffix(name, tempSuffix) {
			continue
		}
		if err := unix.Unlinkat(int(s.dir.Fd()), name, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove what a killed run left: %w",
				&fs.PathError{Op: "unlink", Path: s.path(name), Err: err})
		}
	}
	return nil
}

// checkOurs tells whether a unit file exists, and fails for one that overlayd did not write.
func (s *Staged) checkOurs(unit string) (exists bool, err error) {
	refuse := func(what string) error {
		return fmt.Errorf("cannot change %s: %s; overlayd leaves it alone, move it away first", s.path(unit), what)
	}
	fd, err := unix.Openat(int(s.dir.Fd()), unit, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case errors.Is(err, unix.ELOOP):
		target, _, _ := linkAt(int(s.dir.Fd()), unit)
		return true, refuse("it is a symlink to " + target)
	case err != nil:
		return false, fmt.Errorf("cannot change a unit: %w", &fs.PathError{Op: "open", Path: s.path(unit), Err: err})
	}
	file := os.NewFile(uintptr(fd), s.path(unit))
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return true, fmt.Errorf("cannot change a unit: %w", err)
	}
	if !info.Mode().IsRegular() {
		return true, refuse("it is not a file")
	}
	var buf []byte
	text, err := readFD(fd, &buf)
	if err != nil {
		return true, fmt.Errorf("cannot change a unit: %w", &fs.PathError{Op: "read", Path: s.path(unit), Err: err})
	}
	if !units.IsOurs(text) {
		return true, refuse("overlayd did not write it")
	}
	return true, nil
}

func (s *Staged) writeTemps(texts map[string][]byte) error {
	run := strings.ToLower(rand.Text()[:10])
	for i, unit := range slices.Sorted(maps.Keys(texts)) {
		name := fmt.Sprintf("%s%s-%d%s", tempPrefix, run, i, tempSuffix)
		if err := s.writeTemp(name, unit, texts[unit], len(texts) <= syncEach); err != nil {
			return fmt.Errorf("cannot write unit %s: %w", unit, err)
		}
	}
	if len(texts) > syncEach {
		if err := unix.Syncfs(int(s.dir.Fd())); err != nil {
			return fmt.Errorf("cannot write unit files: %w",
				&fs.PathError{Op: "syncfs", Path: s.dir.Name(), Err: err})
		}
	}
	return nil
}

func (s *Staged) writeTemp(name, unit string, text []byte, sync bool) error {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(int(s.dir.Fd()), name, flags, 0o644)
	if err != nil {
		return &fs.PathError{Op: "create", Path: s.path(name), Err: err}
	}
	s.temps[unit] = name
	file := os.NewFile(uintptr(fd), s.path(name))
	defer file.Close()
	if _, err := file.Write(text); err != nil {
		return err
	}
	if err := file.Chmod(0o644); err != nil { // the umask may have taken bits
		return err
	}
	if os.Geteuid() == 0 {
		// The group may be another one than root's: the directory's, or that of newgrp.
		if err := file.Chown(0, 0); err != nil {
			return err
		}
	}
	if sync {
		if err := file.Sync(); err != nil {
			return err
		}
	}
	return file.Close()
}
