package layers

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// dir is a directory of one layer. It is opened when it is needed and can be released at any time: deep trees have more
// directories on the way down than a process may have open.
type dir struct {
	view   *View
	layer  *layer
	parent *dir // nil for the layer's root, which stays open
	name   string
	fd     int         // -1 when it is not open
	parked bool        // closed, but soon needed again
	st     unix.Stat_t // as it was found; only this directory is opened again
}

// errMoved says that something is no longer where it was found: somebody is writing to the layer.
var errMoved = errors.New("it changed while it was read")

// vanished tells whether an error means no more than that somebody removed or replaced what was there.
func vanished(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) ||
		errors.Is(err, unix.ESTALE) || errors.Is(err, errMoved)
}

// where is the directory's path, for messages.
func (d *dir) where(name string) string {
	names := []string{name}
	at := d
	for ; at.parent != nil; at = at.parent {
		names = append(names, at.name)
	}
	names = append(names, at.layer.path)
	slices.Reverse(names)
	return fmt.Sprintf("%q", strings.TrimSuffix(strings.Join(names, "/"), "/"))
}

func (d *dir) fail(verb, name string, err error) error {
	return fmt.Errorf("cannot %s %s: %w", verb, d.where(name), err)
}

// descriptor opens the directory if it is not open. Its path is resolved again from the nearest one above that is open.
func (d *dir) descriptor() (int, error) {
	if d.fd >= 0 {
		return d.fd, nil
	}
	var names []string
	at := d
	for ; at.fd < 0; at = at.parent {
		names = append(names, at.name)
	}
	slices.Reverse(names)
	fd, err := openDeep(at.fd, names)
	if err != nil {
		return -1, d.fail("open", "", err)
	}
	if err := d.adopt(fd); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (d *dir) release() {
	if d.fd >= 0 && d.parent != nil {
		_ = unix.Close(d.fd)
		d.fd = -1
		d.view.open--
	}
}

// park releases a directory that is needed again after those below it.
func (d *dir) park() {
	d.release()
	d.parked = d.fd < 0
}

// unparkParent opens the directory above again, if it is parked: from here it is one step, from the root many. Failing
// is no harm, descriptor does it the long way.
func (d *dir) unparkParent() {
	up := d.parent
	if d.fd < 0 || up == nil || !up.parked || up.fd >= 0 {
		return
	}
	up.parked = false
	fd, err := openat(d.fd, "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOATIME|unix.O_CLOEXEC)
	if err == nil && up.adopt(fd) != nil {
		_ = unix.Close(fd)
	}
}

// adopt takes a descriptor that ought to be of the directory.
func (d *dir) adopt(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Dev != d.st.Dev || st.Ino != d.st.Ino {
		return d.fail("open", "", errMoved)
	}
	d.fd = fd
	d.view.open++
	return nil
}

// openDeep opens the directory names below the directory base. A path that the kernel would not take at once is walked
// in pieces.
func openDeep(base int, names []string) (int, error) {
	at := base
	for len(names) > 0 {
		n, length := 0, 0
		for n < len(names) && length+len(names[n])+1 < unix.PathMax {
			length += len(names[n]) + 1
			n++
		}
		fd, err := openDirAt(at, strings.Join(names[:n], "/"))
		if at != base {
			_ = unix.Close(at)
		}
		if err != nil {
			return -1, err
		}
		at, names = fd, names[n:]
	}
	return at, nil
}

// openDirAt opens a directory for reading. No access time is touched where that is permitted.
func openDirAt(at int, path string) (int, error) {
	fd, err := openat2(at, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOATIME)
	if errors.Is(err, unix.EPERM) { // O_NOATIME is for the owner and root
		fd, err = openat2(at, path, unix.O_RDONLY|unix.O_DIRECTORY)
	}
	return fd, err
}

// openat2 opens what lies below a directory, and follows no symlink and no mount on the way.
func openat2(at int, path string, flags uint64) (int, error) {
	how := unix.OpenHow{
		Flags: flags | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS |
			unix.RESOLVE_NO_XDEV,
	}
	for {
		fd, err := unix.Openat2(at, path, &how)
		if err != unix.EINTR && err != unix.EAGAIN { // EAGAIN: a rename was seen on the way
			return fd, err
		}
	}
}

func openat(at int, path string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(at, path, flags, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// list gives the names in the directory, in no order.
func (d *dir) list(names []string) ([]string, error) {
	fd, err := d.descriptor()
	if err != nil {
		return names, err
	}
	if _, err := unix.Seek(fd, 0, 0); err != nil {
		return names, d.fail("list", "", err)
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.ReadDirent(fd, buf)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return names, d.fail("list", "", err)
		case n <= 0:
			return names, nil
		default:
			_, _, names = unix.ParseDirent(buf[:n], -1, names)
		}
	}
}

// find looks at one entry. It is nil when there is none.
func (d *dir) find(name string) (*object, error) {
	fd, err := d.descriptor()
	if err != nil {
		return nil, err
	}
	o := &object{dir: d, name: name}
	switch err := unix.Fstatat(fd, name, &o.st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT); {
	case err == unix.ENOENT || err == unix.ENAMETOOLONG:
		return nil, nil
	case err != nil:
		return nil, d.fail("look at", name, err)
	}
	return o, nil
}
