package host

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// UpperError says that a filesystem cannot hold an upperdir.
type UpperError struct {
	Dir    string
	Cause  string
	Remedy string
	Err    error // what the kernel said, if it was asked
}

// Error says what is wrong and what to do.
func (e *UpperError) Error() string {
	return fmt.Sprintf("cannot keep an upperdir in %s: %s; %s", e.Dir, e.Cause, e.Remedy)
}

// Unwrap returns what the kernel said.
func (e *UpperError) Unwrap() error { return e.Err }

const (
	elsewhere = "put upperdir and workdir on a local filesystem such as ext4, xfs or btrfs"
	noXattr   = "its filesystem keeps no trusted.* attributes, so deleted and renamed directories would come back"
)

// UpperTrials tries out whether directories can hold an upperdir, once in each directory where a trial takes place:
// below it a filesystem, its quota and its flags are the same for all. The zero value is ready; one goroutine may use it
// at a time, and for no longer than a moment, since a filesystem can change.
type UpperTrials struct{ passed map[place]bool }

// place is where a trial takes place.
type place struct{ dev, ino, mount uint64 }

// Check is [CheckUpper], but for what has passed.
func (t *UpperTrials) Check(dir string) error {
	fd, err := trialDir(dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var sx unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_MNT_ID, &sx); err != nil {
		return fmt.Errorf("cannot look at the filesystem of %s: %w", dir, err)
	}
	at := place{dev: unix.Mkdev(sx.Dev_major, sx.Dev_minor), ino: sx.Ino, mount: sx.Mnt_id}
	if t.passed[at] {
		return nil
	}
	if err := tryUpper(dir, fd); err != nil {
		return err
	}
	if t.passed == nil {
		t.passed = map[place]bool{}
	}
	t.passed[at] = true
	return nil
}

// CheckUpper tries out whether the filesystem of dir (or of the nearest directory above that exists) can hold an
// upperdir. It makes a directory for that and removes it. Where dir is not a mountpoint the trial takes place beside
// it, not in it: an upperdir that is mounted must not change beneath the overlay. The error is a *UpperError,
// ErrNotPermitted, or says that no trial could be made.
func CheckUpper(dir string) error { return new(UpperTrials).Check(dir) }

// tryUpper makes the trial for dir in the directory that is open as place.
func tryUpper(dir string, place int) error {
	refuse := func(cause, remedy string, err error) error {
		return &UpperError{Dir: dir, Cause: cause, Remedy: remedy, Err: err}
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(place, &fs); err != nil {
		return fmt.Errorf("cannot look at the filesystem of %s: %w", dir, err)
	}
	switch {
	case fs.Type == unix.OVERLAYFS_SUPER_MAGIC:
		return refuse("it is on an overlay, which cannot hold one", elsewhere, nil)
	case fs.Type == unix.NFS_SUPER_MAGIC:
		return refuse("it is on NFS, which cannot mark deleted files", elsewhere, nil)
	case fs.Flags&unix.ST_RDONLY != 0:
		return refuse("its filesystem is mounted read-only", "mount it read-write, or set read_only = true", unix.EROFS)
	}
	probe, remove, err := makeTrial(place)
	if err != nil {
		return fmt.Errorf("cannot try out whether %s can hold an upperdir: %w", dir, err)
	}
	defer remove()
	const xattr = "trusted.overlay.overlayd-probe"
	got := make([]byte, 8)
	switch err := unix.Fsetxattr(probe, xattr, []byte("y"), 0); {
	case errors.Is(err, unix.EPERM):
		return ErrNotPermitted
	case err != nil:
		return refuse(noXattr, elsewhere, err)
	}
	if n, err := unix.Fgetxattr(probe, xattr, got); err != nil || string(got[:max(n, 0)]) != "y" {
		return refuse(noXattr, elsewhere, err)
	}
	return tryEntries(probe, refuse)
}

// tryEntries makes what the kernel makes in an upperdir: a whiteout, by a rename.
func tryEntries(probe int, refuse func(cause, remedy string, err error) error) error {
	fd, err := unix.Openat(probe, "file", unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("cannot try out an upperdir: cannot make a file: %w", err)
	}
	_ = unix.Close(fd)
	if err := unix.Renameat2(probe, "file", probe, "moved", unix.RENAME_WHITEOUT); err != nil {
		return refuse("its filesystem cannot leave a whiteout behind a rename, so deleted files would come back",
			elsewhere, err)
	}
	typed, err := showsTypes(probe)
	if err != nil {
		return fmt.Errorf("cannot try out an upperdir: cannot list a directory: %w", err)
	}
	if !typed {
		return refuse("its filesystem does not tell the type of directory entries (d_type), so whiteouts would show",
			"on xfs make it anew with mkfs.xfs -n ftype=1; else "+elsewhere, nil)
	}
	return nil
}

// showsTypes tells whether the entries of dir come with their type. Those of "." and ".." do on any filesystem.
func showsTypes(dir int) (bool, error) {
	const (
		headerLen = 19 // struct linux_dirent64 before the name: ino, off, reclen, type
		reclenAt  = 16
		typeAt    = 18
	)
	buf := make([]byte, 4096)
	for {
		n, err := unix.Getdents(dir, buf)
		if err != nil {
			return false, err
		}
		if n <= 0 {
			return true, nil
		}
		for rest := buf[:n]; len(rest) > headerLen; {
			length := int(binary.NativeEndian.Uint16(rest[reclenAt:]))
			if length <= headerLen || length > len(rest) {
				break
			}
			name := unix.ByteSliceToString(rest[headerLen:length])
			if name != "." && name != ".." && rest[typeAt] == unix.DT_UNKNOWN {
				return false, nil
			}
			rest = rest[length:]
		}
	}
}
