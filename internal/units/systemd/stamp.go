package systemd

import (
	"time"

	"golang.org/x/sys/unix"
)

// Stamp tells one text of a file from others, without reading it. No user can set the time of change (ctime).
type Stamp struct {
	Dev, Ino     uint64
	Size         int64
	Mtime, Ctime int64 // nanoseconds since 1970
}

// tick is more than the kernel lets pass between two readings of the clock for timestamps (current_time(), a jiffy of
// 10 ms at most).
const tick = 100 * time.Millisecond

// Settled tells whether a text that was read with this stamp will have another one when it changes. Two writes within
// a tick of the kernel's clock leave the same times, so a file that has just changed is not to be relied upon. now is
// when the stamp was taken, or earlier.
func (s Stamp) Settled(now time.Time) bool { return now.UnixNano()-s.Ctime > int64(tick) }

func stampAt(dir int, name string, flags int) (Stamp, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, flags); err != nil {
		return Stamp{}, err
	}
	return Stamp{
		Dev: st.Dev, Ino: st.Ino, Size: st.Size, Mtime: st.Mtim.Nano(), Ctime: st.Ctim.Nano(),
	}, nil
}

// readUnit reads a regular file in an open directory, unless its text is known.
func readUnit(dir int, name string, known func(name string, s Stamp) bool, buf *[]byte) (f UnitFile, err error) {
	if known != nil {
		if f.Stamp, err = stampAt(dir, name, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return UnitFile{}, err
		}
		if known(name, f.Stamp) {
			f.Unread = true
			return f, nil
		}
	}
	f.Text, err = readAt(dir, name, buf)
	return f, err
}
