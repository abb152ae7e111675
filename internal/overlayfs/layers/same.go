package layers

import (
	"bytes"
	"context"
	"maps"

	"golang.org/x/sys/unix"
)

// same compares the two sides of a path, see [Pair.Kind].
func (w *walker) same(ctx context.Context, was, now *Entry) (bool, error) {
	switch {
	case was.Refused != nil || now.Refused != nil:
		return was.Refused != nil && now.Refused != nil, nil
	case was.Stat.Mode != now.Stat.Mode || was.Stat.Uid != now.Stat.Uid || was.Stat.Gid != now.Stat.Gid:
		return false, nil
	case was.node.meta == now.node.meta:
		return true, nil
	}
	switch now.Stat.Mode & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK:
		if was.Stat.Rdev != now.Stat.Rdev {
			return false, nil
		}
	case unix.S_IFLNK:
		from, err := was.Target()
		if err != nil {
			return false, err
		}
		if to, err := now.Target(); from != to || err != nil {
			return false, err
		}
	case unix.S_IFREG:
		if was.Stat.Size != now.Stat.Size {
			return false, nil
		}
	}
	from, err := was.xattrs()
	if err != nil {
		return false, err
	}
	to, err := now.xattrs()
	if err != nil || !maps.EqualFunc(from, to, bytes.Equal) {
		return false, err
	}
	if now.node.data == nil {
		return true, nil
	}
	return w.sameContents(ctx, was.node.data, now.node.data)
}

const chunk = 128 << 10

// sameContents compares two files of the same size. The times do not matter: who writes a file can set them back.
func (w *walker) sameContents(ctx context.Context, a, b *object) (bool, error) {
	if a == b || a.st.Dev == b.st.Dev && a.st.Ino == b.st.Ino && a.dir.layer == b.dir.layer || a.st.Size == 0 {
		return true, nil
	}
	left, err := a.open()
	if err != nil {
		return false, err
	}
	defer unix.Close(left)
	right, err := b.open()
	if err != nil {
		return false, err
	}
	defer unix.Close(right)
	if w.left == nil {
		w.left, w.right = make([]byte, chunk), make([]byte, chunk)
	}
	for at := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if a.st.Size > chunk { // a hole in both may be larger than what can be read in a lifetime
			at = min(nextData(left, at, a.st.Size), nextData(right, at, a.st.Size))
		}
		n, err := readAt(left, w.left, at)
		if err != nil {
			return false, a.fail("read", err)
		}
		m, err := readAt(right, w.right, at)
		if err != nil {
			return false, b.fail("read", err)
		}
		if !bytes.Equal(w.left[:n], w.right[:m]) {
			return false, nil
		}
		if n < chunk {
			return true, nil
		}
		at += int64(n)
	}
}

// nextData is where the next data begins, at or behind at; size if there is none. A filesystem that knows of no holes
// has data everywhere.
func nextData(fd int, at, size int64) int64 {
	next, err := unix.Seek(fd, at, unix.SEEK_DATA)
	switch err {
	case nil:
		return next
	case unix.ENXIO:
		return max(at, size)
	}
	return at
}

// readAt fills buf, or reads to the end of the file.
func readAt(fd int, buf []byte, at int64) (int, error) {
	n := 0
	for n < len(buf) {
		m, err := unix.Pread(fd, buf[n:], at+int64(n))
		if err == unix.EINTR {
			continue
		}
		if m <= 0 || err != nil {
			return n, err
		}
		n += m
	}
	return n, nil
}
