package watch

import (
	"errors"

	"golang.org/x/sys/unix"
)

// BeingWritten tells whether some process, this one included, has the file at path open for writing, or mapped so. It
// asks for a read lease (F_SETLEASE, fcntl(2)), which the kernel refuses with EAGAIN in that case, and gives it back at
// once. The answer is about the moment of the call.
//
// It is not known (writing is false then) if there is no such file or it is not a regular one, if it can't be read, if
// it belongs to somebody else and the caller lacks CAP_LEASE, and on filesystems without leases, such as FUSE and most
// network filesystems, or where other hosts write.
//
// A process that opens the file for writing during the microseconds of the lease waits for them, except one that asked
// for O_NONBLOCK: it gets EWOULDBLOCK.
func BeingWritten(path string) (writing, known bool) {
	var st unix.Stat_t
	// Opening a device can do things: only a regular file is opened.
	if err := unix.Stat(path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false, false
	}
	// Without O_NONBLOCK it would wait for the lease of somebody else, and forever for a FIFO that took the file's place.
	// The kernel breaks a lease by a signal to us, SIGIO, which the Go runtime ignores.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, false
	}
	defer unix.Close(fd) // gives the lease back
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	if errors.Is(err, unix.EAGAIN) {
		return true, true
	}
	return false, err == nil
}
