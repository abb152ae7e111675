package host

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"

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

// CheckUpper tries out whether the filesystem of dir (or of the nearest directory above that exists) can hold an
// upperdir. It makes a directory for that and removes it. Where dir is not a mountpoint the trial takes place beside
// it, not in it: an upperdir that is mounted must not change beneath the overlay. The error is a *UpperError,
// ErrNotPermitted, or says that no trial could be made.
func CheckUpper(dir string) error {
	place, err := trialDir(dir)
	if err != nil {
		return err
	}
	defer unix.Close(place)
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
	name := ".overlayd-probe-" + rand.Text()
	if err := unix.Mkdirat(place, name, 0o700); err != nil {
		return fmt.Errorf("cannot try out whether %s can hold an upperdir: cannot make a directory: %w", dir, err)
	}
	defer func() { _ = unix.Unlinkat(place, name, unix.AT_REMOVEDIR) }()
	probe, err := unix.Openat(place, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot try out whether %s can hold an upperdir: %w", dir, err)
	}
	defer unix.Close(probe)
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
	for _, name := range []string{"file", "moved"} {
		defer func() { _ = unix.Unlinkat(probe, name, 0) }()
	}
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

// trialDir opens the directory in which to try things out for dir: the one above dir if both are on one mount, else
// dir itself; for a dir that does not exist the nearest one above that does.
func trialDir(dir string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		fd, err := unix.Openat2(unix.AT_FDCWD, at, &how)
		if errors.Is(err, unix.ENOENT) && at != "/" {
			continue
		}
		if err != nil {
			return -1, fmt.Errorf("cannot look at %s: %w", at, err)
		}
		if at != filepath.Clean(dir) || at == "/" {
			return fd, nil
		}
		above, err := unix.Openat(fd, "..", int(how.Flags), 0)
		if err != nil {
			return fd, nil //nolint:nilerr // then the trial is made in the directory itself
		}
		if sameMount(fd, above) {
			_ = unix.Close(fd)
			return above, nil
		}
		_ = unix.Close(above)
		return fd, nil
	}
}

func sameMount(a, b int) bool {
	var sa, sb unix.Statx_t
	return unix.Statx(a, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &sa) == nil &&
		unix.Statx(b, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &sb) == nil && sa.Mnt_id == sb.Mnt_id
}
