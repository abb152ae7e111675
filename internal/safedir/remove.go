package safedir

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// MountPointError says that something is mounted where a tree was to be removed. Nothing on it was touched.
type MountPointError struct{ Path string }

// Error says where.
func (e *MountPointError) Error() string {
	return fmt.Sprintf("something is mounted at %s; unmount it first", e.Path)
}

// RemoveTree removes the directory path and all in it. It crosses no mount, follows no symlink, and needs few
// descriptors and little memory however deep and wide the tree is. A path that is not there is no error. It stops at
// the first thing that cannot be removed.
func RemoveTree(path string) error { return RemoveTreeContext(context.Background(), path) }

// RemoveTreeContext is RemoveTree that stops between two entries when ctx is done, with its error.
func RemoveTreeContext(ctx context.Context, path string) error {
	parent, name, err := openParent(path)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err == nil {
		defer unix.Close(parent)
		err = removeTree(ctx, parent, name, path)
	}
	if err != nil {
		return fmt.Errorf("cannot remove %s: %w", path, err)
	}
	return nil
}

func removeTree(ctx context.Context, parent int, name, path string) error {
	dir, err := openBeneath(parent, name, unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_NO_XDEV)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR):
		if to, err := readlinkAt(parent, name); err == nil {
			return &SymlinkError{Path: path, Target: to}
		}
		return errors.New("it is not a directory")
	case errors.Is(err, unix.EXDEV):
		return &MountPointError{Path: path}
	case err != nil:
		return err
	}
	if err := empty(ctx, dir, path); err != nil {
		return err
	}
	if err := unix.Unlinkat(parent, name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return removeReason(parent, name, path, err)
	}
	return nil
}

// openParent opens the directory above path.
func openParent(path string) (fd int, name string, err error) {
	if err := checkPath(path); err != nil {
		return -1, "", err
	}
	if path == "/" {
		return -1, "", errors.New("it is the root directory")
	}
	fd, err = openDir(filepath.Dir(path), unix.O_PATH)
	return fd, filepath.Base(path), err
}

// level is a directory on the way down: its name in the one above, and what it is, to know it again.
type level struct {
	name     string
	dev, ino uint64
}

// emptier empties a directory. It holds a descriptor of the current one only, and comes back by "..", which leads
// elsewhere if somebody moves a directory meanwhile; so it looks whether it is where it was.
type emptier struct {
	top  string // path of the directory to empty, for messages
	down []level
	dir  int
	buf  []byte
}

// empty removes all in dir, the directory at path, and closes dir.
func empty(ctx context.Context, dir int, path string) error {
	e := &emptier{top: path, dir: dir, buf: make([]byte, 32<<10)}
	defer func() { _ = unix.Close(e.dir) }()
	for {
		sub, err := e.sweep(ctx)
		if err != nil {
			return err
		}
		switch {
		case sub != "":
			err = e.enter(sub)
		case len(e.down) > 0:
			err = e.leave()
		default:
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// path is where name in the current directory is.
func (e *emptier) path(name string) string {
	parts := []string{e.top}
	const shown = 20 // a tree may be deeper than a message should be long
	for i, l := range e.down {
		if i == shown {
			parts = append(parts, "…")
			break
		}
		parts = append(parts, l.name)
	}
	return filepath.Join(append(parts, name)...)
}

// sweep removes what it can in the current directory, and returns the first subdirectory that is not empty; "" when
// nothing is left. Some filesystems skip entries when others are removed while they are listed, so it reads again
// until a whole reading finds nothing.
func (e *emptier) sweep(ctx context.Context) (sub string, err error) {
	for {
		if _, err := unix.Seek(e.dir, 0, 0); err != nil {
			return "", fmt.Errorf("cannot list %s: %w", e.path(""), err)
		}
		found := false
		for {
			if err := ctx.Err(); err != nil {
				return "", err
			}
			n, err := unix.Getdents(e.dir, e.buf)
			if err != nil {
				return "", fmt.Errorf("cannot list %s: %w", e.path(""), err)
			}
			if n <= 0 {
				break
			}
			_, _, names := unix.ParseDirent(e.buf[:n], -1, nil)
			for _, name := range names {
				found = true
				full, err := e.remove(name)
				if full || err != nil {
					return name, err
				}
			}
		}
		if !found {
			return "", nil
		}
	}
}

// remove removes one entry; full says that it is a directory with something in it.
func (e *emptier) remove(name string) (full bool, err error) {
	err = unix.Unlinkat(e.dir, name, 0)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) { // POSIX says EPERM, Linux EISDIR
		err = unix.Unlinkat(e.dir, name, unix.AT_REMOVEDIR)
		if errors.Is(err, unix.ENOTDIR) {
			err = unix.EPERM
		}
	}
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		return false, nil
	case errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EEXIST):
		return true, nil
	}
	return false, removeReason(e.dir, name, e.path(name), err)
}

func (e *emptier) enter(name string) error {
	id, err := e.identify()
	if err != nil {
		return err
	}
	fd, err := openBeneath(e.dir, name, unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_NO_XDEV)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil // the next sweep will see
	case errors.Is(err, unix.EXDEV):
		return &MountPointError{Path: e.path(name)}
	case err != nil:
		return fmt.Errorf("cannot open %s: %w", e.path(name), err)
	}
	_ = unix.Close(e.dir)
	e.dir = fd
	id.name = name
	e.down = append(e.down, id)
	return nil
}

func (e *emptier) leave() error {
	last := e.down[len(e.down)-1]
	fd, err := unix.Openat(e.dir, "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot leave %s: %w", e.path(""), err)
	}
	_ = unix.Close(e.dir)
	e.dir = fd
	e.down = e.down[:len(e.down)-1]
	id, err := e.identify()
	if err != nil {
		return err
	}
	if id.dev != last.dev || id.ino != last.ino {
		return fmt.Errorf("%s was moved away while it was being removed", e.path(last.name))
	}
	switch err := unix.Unlinkat(e.dir, last.name, unix.AT_REMOVEDIR); {
	case err == nil, errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EEXIST):
		return fmt.Errorf("somebody still writes to %s", e.path(last.name))
	default:
		return removeReason(e.dir, last.name, e.path(last.name), err)
	}
}

// identify says what the current directory is.
func (e *emptier) identify() (level, error) {
	var st unix.Stat_t
	if err := unix.Fstat(e.dir, &st); err != nil {
		return level{}, fmt.Errorf("cannot look at %s: %w", e.path(""), err)
	}
	return level{dev: st.Dev, ino: st.Ino}, nil
}

// removeReason finds words for why an entry cannot be removed.
func removeReason(dir int, name, path string, err error) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return &MountPointError{Path: path}
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		if protected(dir, name) {
			return fmt.Errorf("%s is immutable or append-only (chattr -i -a): %w", path, err)
		}
		if protected(dir, "") {
			return fmt.Errorf("%s is immutable or append-only (chattr -i -a): %w", filepath.Dir(path), err)
		}
	}
	return fmt.Errorf("%s: %w", path, err)
}

// protected tells whether a file, or dir itself for "", is immutable or append-only.
func protected(dir int, name string) bool {
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	var sx unix.Statx_t
	if err := unix.Statx(dir, name, flags, unix.STATX_TYPE, &sx); err != nil {
		return false
	}
	return sx.Attributes&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) != 0
}

// RemoveEmpty removes the directory path and those above it, up to and including upTo ("" means path alone), as long
// as they are empty. It stops without an error at the first that is not; one that is not there is passed over.
func RemoveEmpty(path string, upTo string) error {
	if upTo == "" {
		upTo = path
	}
	if path != upTo && !strings.HasPrefix(path, strings.TrimSuffix(upTo, "/")+"/") {
		return fmt.Errorf("cannot remove %s up to %s: the one is not below the other", path, upTo)
	}
	for at := path; ; at = filepath.Dir(at) {
		stop, err := removeEmpty(at)
		if err != nil {
			return fmt.Errorf("cannot remove %s: %w", at, err)
		}
		if stop || at == upTo {
			return nil
		}
	}
}

func removeEmpty(path string) (stop bool, err error) {
	parent, name, err := openParent(path)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer unix.Close(parent)
	switch err := unix.Unlinkat(parent, name, unix.AT_REMOVEDIR); {
	case err == nil, errors.Is(err, unix.ENOENT):
		return false, nil
	case errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EEXIST):
		return true, nil
	case errors.Is(err, unix.ENOTDIR):
		if to, err := readlinkAt(parent, name); err == nil {
			return false, &SymlinkError{Path: path, Target: to}
		}
		return false, errors.New("it is not a directory")
	default:
		return false, removeReason(parent, name, path, err)
	}
}
