package host

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Space is how much room a filesystem has.
type Space struct {
	Size, Free         uint64 // bytes; Free is what root may not keep for itself
	Inodes, FreeInodes uint64 // both 0 where there is no limit, as on btrfs
}

// SpaceOf asks the filesystem of a directory for its room. Do not ask one on the network: a server that is gone never
// answers.
func SpaceOf(dir string) (Space, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return Space{}, fmt.Errorf("cannot look at the filesystem of %s: %w", dir, err)
	}
	block := uint64(fs.Frsize) // Bsize is what is best to read at once
	if block == 0 {
		block = uint64(fs.Bsize)
	}
	return Space{Size: fs.Blocks * block, Free: fs.Bavail * block, Inodes: fs.Files, FreeInodes: fs.Ffree}, nil
}

// ShowsTypes tells whether the filesystem of a directory gives directory entries with their type (d_type). One
// without does as a lowerdir, except that the whiteouts of a layer in the middle show as devices. An empty directory
// tells nothing, and the answer is true.
func ShowsTypes(dir string) (bool, error) {
	fd, err := openToRead(dir)
	if err != nil {
		return false, fmt.Errorf("cannot list %s: %w", dir, err)
	}
	defer unix.Close(fd)
	typed, err := showsTypes(fd)
	if err != nil {
		return false, fmt.Errorf("cannot list %s: %w", dir, err)
	}
	return typed, nil
}

func openToRead(dir string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	return unix.Openat2(unix.AT_FDCWD, dir, &how)
}

// UserXattrs tries out whether the filesystem of dir keeps user.* attributes, which clients may want and userxattr
// needs: tmpfs does since 6.6 only. It tries beside dir, as [CheckUpper] does.
func UserXattrs(dir string) (bool, error) {
	place, err := trialDir(dir)
	if err != nil {
		return false, err
	}
	defer unix.Close(place)
	probe, remove, err := makeTrial(place)
	if err != nil {
		return false, fmt.Errorf("cannot try out attributes in %s: %w", dir, err)
	}
	defer remove()
	switch err := unix.Fsetxattr(probe, "user.overlayd-probe", []byte("y"), 0); {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.EOPNOTSUPP):
		return false, nil
	default:
		return false, fmt.Errorf("cannot try out attributes in %s: %w", dir, err)
	}
}
