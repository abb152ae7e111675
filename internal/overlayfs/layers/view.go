package layers

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// View is one overlay's layers, open for reading. It is for one goroutine at a time.
type View struct {
	settings settings
	upper    *layer
	lower    []*layer // topmost first
	data     []*layer // data-only: found by absolute redirects alone
	index    *index   // nil where the kernel keeps none, or where nothing is to be learned from it
	listing  []byte   // for llistxattr
	open     int      // descriptors of directories
}

// Open opens the layers of c, which must have an upperdir. mountpoint is where it is mounted, "" if it is not: a layer
// at that very path lies below the mount. d are the running kernel's defaults, for the options that c does not name.
//
// Without CAP_SYS_ADMIN, the kernel hides the xattrs that say what is deleted and what moved; Open refuses then,
// unless c has userxattr.
func Open(c overlayfs.Config, mountpoint string, d overlayfs.Defaults) (*View, error) {
	v := &View{settings: settingsOf(c.Options, d), listing: make([]byte, 1024)}
	switch {
	case c.Upper == "":
		return nil, errors.New("cannot tell changes: the overlay is read-only, it has no upperdir")
	case len(c.Lower) == 0:
		return nil, errors.New("cannot tell changes: the overlay has no lowerdirs")
	case v.settings.prefix == trustedPrefix && !mayReadTrusted():
		return nil, errors.New("cannot read the layers' trusted xattrs, which say what is deleted: " +
			"that needs root (CAP_SYS_ADMIN on the host)")
	}
	ok := false
	defer func() {
		if !ok {
			v.Close()
		}
	}()
	var err error
	if v.upper, err = v.openLayer("upperdir", c.Upper, mountpoint, 0); err != nil {
		return nil, err
	}
	for i, path := range c.Lower {
		l, err := v.openLayer("lowerdir", path, mountpoint, i+1)
		if err != nil {
			return nil, err
		}
		v.lower = append(v.lower, l)
	}
	for i, path := range c.Data {
		l, err := v.openLayer("data-only lowerdir", path, mountpoint, len(c.Lower)+i+1)
		if err != nil {
			return nil, err
		}
		v.data = append(v.data, l)
	}
	if v.settings.index && c.Work != "" {
		if v.index, err = v.readIndex(c.Work, mountpoint); err != nil {
			return nil, err
		}
	}
	ok = true
	return v, nil
}

// Close closes the layers.
func (v *View) Close() {
	for _, l := range slices.Concat([]*layer{v.upper}, v.lower, v.data) {
		l.close()
	}
	v.index.close()
}

// layer is one directory tree that the overlay is made of.
type layer struct {
	path string // as the mounter wrote it
	rank int    // 0 is the upperdir, 1 the topmost lowerdir
	root *dir
	mnt  int // the private copy of the mount, which root is on
}

func (l *layer) close() {
	if l != nil {
		_ = unix.Close(l.root.fd)
		_ = unix.Close(l.mnt)
	}
}

func (v *View) openLayer(what, path, mountpoint string, rank int) (*layer, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("cannot open the %s %q: the path is relative, and to which directory only "+
			"the process knew that mounted it; mount it by absolute paths", what, path)
	}
	mnt, err := openApart(path, mountpoint)
	if err != nil {
		return nil, fmt.Errorf("cannot open the %s %s: %w", what, path, err)
	}
	l := &layer{path: path, rank: rank, mnt: mnt}
	l.root = &dir{view: v, layer: l, fd: -1}
	// O_PATH descriptors cannot be listed.
	if l.root.fd, err = openDirAt(mnt, "."); err == nil {
		err = unix.Fstat(l.root.fd, &l.root.st)
	}
	if err != nil {
		_ = unix.Close(mnt)
		if l.root.fd >= 0 {
			_ = unix.Close(l.root.fd)
		}
		return nil, fmt.Errorf("cannot open the %s %s: %w", what, path, err)
	}
	return l, nil
}

// openApart opens a layer the way the kernel does for an overlay: in a copy of its mount, without what is mounted
// below. That takes CAP_SYS_ADMIN; without it the layer is opened as it is seen.
func openApart(path, mountpoint string) (int, error) {
	// A symlink is followed: the kernel did so at the mount.
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return -1, cause(err)
	}
	if mountpoint != "" && real == filepath.Clean(mountpoint) && real != "/" {
		// The overlay hides the layer. It can be seen in a copy of what is mounted above, and nowhere else.
		above, err := openTree(filepath.Dir(real))
		if err != nil {
			return -1, fmt.Errorf("the overlay mounted at it hides it: %w", err)
		}
		defer unix.Close(above)
		return openat2(above, filepath.Base(real), unix.O_PATH|unix.O_DIRECTORY)
	}
	fd, err := openTree(real)
	if err == nil {
		return fd, nil
	}
	return openat(unix.AT_FDCWD, real, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC)
}

// openTree copies the mount that path lies on, read-only and out of everybody's sight.
func openTree(path string) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_NO_AUTOMOUNT)
	if err != nil {
		return -1, err
	}
	// Reading must leave no trace, and no device be opened; before 5.12 it is on us alone.
	_ = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{
		Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOATIME | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID,
		Attr_clr: unix.MOUNT_ATTR__ATIME,
	})
	return fd, nil
}

// cause takes away what os and filepath say themselves of the path.
func cause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
