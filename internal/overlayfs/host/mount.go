package host

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// maxData is what one page holds. The kernel copies a page of mount data and cuts the rest silently; a cut that falls
// on a valid directory would mount the wrong layers.
const maxData = 4095

// Mount mounts the overlay c at target. No component of target may be a symlink. The error is a *MountError.
//
// A nil error does not say that a writable overlay is writable: see SuperReadOnly.
func Mount(source, target string, c overlayfs.Config) error {
	return mountLogged("mount", source, target, c)
}

func mountLogged(op, source, target string, c overlayfs.Config) error {
	data := c.KernelData()
	fail := &MountError{Op: op, Source: source, Target: target, Data: data}
	switch {
	case len(data) > maxData:
		return fail.because(unix.E2BIG, fmt.Sprintf("layers and options take %d bytes, mount(2) reads %d at most; "+
			"use shorter paths or fewer layers", len(data), maxData))
	case strings.IndexByte(source+data, 0) >= 0:
		return fail.because(unix.EINVAL, "a path or option contains a NUL byte")
	}
	fd, err := openDir(target)
	if err != nil {
		return fail.because(err, targetReason(target, err))
	}
	defer unix.Close(fd)
	log := openKernelLog()
	defer log.close()
	// By descriptor, because mount(2) follows symlinks, and one could be planted after the check. The mount table
	// shows the real path all the same.
	if err := unix.Mount(source, fdPath(fd), "overlay", mountFlags(c.Options), data); err != nil {
		fail.Kernel = log.lines(c)
		reason := ""
		if len(fail.Kernel) == 0 {
			reason = diagnose(err, c)
		}
		return fail.because(err, reason)
	}
	return nil
}

// mountFlags translates the per-mount flags among o.
func mountFlags(o overlayfs.Options) uintptr {
	const nosymfollow = 0x100 // MS_NOSYMFOLLOW, 5.10
	var flags uintptr
	for name, bit := range map[string]uintptr{
		"ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC,
		"noatime": unix.MS_NOATIME, "nodiratime": unix.MS_NODIRATIME, "strictatime": unix.MS_STRICTATIME,
		"relatime": unix.MS_RELATIME, "nosymfollow": nosymfollow,
	} {
		if _, ok := o[name]; ok {
			flags |= bit
		}
	}
	return flags
}

// Remount gives the topmost mount at target exactly these per-mount flags, in place; of the access times relatime is
// the default. Nothing else of an overlay can be changed while it is mounted.
func Remount(target string, flags overlayfs.Options) error {
	fail := &MountError{Op: "remount", Target: target}
	fd, err := openDir(target)
	if err != nil {
		return fail.because(err, targetReason(target, err))
	}
	defer unix.Close(fd)
	bits := mountFlags(flags)
	if bits&(unix.MS_NOATIME|unix.MS_STRICTATIME) == 0 {
		bits |= unix.MS_RELATIME // without any of the three a remount keeps what is set
	}
	if bits&unix.MS_RDONLY == 0 {
		// A mount made read-only has a read-only super block, too, which a bind remount does not reach. EROFS says
		// that this one has no upperdir, or fell back to read-only: no remount can help, the flags still can be set.
		var st unix.Statfs_t
		if err := unix.Fstatfs(fd, &st); err == nil && st.Flags&unix.ST_RDONLY != 0 {
			err := unix.Mount("", fdPath(fd), "", unix.MS_REMOUNT|bits, "")
			if err != nil && !errors.Is(err, unix.EROFS) {
				return fail.because(err, remountReason(err))
			}
		}
	}
	if err := unix.Mount("", fdPath(fd), "", unix.MS_REMOUNT|unix.MS_BIND|bits, ""); err != nil {
		return fail.because(err, remountReason(err))
	}
	return nil
}

// Unmount takes the topmost mount at target away. A busy one stays, with an error that is unix.EBUSY.
func Unmount(target string) error { return unmount("unmount", target, 0) }

// Detach takes the topmost mount at target, and what is mounted below it, out of the tree. Those who use it keep it
// alive and go on writing to its upperdir: never mount that upperdir again before they are gone.
func Detach(target string) error { return unmount("detach", target, unix.MNT_DETACH) }

func unmount(op, target string, flags int) error {
	fail := &MountError{Op: op, Target: target}
	// By the directory above: a descriptor of the mount itself would make it busy.
	fd, err := openDir(filepath.Dir(target))
	if err != nil {
		return fail.because(err, targetReason(target, err))
	}
	defer unix.Close(fd)
	name := filepath.Base(target)
	if name == "/" {
		return fail.because(unix.EINVAL, "it is the root directory")
	}
	if err := unix.Unmount(fdPath(fd)+"/"+name, unix.UMOUNT_NOFOLLOW|flags); err != nil {
		return fail.because(err, unmountReason(err))
	}
	return nil
}

// SuperReadOnly tells whether the super block of the topmost mount at target is read-only, which for a writable
// overlay means that the kernel could not clean its workdir and fell back.
func SuperReadOnly(target string) (bool, error) {
	fd, err := openDir(target)
	if err != nil {
		return false, fmt.Errorf("cannot look at the mount at %s: %w", target, err)
	}
	defer unix.Close(fd)
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return false, fmt.Errorf("cannot look at the mount at %s: %w", target, err)
	}
	if st.Flags&unix.ST_RDONLY == 0 {
		return false, nil
	}
	// statfs(2) merges the mount's own flag with the super block's; only the table tells them apart.
	table, err := ReadTable()
	if err != nil {
		return false, err
	}
	var sx unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &sx); err != nil {
		return false, fmt.Errorf("cannot look at the mount at %s: %w", target, err)
	}
	m, ok := table.ByID(int(sx.Mnt_id))
	if !ok {
		return false, fmt.Errorf("cannot look at the mount at %s: it is not in the mount table", target)
	}
	return m.SuperReadOnly, nil
}

// openDir opens a directory by path without following any symlink on the way.
func openDir(path string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(unix.AT_FDCWD, path, &how)
		if err != unix.EINTR && err != unix.EAGAIN { // EAGAIN: a rename was seen on the way
			return fd, err
		}
	}
}

func fdPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }
