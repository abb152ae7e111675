package systemd

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// openBelow opens what is at a path below root, "" being the host's. Symlinks on the way, absolute ones too, stay
// below root: those of an image mean files of the image.
func openBelow(root, rel string, flags uint64) (*os.File, error) {
	if root == "" {
		root = "/"
	}
	top, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(top)
	how := unix.OpenHow{
		Flags:   flags | unix.O_RDONLY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	path := joinRoot(root, rel)
	for {
		fd, err := unix.Openat2(top, rel, &how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), path), nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			// EAGAIN: a rename anywhere on the machine raced the walk (openat2(2)).
			continue
		}
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
}

func openDir(root, rel string) (*os.File, error) { return openBelow(root, rel, unix.O_DIRECTORY) }

// makeDir opens a directory below root, and makes what is missing of it.
func makeDir(root, rel string) (*os.File, error) {
	dir, err := openDir(root, rel)
	if !errors.Is(err, fs.ErrNotExist) {
		return dir, err
	}
	parentRel, name := ".", rel
	if i := strings.LastIndexByte(rel, '/'); i >= 0 {
		parentRel, name = rel[:i], rel[i+1:]
	}
	if name == "." {
		return nil, err
	}
	parent, err := makeDir(root, parentRel)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	return makeDirIn(parent, name)
}

// makeDirIn opens a directory in another one and makes it if need be.
func makeDirIn(parent *os.File, name string) (*os.File, error) {
	path := parent.Name() + "/" + name
	err := unix.Mkdirat(int(parent.Fd()), name, 0o755)
	made := err == nil
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, &fs.PathError{Op: "mkdir", Path: path, Err: err}
	}
	dir, err := openIn(parent, name)
	if err != nil {
		return nil, err
	}
	if made {
		// The umask may have taken bits.
		if err := errors.Join(dir.Chmod(0o755), parent.Sync()); err != nil {
			dir.Close()
			return nil, err
		}
	}
	return dir, nil
}

// openIn opens a directory in another one, but no symlink.
func openIn(parent *os.File, name string) (*os.File, error) {
	path := parent.Name() + "/" + name
	fd, err := unix.Openat(int(parent.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

func joinRoot(root, rel string) string {
	return strings.TrimRight(root, "/") + "/" + rel
}

// readAt reads a regular file in an open directory, without following a link at its name. The buffer is reused; what
// comes back is a copy.
func readAt(dir int, name string, buf *[]byte) ([]byte, error) {
	// O_NONBLOCK: the name may have become a FIFO since it was listed.
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return readFD(fd, buf)
}

// readFD reads a file to its end. A read that comes up short is the end of a regular file, which saves a call for each
// of thousands of units.
func readFD(fd int, buf *[]byte) ([]byte, error) {
	if len(*buf) == 0 {
		*buf = make([]byte, 64<<10)
	}
	total := 0
	for {
		n, err := unix.Read(fd, (*buf)[total:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		total += n
		if total < len(*buf) {
			return append(make([]byte, 0, total), (*buf)[:total]...), nil
		}
		*buf = append(*buf, make([]byte, len(*buf))...)
	}
}

// linkAt reads a symlink in an open directory; ok is false for what is none.
func linkAt(dir int, name string) (target string, ok bool, err error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	if errors.Is(err, unix.EINVAL) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	return string(buf[:n]), true, nil
}
