package usage

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// node is what counts of an inode.
type node struct {
	id    overlayfs.FileID
	bytes int64 // on disk
	links uint32
	dir   bool
}

// level is a directory on the way down: its name in the one above, what it is, to know it again, and which of its
// subdirectories are still to be seen. A directory can have a million of these, so their names lie in one piece, each
// ended by NUL.
type level struct {
	name string
	id   overlayfs.FileID
	todo []byte
	kept int // bytes that all this takes
}

// perLevel is what a level takes, about, but for names.
const perLevel = 80

// walker goes through the tree below a directory. It holds descriptors of the top and of the current directory only,
// however deep the tree is, and comes back up by "..".
type walker struct {
	ctx   context.Context
	path  string                    // of the top, for messages
	skip  map[overlayfs.FileID]bool // directories that are left out, with all below them
	visit func(node)                // gets every inode below the top as often as it has names there
	seen  func(n int)               // gets the number of entries seen since it was last called; nil for nobody
	chunk int                       // bytes of a directory to read at a time
	room  int                       // bytes that the levels may take; 0 for any number

	skipped bool // something was left out because of skip

	top  int
	dir  int
	down []level
	buf  []byte
	kept int // bytes that the levels take
}

// walk visits all below the directory open as top, not the directory itself.
func (w *walker) walk(top int) error {
	w.top, w.dir, w.buf, w.kept = top, top, make([]byte, cmp.Or(w.chunk, 32<<10)), 0
	defer func() { w.enter(w.top) }()
	first, err := w.list()
	if err != nil {
		return err
	}
	w.down = []level{first}
	for len(w.down) > 0 {
		here := &w.down[len(w.down)-1]
		if len(here.todo) == 0 {
			if err := w.leave(); err != nil {
				return err
			}
			continue
		}
		name, rest, _ := bytes.Cut(here.todo, []byte{0})
		here.todo = rest
		fd, err := openDir(w.dir, string(name))
		switch {
		case gone(err):
			continue
		case err != nil:
			return fmt.Errorf("cannot open %s: %w", w.at(string(name)), err)
		}
		w.enter(fd)
		w.down = append(w.down, level{name: string(name)})
		last := len(w.down) - 1
		next, err := w.list()
		if err != nil {
			return err
		}
		next.name = w.down[last].name
		w.keep(&next, len(name)+perLevel)
		w.down[last] = next
	}
	return nil
}

// enter makes fd the current directory.
func (w *walker) enter(fd int) {
	if w.dir != w.top {
		_ = unix.Close(w.dir)
	}
	w.dir = fd
}

// list visits the entries of the current directory.
func (w *walker) list() (level, error) {
	var l level
	self, _, err := look(w.dir, "")
	if err != nil {
		return l, fmt.Errorf("cannot look at %s: %w", w.at(""), err)
	}
	l.id = self.id
	if _, err := unix.Seek(w.dir, 0, 0); err != nil {
		return l, fmt.Errorf("cannot list %s: %w", w.at(""), err)
	}
	for {
		if err := w.ctx.Err(); err != nil {
			return l, err
		}
		n, err := unix.Getdents(w.dir, w.buf)
		if errors.Is(err, unix.ENOENT) { // removed since it was opened
			return l, nil
		}
		if err != nil {
			return l, fmt.Errorf("cannot list %s: %w", w.at(""), err)
		}
		if n <= 0 {
			return l, nil
		}
		_, count, names := unix.ParseDirent(w.buf[:n], -1, nil)
		for _, name := range names {
			one, mounted, err := look(w.dir, name)
			switch {
			case gone(err):
				continue
			case err != nil:
				return l, fmt.Errorf("cannot look at %s: %w", w.at(name), err)
			case mounted:
				continue
			case one.dir && w.skip[one.id]:
				w.skipped = true
				continue
			}
			w.visit(one)
			if one.dir {
				l.todo = append(append(l.todo, name...), 0)
				w.keep(&l, len(name)+1)
			}
			if w.room > 0 && w.kept > w.room {
				return l, fmt.Errorf("cannot count %s: %w", w.path, errTooLarge)
			}
		}
		if w.seen != nil {
			w.seen(count)
		}
	}
}

// leave goes back to the directory above. Where the tree was rearranged meanwhile, ".." leads elsewhere; then it goes
// down again from the top, as far as things are where they were, and what has moved away is passed over.
func (w *walker) leave() error {
	w.drop()
	if len(w.down) <= 1 {
		w.enter(w.top)
		return nil
	}
	up, err := unix.Openat(w.dir, "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		self, _, lookErr := look(up, "")
		if lookErr == nil && self.id == w.down[len(w.down)-1].id {
			w.enter(up)
			return nil
		}
		_ = unix.Close(up)
	}
	return w.redescend()
}

func (w *walker) redescend() error {
	w.enter(w.top)
	for i := 1; i < len(w.down); i++ {
		fd, err := openDir(w.dir, w.down[i].name)
		if err == nil {
			var self node
			if self, _, err = look(fd, ""); err == nil && self.id == w.down[i].id {
				w.enter(fd)
				continue
			}
			_ = unix.Close(fd)
		}
		if err != nil && !gone(err) {
			return fmt.Errorf("cannot open %s: %w", w.at(w.down[i].name), err)
		}
		for len(w.down) > i {
			w.drop()
		}
	}
	return nil
}

// keep takes account of what a level takes.
func (w *walker) keep(l *level, bytes int) {
	l.kept += bytes
	w.kept += bytes
}

// drop forgets the lowest level.
func (w *walker) drop() {
	last := len(w.down) - 1
	w.kept -= w.down[last].kept
	w.down = w.down[:last]
}

// at is where name in the current directory is, shortened: a tree may be deeper than a message should be long.
func (w *walker) at(name string) string {
	parts := []string{w.path}
	const shown = 20
	for i, l := range w.down {
		if i > shown {
			parts = append(parts, "…")
			break
		}
		parts = append(parts, l.name)
	}
	return strings.TrimSuffix(filepath.Join(append(parts, name)...), "/")
}

// gone tells whether an error says that an entry is no longer what it was, or that something is mounted there.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) ||
		errors.Is(err, unix.EXDEV)
}

// openDir opens the subdirectory name of dir.
func openDir(dir int, name string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	for {
		fd, err := unix.Openat2(dir, name, &how)
		if err != unix.EINTR && err != unix.EAGAIN { // EAGAIN: a rename was seen on the way
			return fd, err
		}
	}
}

// openTop opens the top of a tree, symlinks followed, as the kernel does when it mounts. Root gets it on a copy of its
// mount, in which nothing is mounted below, as the kernel makes one for each layer. under asks for the directory that
// the mount at path hides, which only root can have.
func openTop(path string, under bool) (int, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
	if under {
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			return -1, err
		}
		above, err := openTree(filepath.Dir(real))
		if err != nil {
			return -1, fmt.Errorf("the overlay mounted at it hides it: %w", err)
		}
		defer unix.Close(above)
		return openDir(above, filepath.Base(real))
	}
	fd, err := openTree(path)
	if err != nil {
		return openat(unix.AT_FDCWD, path, flags)
	}
	defer unix.Close(fd)
	return openat(fd, ".", flags)
}

func openTree(path string) (int, error) {
	return unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_NO_AUTOMOUNT)
}

func openat(dir int, path string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, path, flags, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// look looks at an entry of dir, or at dir itself for "". mounted says that something else is mounted there.
func look(dir int, name string) (n node, mounted bool, err error) {
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	const mask = unix.STATX_TYPE | unix.STATX_NLINK | unix.STATX_INO | unix.STATX_BLOCKS
	var sx unix.Statx_t
	if err := unix.Statx(dir, name, flags, mask, &sx); err != nil {
		return node{}, false, err
	}
	n = node{
		id:    overlayfs.FileID{Dev: unix.Mkdev(sx.Dev_major, sx.Dev_minor), Ino: sx.Ino},
		bytes: int64(sx.Blocks) * 512,
		links: sx.Nlink,
		dir:   sx.Mode&unix.S_IFMT == unix.S_IFDIR,
	}
	return n, name != "" && sx.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}
