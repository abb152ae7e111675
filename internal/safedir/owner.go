package safedir

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const ownerRemedy = "make it root's alone (chown root, chmod go-w)"

// CheckOwner checks that the file or directory path, and each directory above it, belong to root and can be written by
// nobody else; sticky directories of root's are fine. Symlinks are followed, and what they stand in and lead to is
// checked in the same way. The error is an *UnsafeError, or says that something could not be looked at.
//
// Who passes cannot be changed by others between this check and the reading.
func CheckOwner(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("cannot check the owner of %s: the path is not absolute", path)
	}
	const maxLinks = 40 // as the kernel
	links := 0
	done := "/"
	rest := splitPath(path)
	if err := checkOne(done); err != nil {
		return err
	}
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			done = filepath.Dir(done)
			continue
		}
		at := filepath.Join(done, name)
		var st unix.Stat_t
		if err := unix.Lstat(at, &st); err != nil {
			return fmt.Errorf("cannot check the owner of %s: %w", at, err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFLNK {
			if err := checkOne(at); err != nil {
				return err
			}
			done = at
			continue
		}
		if st.Uid != 0 {
			return &UnsafeError{Path: at, Reason: "is owned by " + userName(st.Uid), remedy: ownerRemedy}
		}
		if links++; links > maxLinks {
			return fmt.Errorf("cannot check the owner of %s: %w", path, unix.ELOOP)
		}
		to, err := os.Readlink(at)
		if err != nil {
			return fmt.Errorf("cannot check the owner of %s: %w", at, err)
		}
		if filepath.IsAbs(to) {
			done = "/"
		}
		rest = append(splitPath(to), rest...)
	}
	return nil
}

// checkOne checks one file or directory, not what is above. Root owns every component, so sticky is safe.
func checkOne(path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fmt.Errorf("cannot check the owner of %s: %w", path, err)
	}
	reason, sticky := unsafeDir(&st, 0)
	if sticky && st.Mode&unix.S_IFMT != unix.S_IFDIR { // the bit means nothing on a file
		reason = fmt.Sprintf("is writable by others than root (mode %04o)", st.Mode&0o7777)
	}
	if reason != "" {
		return &UnsafeError{Path: path, Reason: reason, remedy: ownerRemedy}
	}
	return nil
}

// splitPath splits at slashes and leaves out what says nothing. ".." stays: behind a symlink it is not the text's
// parent.
func splitPath(path string) []string {
	var names []string
	for name := range strings.SplitSeq(path, "/") {
		if name != "" && name != "." {
			names = append(names, name)
		}
	}
	return names
}
