package host

import (
	"crypto/sha256"
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// Beside the number that the mount table shows, and that is given out again, each mount has one that no other mount has
// had since boot. They grow, and listmount(2) lists them in order. So whether a mount is one that was there before can
// be told in a fraction of the time that the text of the table takes.

// uniqueMountID is STATX_MNT_ID_UNIQUE, Linux 6.8.
const uniqueMountID = 0x4000

// mountRequest is struct mnt_id_req.
type mountRequest struct {
	size, spare uint32
	mount       uint64
	param       uint64 // listmount: the last mount that is known; statmount: what is asked for
	namespace   uint64 // 0 for our own; Linux 6.11
}

// listMounts calls f with the unique numbers of the mounts of a namespace that are greater than last, in order. ok is
// false where the kernel or its guards (seccomp) do not answer: Linux 6.8 does for our own namespace, 6.11 for others.
func listMounts(namespace, last uint64, f func(ids []uint64)) (ok bool) {
	const lsmtRoot = ^uint64(0)
	req := mountRequest{size: 32, mount: lsmtRoot, param: last, namespace: namespace}
	if namespace == 0 {
		req.size = 24 // as Linux 6.8 knows it
	}
	ids := make([]uint64, 4096)
	for {
		n, _, errno := unix.Syscall6(unix.SYS_LISTMOUNT, uintptr(unsafe.Pointer(&req)), //nolint:gosec // no wrapper
			uintptr(unsafe.Pointer(&ids[0])), uintptr(len(ids)), 0, 0, 0) //nolint:gosec // as above
		if errno != 0 {
			return false
		}
		f(ids[:n])
		if int(n) < len(ids) {
			return true
		}
		req.param = ids[n-1]
	}
}

// numberInTable gives the number that the mount table shows for a mount of our own namespace.
func numberInTable(unique uint64) (id int, ok bool) {
	const (
		basic = 2 // STATMOUNT_MNT_BASIC
		at    = 56
	)
	req := mountRequest{size: 24, mount: unique, param: basic}
	buf := make([]byte, 512)                                                        // struct statmount, without texts
	_, _, errno := unix.Syscall6(unix.SYS_STATMOUNT, uintptr(unsafe.Pointer(&req)), //nolint:gosec // no wrapper
		uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0, 0, 0) //nolint:gosec // as above
	if errno != 0 || binary.NativeEndian.Uint64(buf[8:])&basic == 0 {
		return 0, false
	}
	return int(binary.NativeEndian.Uint32(buf[at:])), true
}

// mountSet stands for the set of mounts that a process sees. Two sets with the same sum are the same mounts, and those
// of overlays have the layers they had.
type mountSet struct {
	namespace uint64            // number of the namespace, not given out again either
	sum       [sha256.Size]byte // of the unique numbers of its mounts

	// The root directory of the process. Its mount table shows what is mounted below.
	rootMount uint64
	root      overlayfs.FileID
}

// mountsOf asks the kernel for the mounts that a process sees. ok is false where it does not answer.
func mountsOf(pid int) (set mountSet, ok bool) {
	fd, err := unix.Open(procDir(pid)+"ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return mountSet{}, false
	}
	defer unix.Close(fd)
	var root unix.Statx_t
	const flags = unix.AT_STATX_DONT_SYNC | unix.AT_NO_AUTOMOUNT
	err = unix.Statx(unix.AT_FDCWD, procDir(pid)+"root", flags, unix.STATX_INO|uniqueMountID, &root)
	if err != nil || root.Mask&uniqueMountID == 0 {
		return mountSet{}, false
	}
	set.rootMount = root.Mnt_id
	set.root = overlayfs.FileID{Dev: unix.Mkdev(root.Dev_major, root.Dev_minor), Ino: root.Ino}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.NS_GET_MNTNS_ID,
		uintptr(unsafe.Pointer(&set.namespace))) //nolint:gosec // there is no wrapper for 64 bits
	if errno != 0 || set.namespace == 0 {
		return mountSet{}, false
	}
	sum := sha256.New()
	var text []byte
	ok = listMounts(set.namespace, 0, func(ids []uint64) {
		text = text[:0]
		for _, id := range ids {
			text = binary.NativeEndian.AppendUint64(text, id)
		}
		sum.Write(text)
	})
	sum.Sum(set.sum[:0])
	return set, ok
}
