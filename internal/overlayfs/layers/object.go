package layers

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// object is an entry of a layer's directory.
type object struct {
	dir    *dir
	name   string
	st     unix.Stat_t
	listed bool
	names  []string // of its xattrs, once listed
}

func (o *object) kind() uint32 { return o.st.Mode & unix.S_IFMT }
func (o *object) isDir() bool  { return o.kind() == unix.S_IFDIR }

// sub is the directory of that entry.
func (o *object) sub() *dir {
	return &dir{view: o.dir.view, layer: o.dir.layer, parent: o.dir, name: o.name, fd: -1, st: o.st}
}

func (o *object) fail(verb string, err error) error { return o.dir.fail(verb, o.name, err) }

// procPath is a path to the entry that does not follow it if it is a symlink: system calls for xattrs by descriptor
// refuse O_PATH descriptors, and any other open could have effects.
func (o *object) procPath() (string, error) {
	fd, err := o.dir.descriptor()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", fd, o.name), nil
}

// maxAttr is the most that the kernel keeps in one xattr, and in their list.
const maxAttr = 64 << 10

// attrNames lists the entry's xattrs, the overlay's own included.
func (o *object) attrNames() ([]string, error) {
	if o.listed {
		return o.names, nil
	}
	path, err := o.procPath()
	if err != nil {
		return nil, err
	}
	v := o.dir.view
	var n int
	for {
		n, err = unix.Llistxattr(path, v.listing)
		if !errors.Is(err, unix.ERANGE) || len(v.listing) >= maxAttr {
			break
		}
		v.listing = make([]byte, maxAttr)
	}
	switch {
	case errors.Is(err, unix.ENOTSUP):
		n = 0
	case err != nil:
		return nil, o.fail("list the xattrs of", err)
	}
	for name := range bytes.SplitSeq(v.listing[:n], []byte{0}) {
		if len(name) > 0 {
			o.names = append(o.names, string(name))
		}
	}
	o.listed = true
	return o.names, nil
}

// attr reads one xattr.
func (o *object) attr(name string) ([]byte, error) {
	path, err := o.procPath()
	if err != nil {
		return nil, err
	}
	for buf := make([]byte, 256); ; buf = make([]byte, maxAttr) {
		n, err := unix.Lgetxattr(path, name, buf)
		switch {
		case err == nil:
			return buf[:n], nil
		case !errors.Is(err, unix.ERANGE) || len(buf) == maxAttr:
			return nil, o.fail("read the xattr "+name+" of", err)
		}
	}
}

// mark reads one of the overlay's own xattrs; it is nil where there is none.
func (o *object) mark(name string) ([]byte, error) {
	name = o.dir.view.settings.prefix + name
	names, err := o.attrNames()
	if err != nil || !slices.Contains(names, name) {
		return nil, err
	}
	value, err := o.attr(name)
	if errors.Is(err, unix.ENODATA) { // removed meanwhile
		return nil, nil
	}
	if value == nil && err == nil {
		value = []byte{}
	}
	return value, err
}

// hides tells whether the entry is a whiteout. The kernel makes devices; tools that may not (6.7) mark empty files.
func (o *object) hides() (bool, error) {
	switch o.kind() {
	case unix.S_IFCHR:
		return o.st.Rdev == 0, nil
	case unix.S_IFREG:
		if o.st.Size == 0 {
			value, err := o.mark("whiteout")
			return value != nil, err
		}
	}
	return false, nil
}

// target reads a symlink.
func (o *object) target() (string, error) {
	fd, err := o.dir.descriptor()
	if err != nil {
		return "", err
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, o.name, buf)
	if err != nil {
		return "", o.fail("read the symlink", err)
	}
	return string(buf[:n]), nil
}

// open opens a regular file for reading. What replaced it since it was looked at is never opened: a FIFO would block,
// and a device might act.
func (o *object) open() (int, error) {
	at, err := o.dir.descriptor()
	if err != nil {
		return -1, err
	}
	path, err := openat(at, o.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if err != nil {
		return -1, o.fail("open", err)
	}
	defer unix.Close(path)
	var st unix.Stat_t
	if err := unix.Fstat(path, &st); err != nil {
		return -1, o.fail("look at", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Dev != o.st.Dev || st.Ino != o.st.Ino {
		return -1, o.fail("open", errMoved)
	}
	link := fmt.Sprintf("/proc/self/fd/%d", path)
	fd, err := openat(unix.AT_FDCWD, link, unix.O_RDONLY|unix.O_NOATIME|unix.O_CLOEXEC)
	if errors.Is(err, unix.EPERM) {
		fd, err = openat(unix.AT_FDCWD, link, unix.O_RDONLY|unix.O_CLOEXEC)
	}
	if err != nil {
		return -1, o.fail("open", err)
	}
	return fd, nil
}
