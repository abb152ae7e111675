package systemd

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// rename puts a staged text at its unit's name, where nothing is or a file of ours.
func (s *Staged) rename(unit string) error {
	dir, temp := int(s.dir.Fd()), s.temps[unit]
	err := unix.Renameat2(dir, temp, dir, unit, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EINVAL) { // EINVAL: a filesystem without RENAME_NOREPLACE
		if _, err := s.checkOurs(unit); err != nil {
			return err
		}
		err = unix.Renameat(dir, temp, dir, unit)
	}
	if err != nil {
		return fmt.Errorf("cannot write a unit: %w",
			&os.LinkError{Op: "rename", Old: s.path(temp), New: s.path(unit), Err: err})
	}
	delete(s.temps, unit)
	return nil
}

func (s *Staged) remove(unit string) error {
	exists, err := s.checkOurs(unit)
	if err != nil || !exists {
		return err
	}
	if err := unix.Unlinkat(int(s.dir.Fd()), unit, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove a unit: %w", &fs.PathError{Op: "unlink", Path: s.path(unit), Err: err})
	}
	return nil
}

// link makes TARGET.wants/UNIT, as systemctl enable does but relative, so that it is right below --root as well. A
// link that is there already counts, wherever it leads: systemd takes the name.
func (s *Staged) link(target, unit string) error {
	wants, err := s.openWants(target, true)
	if err != nil {
		return fmt.Errorf("cannot enable unit %s: %w", unit, err)
	}
	err = unix.Symlinkat("../"+unit, int(wants.Fd()), unit)
	if errors.Is(err, unix.EEXIST) {
		var isLink bool
		if _, isLink, err = linkAt(int(wants.Fd()), unit); err == nil && !isLink {
			err = unix.EEXIST
		}
	}
	if err != nil {
		return fmt.Errorf("cannot enable unit %s: %w", unit,
			&fs.PathError{Op: "symlink", Path: wants.Name() + "/" + unit, Err: err})
	}
	return nil
}

func (s *Staged) unlink(target, unit string) error {
	wants, err := s.openWants(target, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot disable unit %s: %w", unit, err)
	}
	_, isLink, err := linkAt(int(wants.Fd()), unit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && !isLink {
		return fmt.Errorf("cannot disable unit %s: %s/%s is not a symlink; overlayd leaves it alone", unit, wants.Name(), unit)
	}
	if err == nil {
		err = unix.Unlinkat(int(wants.Fd()), unit, 0)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot disable unit %s: %w", unit,
			&fs.PathError{Op: "unlink", Path: wants.Name() + "/" + unit, Err: err})
	}
	return nil
}

// openWants opens TARGET.wants, once for all of a batch.
func (s *Staged) openWants(target string, mk bool) (*os.File, error) {
	if wants, ok := s.wants[target]; ok {
		return wants, nil
	}
	open := openDir
	if mk {
		open = makeDir
	}
	wants, err := open(s.root, unitDir+"/"+target+wantsSuffix)
	if err != nil {
		return nil, err
	}
	s.wants[target] = wants
	return wants, nil
}

// sync makes the names last, and removes the TARGET.wants directories that came out empty, as systemctl disable does.
func (s *Staged) sync() error {
	var errs []error
	for _, target := range slices.Sorted(maps.Keys(s.wants)) {
		err := unix.Unlinkat(int(s.dir.Fd()), target+wantsSuffix, unix.AT_REMOVEDIR)
		switch {
		case err == nil, errors.Is(err, fs.ErrNotExist):
			continue
		case errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EEXIST):
		case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EBUSY): // a symlink to a directory, a mountpoint
		default:
			errs = append(errs, &fs.PathError{Op: "rmdir", Path: s.path(target + wantsSuffix), Err: err})
		}
		errs = append(errs, s.wants[target].Sync())
	}
	errs = append(errs, s.dir.Sync())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot bring unit files to disk: %w", err)
	}
	return nil
}
