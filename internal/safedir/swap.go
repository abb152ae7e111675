package safedir

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Renew puts a new, empty directory in the place of the one at path, in one step: at no moment is there none, and what
// was at path is in the directory aside beside it afterwards. aside is a name that is not taken. prepare, nil for
// nothing, does what is to be done to the new directory before that step. A kill before it leaves a directory aside with
// nothing in it, and nothing else changed.
//
// The filesystem must know RENAME_EXCHANGE (rename(2)); all that can hold an upperdir and are in use for it do: ext4,
// xfs, btrfs, f2fs, tmpfs.
func Renew(path string, attr Attr, aside string, prepare func(dir string) error) error {
	err := func() error {
		dir, name, err := openParent(path)
		if err != nil {
			return err
		}
		defer unix.Close(dir)
		full := filepath.Join(filepath.Dir(path), aside)
		if err := unix.Mkdirat(dir, aside, 0o700); err != nil {
			return fmt.Errorf("cannot make %s: %w", full, err)
		}
		if err := dress(dir, aside, attr, unixMode(attr.Mode)); err != nil {
			return fmt.Errorf("cannot make %s: %w", full, err)
		}
		if prepare != nil {
			err = prepare(full)
		}
		if err == nil {
			err = unix.Renameat2(dir, aside, dir, name, unix.RENAME_EXCHANGE)
		}
		if err != nil {
			_ = unix.Unlinkat(dir, aside, unix.AT_REMOVEDIR)
			return err
		}
		return syncDir(filepath.Dir(path))
	}()
	if err != nil {
		return fmt.Errorf("cannot renew directory %s: %w", path, err)
	}
	return nil
}

// TakeBack undoes a Renew of path: what is in aside comes back, and the new directory goes, if it is empty still.
func TakeBack(path, aside string) error {
	err := func() error {
		dir, name, err := openParent(path)
		if err != nil {
			return err
		}
		defer unix.Close(dir)
		if err := unix.Renameat2(dir, aside, dir, name, unix.RENAME_EXCHANGE); err != nil {
			return err
		}
		return unix.Unlinkat(dir, aside, unix.AT_REMOVEDIR)
	}()
	if err != nil {
		return fmt.Errorf("cannot put %s back in the place of %s: %w", aside, path, err)
	}
	return nil
}

// Clear does to a directory in place what Renew does by a new one, where there is no room for that: it empties it, takes
// its extended attributes away, and gives it owner and mode. A kill leaves it half empty.
func Clear(ctx context.Context, path string, attr Attr) error {
	err := func() error {
		dir, err := openDir(path, unix.O_RDONLY)
		if err != nil {
			return err
		}
		defer unix.Close(dir)
		again, err := unix.FcntlInt(uintptr(dir), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := empty(ctx, again, path); err != nil {
			return err
		}
		if err := dropXattrs(dir); err != nil {
			return err
		}
		if err := unix.Fchown(dir, int(attr.UID), int(attr.GID)); err != nil {
			return err
		}
		return unix.Fchmod(dir, unixMode(attr.Mode))
	}()
	if err != nil {
		return fmt.Errorf("cannot clear directory %s: %w", path, err)
	}
	return nil
}

// dropXattrs removes the extended attributes of a directory but for labels, which belong to the place.
func dropXattrs(dir int) error {
	buf := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := unix.Flistxattr(dir, buf)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if name == "" || strings.HasPrefix(name, "security.") {
			continue
		}
		if err := unix.Fremovexattr(dir, name); err != nil && !errors.Is(err, unix.ENODATA) {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	return nil
}

// MoveInto moves some paths below the directory top, relative and clean, to the same places below the directory to,
// which it makes, for root alone, as it does those between. Both lie on one mount. Nothing is followed and nothing
// replaced. With an error, some may have been moved.
func MoveInto(top string, paths []string, to string) error {
	parent, name, err := openParent(to)
	if err == nil {
		err = unix.Mkdirat(parent, name, 0o700)
		_ = unix.Close(parent)
	}
	if err != nil {
		return fmt.Errorf("cannot make directory %s: %w", to, err)
	}
	for _, rel := range paths {
		if err := moveInto(top, rel, to); err != nil {
			return fmt.Errorf("cannot move %s to %s: %w", filepath.Join(top, rel), to, err)
		}
	}
	return nil
}

func moveInto(top, rel, to string) error {
	from, name, err := openBelow(top, rel, false)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	into, _, err := openBelow(to, rel, true)
	if err != nil {
		return err
	}
	defer unix.Close(into)
	return unix.Renameat2(from, name, into, name, unix.RENAME_NOREPLACE)
}

// openBelow opens the directory that rel, a path below top, stands in, and makes the way there if told (build).
func openBelow(top, rel string, build bool) (dir int, name string, err error) {
	if !filepath.IsLocal(rel) || filepath.Clean(rel) != rel || rel == "." {
		return -1, "", errors.New("the path below it is not clean")
	}
	dir, err = openDir(top, unix.O_PATH)
	if err != nil {
		return -1, "", err
	}
	way := filepath.Dir(rel)
	if way == "." {
		return dir, rel, nil
	}
	for part := range strings.SplitSeq(way, "/") {
		if build {
			if err := makePrivate(dir, part); err != nil {
				_ = unix.Close(dir)
				return -1, "", err
			}
		}
		next, err := openBeneath(dir, part, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_XDEV)
		_ = unix.Close(dir)
		if err != nil {
			return -1, "", err
		}
		dir = next
	}
	return dir, filepath.Base(rel), nil
}

func makePrivate(dir int, name string) error {
	if err := unix.Mkdirat(dir, name, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// syncDir makes renames in a directory last.
func syncDir(path string) error {
	fd, err := openDir(path, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fsync(fd)
}
