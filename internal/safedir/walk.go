package safedir

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// UnsafeError says that somebody besides root has a say in what a path leads to.
type UnsafeError struct {
	Path   string // the component in question
	Reason string
	remedy string
}

// Error says which component it is, why, and what to do.
func (e *UnsafeError) Error() string {
	text := e.Path + " " + e.Reason
	if e.remedy != "" {
		text += "; " + e.remedy
	}
	return text
}

// SymlinkError says that a component of a path is a symlink, which is not followed.
type SymlinkError struct {
	Path, Target string
}

// Error says where the link leads.
func (e *SymlinkError) Error() string {
	return fmt.Sprintf("%s is a symlink to %s and is not followed; name the real path", e.Path, e.Target)
}

// openBeneath opens one component of a directory, or a relative path, by descriptor.
func openBeneath(dir int, name string, flags uint64, resolve uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | resolve,
	}
	for {
		fd, err := unix.Openat2(dir, name, &how)
		if err != unix.EINTR && err != unix.EAGAIN { // EAGAIN: a rename was seen on the way
			return fd, err
		}
	}
}

// openDir opens the existing directory path, no component of which may be a symlink.
func openDir(path string, flags uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(unix.AT_FDCWD, path, &how)
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
			continue
		case err == unix.ELOOP:
			return -1, symlinkIn(path)
		case err != nil:
			return -1, err
		}
		return fd, nil
	}
}

// symlinkIn finds the topmost component of path that is a symlink.
func symlinkIn(path string) error {
	var err error = unix.ELOOP
	for at := filepath.Clean(path); ; at = filepath.Dir(at) {
		if to, e := os.Readlink(at); e == nil {
			err = &SymlinkError{Path: at, Target: to}
		}
		if at == "/" || at == "." {
			return err
		}
	}
}

func readlinkAt(dir int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// checkPath refuses a path that is not absolute and clean.
func checkPath(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return errors.New("the path is not absolute and clean")
	}
	return nil
}

// unsafeDir says why entries of a directory are not for root alone to make and replace. A sticky directory is safe
// for those entries that belong to root, which is the caller's to check. owner is who counts as root.
func unsafeDir(st *unix.Stat_t, owner uint32) (reason string, sticky bool) {
	switch {
	case st.Uid != 0 && st.Uid != owner:
		return "is owned by " + userName(st.Uid), false
	case st.Mode&0o022 != 0 && st.Mode&unix.S_ISVTX == 0:
		return fmt.Sprintf("is writable by others than root (mode %04o)", st.Mode&0o7777), false
	}
	return "", st.Mode&0o022 != 0
}

func userName(uid uint32) string {
	if u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10)); err == nil {
		return fmt.Sprintf("%s (uid %d)", u.Username, uid)
	}
	return fmt.Sprintf("uid %d", uid)
}
