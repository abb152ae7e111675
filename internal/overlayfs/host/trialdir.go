package host

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// makeTrial makes a directory in place to try things out in, which remove takes away with what tryEntries makes in it.
// The name is one of a few, so that what a kill left is found by the next trial and used; the lock tells it from the
// one of somebody who is trying just now.
func makeTrial(place int) (dir int, remove func(), err error) {
	const most = 64
	for n := range most {
		name := fmt.Sprintf(".overlayd-probe-%d", n)
		if err = unix.Mkdirat(place, name, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
			return -1, nil, fmt.Errorf("cannot make a directory: %w", err)
		}
		const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
		if dir, err = unix.Openat(place, name, flags, 0); err != nil {
			continue // removed meanwhile, or not a directory of ours
		}
		if err = own(dir); err != nil {
			_ = unix.Close(dir)
			continue
		}
		clear := func() {
			for _, entry := range []string{"file", "moved"} {
				_ = unix.Unlinkat(dir, entry, 0)
			}
		}
		clear()
		return dir, func() {
			clear()
			_ = unix.Unlinkat(place, name, unix.AT_REMOVEDIR)
			_ = unix.Close(dir)
		}, nil
	}
	return -1, nil, fmt.Errorf("cannot make a directory: %w", err)
}

// own locks a trial's directory, which must still have a name, and belong to us.
func own(dir int) error {
	if err := unix.Flock(dir, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return err
	}
	if st.Nlink == 0 || st.Uid != uint32(unix.Geteuid()) {
		return unix.EEXIST
	}
	return nil
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
