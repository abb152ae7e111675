package watch

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// fileID is which inode a name stands for.
type fileID struct{ dev, ino uint64 }

// stamp is what can be told of a directory entry without reading it. Two that are equal are the same thing in the same
// state, except for what was written within one tick of the filesystem's clock: that is for the events to tell.
type stamp struct {
	id       fileID
	mode     uint32 // type and permissions
	uid, gid uint32
	size     int64 // not of directories: they change with every entry
	sec      int64 // last written, likewise
	nsec     int64
	link     string     // where a symlink leads
	failed   unix.Errno // why nothing of this is known
}

func (s stamp) is(kind uint32) bool { return s.failed == 0 && s.mode&unix.S_IFMT == kind }

// absent tells whether there is no such entry, and no reason to worry.
func (s stamp) absent() bool {
	return s.failed == unix.ENOENT || s.failed == unix.ENOTDIR
}

// lookAt looks at a path without following it. A change of atime alone changes no stamp, nor does one of ctime.
func lookAt(path string) stamp {
	var st unix.Stat_t
	for {
		err := unix.Lstat(path, &st)
		if errors.Is(err, unix.EINTR) {
			continue // network filesystems do
		}
		if err != nil {
			return stamp{failed: errno(err)}
		}
		break
	}
	s := stamp{id: fileID{st.Dev, st.Ino}, mode: st.Mode, uid: st.Uid, gid: st.Gid}
	if s.is(unix.S_IFDIR) {
		return s
	}
	s.size = st.Size
	s.sec, s.nsec = st.Mtim.Unix()
	if s.is(unix.S_IFLNK) {
		to, err := os.Readlink(path)
		if err != nil {
			return stamp{failed: errno(err)} // replaced this very moment
		}
		s.link = to
	}
	return s
}

func errno(err error) unix.Errno {
	if no, ok := errors.AsType[unix.Errno](err); ok {
		return no
	}
	if errors.Is(err, fs.ErrNotExist) {
		return unix.ENOENT
	}
	return unix.EIO
}
