package commit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// directory writes a layer as the kernel reads it from a lowerdir. What it writes to is seen by root alone, so names
// are used without suspicion.
type directory struct {
	ctx    context.Context
	prefix string // of the overlay's own xattrs
	root   string // its path
	copied func(n int64, hole bool)

	top  int    // the root, open
	path string // of the directory that is open as at, beside the root
	at   int    // -1 for none

	made []*entry // directories, to get their attributes when all is in them
}

// newDirectory makes the root of a layer.
func newDirectory(ctx context.Context, root string, w *writer) (*directory, error) {
	d := &directory{ctx: ctx, prefix: w.prefix, root: root, copied: w.copied, at: -1}
	if err := os.Mkdir(root, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make %s: %w", root, bare(err))
	}
	var err error
	if d.top, err = openDir(unix.AT_FDCWD, root); err != nil {
		return nil, fmt.Errorf("cannot open %s: %w", root, err)
	}
	if err := d.probe(); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *directory) close() {
	_ = unix.Close(d.top)
	if d.at >= 0 {
		_ = unix.Close(d.at)
	}
}

func openDir(at int, name string) (int, error) {
	return unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// in opens a directory of the layer. The last one stays open: most of what comes next is in it, too.
func (d *directory) in(dir string) (int, error) {
	if dir == "/" {
		return d.top, nil
	}
	if d.at >= 0 && d.path == dir {
		return d.at, nil
	}
	if d.at >= 0 {
		_ = unix.Close(d.at)
		d.at = -1
	}
	at := d.top
	for name := range strings.SplitSeq(dir[1:], "/") { // one by one: a whole path may be too long for the kernel
		next, err := openDir(at, name)
		if at != d.top {
			_ = unix.Close(at)
		}
		if err != nil {
			return -1, err
		}
		at = next
	}
	d.path, d.at = dir, at
	return at, nil
}

// probe tries out what every layer may need, before anything is copied.
func (d *directory) probe() error {
	const name = ".probe"
	where := filepath.Dir(filepath.Dir(d.root))
	remedy := "choose a directory on a filesystem such as ext4, xfs, btrfs or tmpfs of this host, or use --archive"
	if err := unix.Mknodat(d.top, name, unix.S_IFCHR, 0); err != nil {
		return fmt.Errorf("cannot make a whiteout (a character device 0:0) on the filesystem of %s: %w; %s",
			where, err, remedy)
	}
	err := errors.Join(unix.Unlinkat(d.top, name, 0), unix.Mkdirat(d.top, name, 0o700))
	if err != nil {
		return fmt.Errorf("cannot write to %s: %w", d.root, err)
	}
	at := procPath(d.top, name)
	err = unix.Lsetxattr(at, d.prefix+"opaque", []byte("y"), 0)
	if err == nil {
		_, err = unix.Lgetxattr(at, d.prefix+"opaque", nil)
	}
	if err != nil {
		return fmt.Errorf("cannot keep the xattr %sopaque on the filesystem of %s: %w; %s", d.prefix, where, err, remedy)
	}
	return unix.Unlinkat(d.top, name, unix.AT_REMOVEDIR)
}

// procPath names an entry of a directory to those system calls that take no descriptor.
func procPath(dir int, name string) string { return "/proc/self/fd/" + strconv.Itoa(dir) + "/" + name }

func (d *directory) add(e *entry) error {
	if e.path == "/" {
		d.made = append(d.made, e)
		return nil
	}
	dir, err := d.in(path.Dir(e.path))
	if err == nil {
		err = d.make(dir, e)
	}
	switch {
	case err != nil || e.whiteout || e.link != "":
	case e.isDir():
		d.made = append(d.made, e)
	default:
		err = d.attributes(dir, e.name(), e)
	}
	if err == nil {
		return nil
	}
	remedy := ""
	if kind := e.stat.Mode & unix.S_IFMT; (kind == unix.S_IFCHR || kind == unix.S_IFBLK) && errors.Is(err, unix.EPERM) {
		remedy = "; devices cannot be made here (a container?): use --archive, or run overlayd on the host"
	}
	return fmt.Errorf("cannot write %s to the new layer: %w%s", shown(e.path), err, remedy)
}

func (d *directory) make(dir int, e *entry) error {
	switch kind := e.stat.Mode & unix.S_IFMT; {
	case e.whiteout:
		err := unix.Mknodat(dir, e.name(), unix.S_IFCHR, 0)
		if err == nil {
			// Of no time, so that the same changes give the same layer.
			err = unix.UtimesNanoAt(dir, e.name(), e.times(), unix.AT_SYMLINK_NOFOLLOW)
		}
		return err
	case e.isDir():
		return unix.Mkdirat(dir, e.name(), 0o700)
	case e.link != "":
		return d.link(dir, e)
	case kind == unix.S_IFREG:
		return d.file(dir, e)
	case kind == unix.S_IFLNK:
		return unix.Symlinkat(e.target, dir, e.name())
	default:
		return unix.Mknodat(dir, e.name(), kind|0o600, int(e.stat.Rdev))
	}
}

func (d *directory) link(dir int, e *entry) error {
	// Opening the other directory must not close this one.
	to, err := unix.FcntlInt(uintptr(dir), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	from, err := d.in(path.Dir(e.link))
	if err == nil {
		err = unix.Linkat(from, path.Base(e.link), to, e.name(), 0)
	}
	if err != nil {
		return fmt.Errorf("link to %s: %w", shown(e.link), err)
	}
	return nil
}

func (d *directory) file(dir int, e *entry) error {
	from, err := e.contents()
	if err != nil {
		return err
	}
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(dir, e.name(), flags, 0o600)
	if err != nil {
		return errors.Join(err, from.Close())
	}
	to := os.NewFile(uintptr(fd), e.path)
	err = d.copySparse(to, from.File, e.stat.Size)
	return errors.Join(err, to.Close(), from.end())
}

// copySparse copies the first size bytes and leaves holes where from has some.
func (d *directory) copySparse(to, from *os.File, size int64) error {
	for at := int64(0); at < size; {
		data, end := extent(from, at, size)
		if _, err := from.Seek(data, io.SeekStart); err != nil {
			return err
		}
		if _, err := to.Seek(data, io.SeekStart); err != nil {
			return err
		}
		d.copied(data-at, true)
		for at = data; at < end; {
			if err := d.ctx.Err(); err != nil {
				return err
			}
			// Between two files this is copy_file_range(2), which shares blocks where the filesystem can.
			n, err := io.CopyN(to, from, min(end-at, chunk))
			at += n
			d.copied(n, false)
			if errors.Is(err, io.EOF) { // it became shorter meanwhile, which end will find out
				d.copied(size-at, true)
				return to.Truncate(size)
			}
			if err != nil {
				return bare(err)
			}
		}
	}
	return bare(to.Truncate(size))
}

// chunk is how much is copied between two looks at whether to go on.
const chunk = 16 << 20

// extent returns where the next data at or after at begins and ends. Where the filesystem cannot tell, all is data.
func extent(f *os.File, at, size int64) (data, end int64) {
	data, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO): // nothing but a hole
		return size, size
	case err != nil:
		return at, size
	}
	end, err = unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE)
	if err != nil || end <= data {
		end = size
	}
	return min(data, size), min(end, size)
}

// finish gives directories their attributes. Before all is in them a default ACL would be inherited, a time change.
func (d *directory) finish() error {
	for _, e := range slices.Backward(d.made) {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		dir, name := d.top, "."
		var err error
		if e.path != "/" {
			name = e.name()
			dir, err = d.in(path.Dir(e.path))
		}
		if err == nil && e.opaque {
			err = unix.Lsetxattr(procPath(dir, name), d.prefix+"opaque", []byte("y"), 0)
		}
		if err == nil {
			err = d.attributes(dir, name, e)
		}
		if err != nil {
			return fmt.Errorf("cannot give %s its attributes in the new layer: %w", shown(e.path), err)
		}
	}
	return nil
}

// attributes come last: writing and chown take away capabilities and set-user-ID bits, all of it changes the time.
func (d *directory) attributes(dir int, name string, e *entry) error {
	if err := unix.Fchownat(dir, name, int(e.stat.Uid), int(e.stat.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("chown: %w", err)
	}
	for _, xattr := range e.xattrNames() {
		if err := unix.Lsetxattr(procPath(dir, name), d.stored(xattr), []byte(e.xattrs[xattr]), 0); err != nil {
			return fmt.Errorf("xattr %s: %w", shown(xattr), err)
		}
	}
	if e.stat.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(dir, name, e.stat.Mode&0o7777, 0); err != nil {
			return fmt.Errorf("chmod: %w", err)
		}
	}
	if err := unix.UtimesNanoAt(dir, name, e.times(), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set the time: %w", err)
	}
	return nil
}

// stored is how a layer keeps an xattr of the client's: one that would be a mark of the overlay's is escaped, as the
// kernel does since 6.7.
func (d *directory) stored(name string) string {
	if rest, ok := strings.CutPrefix(name, d.prefix); ok {
		return d.prefix + "overlay." + rest
	}
	return name
}
