package safedir

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Attr is what a directory made here gets.
type Attr struct {
	UID, GID uint32
	Mode     fs.FileMode
}

const trustRemedy = "make it root's alone (chown root, chmod go-w), or set allow_unsafe_parent = true if you trust " +
	"everybody who can write there"

// Maker makes many directories below one root. It remembers which ones it found to be root's alone, so that what
// thousands of paths share is checked once: nobody but root can have changed that. It may be used by several
// goroutines at a time, and is to live no longer than one apply.
type Maker struct {
	root string

	mu   sync.Mutex
	safe map[string]bool // directory → whether it is sticky; only those that were checked
}

// NewMaker makes a Maker for the tree below root.
func NewMaker(root string) *Maker { return &Maker{root: root, safe: make(map[string]bool)} }

// Make makes the directory path and the missing ones above it (root's, 0755) below root, which is "/" or the top of a
// tree that is to become one. It returns the topmost directory it made, as a path like the one given, "" if all were
// there. A path that is there already keeps its owner and mode.
//
// Every directory from root down to the one above path must belong to root and be writable by nobody else, else the
// error is an *UnsafeError; allowUnsafe lifts this. Symlinks are never followed: *SymlinkError. The error may come
// with directories made before it.
func (m *Maker) Make(path string, attr Attr, allowUnsafe bool) (created string, err error) {
	w := walk{Maker: m, trusted: allowUnsafe}
	err = w.to(path, attr)
	if err != nil {
		err = fmt.Errorf("cannot make directory %s: %w", path, err)
	}
	return w.created, err
}

// walk goes down to one directory.
type walk struct {
	*Maker
	trusted bool
	created string
}

func (w *walk) to(path string, attr Attr) error {
	if err := checkPath(path); err != nil {
		return err
	}
	dir, at, err := w.start(path)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(dir) }()
	self := uint32(os.Geteuid())
	for at != path {
		name, _, more := strings.Cut(strings.TrimPrefix(path[len(at):], "/"), "/")
		sticky, err := w.check(dir, at, self)
		if err != nil {
			return err
		}
		at = filepath.Join(at, name)
		want := Attr{UID: self, GID: uint32(os.Getegid()), Mode: 0o755}
		if !more {
			want = attr
		}
		next, made, err := enter(dir, name, filepath.Join(w.root, at), want)
		if made && w.created == "" {
			w.created = at
		}
		if err != nil {
			return err
		}
		_ = unix.Close(dir)
		dir = next
		if sticky && !more && !made {
			return checkEntry(dir, filepath.Join(w.root, at), self)
		}
	}
	return nil
}

// start opens the nearest directory above path that is known to be safe, or the root.
func (w *walk) start(path string) (dir int, at string, err error) {
	// The root is the caller's word and may be reached through a symlink; what is below it may not.
	dir, err = unix.Open(w.root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, "", fmt.Errorf("cannot open %s: %w", w.root, err)
	}
	if path == "/" {
		return dir, path, nil
	}
	for at = filepath.Dir(path); at != "/"; at = filepath.Dir(at) {
		if _, known := w.known(at); !known {
			continue
		}
		if fd, err := openBeneath(dir, at[1:], unix.O_PATH|unix.O_DIRECTORY, 0); err == nil {
			_ = unix.Close(dir)
			return fd, at, nil
		}
	}
	return dir, at, nil
}

func (m *Maker) known(path string) (sticky, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	sticky, known = m.safe[path]
	return sticky, known
}

// check checks the directory at, open as dir, in which an entry is to be made or looked up.
func (w *walk) check(dir int, at string, self uint32) (sticky bool, err error) {
	if w.trusted {
		return false, nil
	}
	if sticky, known := w.known(at); known {
		return sticky, nil
	}
	sticky, err = checkDir(dir, filepath.Join(w.root, at), self)
	if err == nil {
		w.mu.Lock()
		w.safe[at] = sticky
		w.mu.Unlock()
	}
	return sticky, err
}

// checkDir checks a directory that entries are made in or looked up in. In a sticky one they must be root's, too;
// that goes without saying for all but the last, which are checked as directories themselves.
func checkDir(dir int, path string, self uint32) (sticky bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return false, fmt.Errorf("cannot look at %s: %w", path, err)
	}
	reason, sticky := unsafeDir(&st, self)
	if reason != "" {
		return false, &UnsafeError{Path: path, Reason: reason, remedy: trustRemedy}
	}
	return sticky, nil
}

// checkEntry checks the last component where it stands in a sticky directory: its owner could replace it.
func checkEntry(dir int, path string, self uint32) error {
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return fmt.Errorf("cannot look at %s: %w", path, err)
	}
	if st.Uid != 0 && st.Uid != self {
		return &UnsafeError{
			Path: path, remedy: trustRemedy,
			Reason: "belongs to " + userName(st.Uid) + ", in a directory that all may write to",
		}
	}
	return nil
}

// enter opens the directory name in dir, which it makes if it is not there.
func enter(dir int, name, full string, attr Attr) (fd int, made bool, err error) {
	for range 3 { // who removes it as fast as we make it is not waited for
		fd, err = openBeneath(dir, name, unix.O_PATH|unix.O_DIRECTORY, 0)
		switch {
		case err == nil:
			return fd, made, nil
		case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR): // a symlink is the one or the other
			if to, err := readlinkAt(dir, name); err == nil {
				return -1, made, &SymlinkError{Path: full, Target: to}
			}
			return -1, made, fmt.Errorf("%s is not a directory", full)
		case !errors.Is(err, unix.ENOENT) || made:
			return -1, made, fmt.Errorf("cannot open %s: %w", full, err)
		}
		err = create(dir, name, attr)
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return -1, false, fmt.Errorf("cannot make %s: %w", full, err)
		}
		made = err == nil
	}
	return -1, made, fmt.Errorf("cannot open %s: %w", full, err)
}

// create makes the directory name in dir as attr says, or nothing.
func create(dir int, name string, attr Attr) error {
	mode := unixMode(attr.Mode)
	if attr.UID == uint32(os.Geteuid()) {
		if err := unix.Mkdirat(dir, name, mode&0o777); err != nil {
			return err
		}
		return dress(dir, name, attr, mode)
	}
	// Made aside and renamed, so that a kill in between leaves no directory with the wrong owner, which the next run
	// would take for one that somebody wanted so. The name is the same each time, so a leftover does not stay.
	aside := asideName(name)
	if err := unix.Unlinkat(dir, aside, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("cannot remove the leftover %s: %w", aside, err)
	}
	if err := unix.Mkdirat(dir, aside, 0o700); err != nil {
		return err
	}
	if err := dress(dir, aside, attr, mode); err != nil {
		return err
	}
	err := unix.Renameat2(dir, aside, dir, name, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) { // the filesystem cannot; rename(2) replaces nothing but an empty directory
		err = unix.Renameat(dir, aside, dir, name)
	}
	if err != nil {
		_ = unix.Unlinkat(dir, aside, unix.AT_REMOVEDIR)
	}
	return err
}

// dress gives a new directory its owner and mode; mkdirat(2) took the umask off, and a setgid directory above gave it
// a group. One that cannot be dressed is removed.
func dress(dir int, name string, attr Attr, mode uint32) error {
	err := func() error {
		fd, err := openBeneath(dir, name, unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_NO_XDEV)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		if st.Uid != uint32(os.Geteuid()) {
			return fmt.Errorf("somebody put another directory in its place, owned by %s", userName(st.Uid))
		}
		if st.Uid != attr.UID || st.Gid != attr.GID {
			if err := unix.Fchown(fd, int(attr.UID), int(attr.GID)); err != nil {
				return fmt.Errorf("cannot give it to %d:%d: %w", attr.UID, attr.GID, err)
			}
		}
		if st.Mode&0o7777 != mode {
			return unix.Fchmod(fd, mode)
		}
		return nil
	}()
	if err != nil {
		_ = unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
	}
	return err
}

// asideName is short whatever the name: that may have the full 255 bytes.
func asideName(name string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return fmt.Sprintf(".overlayd-new-%016x", h.Sum64())
}

func unixMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	for bit, unixBit := range map[fs.FileMode]uint32{
		fs.ModeSetuid: unix.S_ISUID, fs.ModeSetgid: unix.S_ISGID, fs.ModeSticky: unix.S_ISVTX,
	} {
		if m&bit != 0 {
			mode |= unixBit
		}
	}
	return mode
}
