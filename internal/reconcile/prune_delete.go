package reconcile

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/safedir"
)

// deleteDataDir deletes a data directory. First it gets a name that no client uses, so that nobody finds half of it,
// and the mark of overlayd is the last that goes from it: killed anywhere, the next prune finds the rest.
func deleteDataDir(ctx context.Context, c *candidate, name string) error {
	parent, err := openDirAt(unix.AT_FDCWD, filepath.Dir(c.Real))
	if err != nil {
		return fmt.Errorf("cannot delete %s: cannot open the directory above: %w", c.Path, err)
	}
	defer unix.Close(parent)
	doomed := doomedName(c.id.Ino)
	if name != doomed {
		if err := setForDeletion(parent, name, doomed, c.id); err != nil {
			return fmt.Errorf("cannot delete %s: %w", c.Path, err)
		}
	}
	at := filepath.Join(filepath.Dir(c.Real), doomed)
	err = emptyAllBut(ctx, parent, doomed, at, safedir.MarkerName)
	if err == nil {
		err = safedir.RemoveTreeContext(ctx, at)
	}
	return notAll(c, filepath.Join(filepath.Dir(c.Path), doomed), err)
}

// notAll says why a directory is not all deleted, and where the rest is.
func notAll(c *candidate, rest string, err error) error {
	what := c.Path + " is not all deleted"
	if rest != c.Path {
		what += ", the rest is in " + rest
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: interrupted; prune again", what)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// setForDeletion renames a directory, if it is the one that was looked at.
func setForDeletion(parent int, name, doomed string, id overlayfs.FileID) error {
	if is, err := isDir(parent, name); err != nil || is != id {
		return errors.Join(errors.New("another one was put in its place"), err)
	}
	if err := unix.Renameat2(parent, name, parent, doomed, unix.RENAME_NOREPLACE); err != nil {
		return fmt.Errorf("cannot rename it to %s first: %w", doomed, err)
	}
	if is, err := isDir(parent, doomed); err != nil || is != id {
		return errors.Join(errors.New("another one was put in its place"), err,
			unix.Renameat2(parent, doomed, parent, name, unix.RENAME_NOREPLACE))
	}
	return nil
}

// isDir identifies a directory by its name in parent.
func isDir(parent int, name string) (overlayfs.FileID, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return overlayfs.FileID{}, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return overlayfs.FileID{}, unix.ENOTDIR
	}
	return overlayfs.FileID{Dev: st.Dev, Ino: st.Ino}, nil
}

// emptyAllBut removes all in a directory but one file.
func emptyAllBut(ctx context.Context, parent int, name, path, but string) error {
	dir, err := openDirAt(parent, name)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	entries, err := readDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch {
		case e.Name() == but:
		case e.IsDir():
			err = safedir.RemoveTreeContext(ctx, filepath.Join(path, e.Name()))
		default:
			err = unix.Unlinkat(dir, e.Name(), 0)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}

// deleteSetAside deletes what a reset took out of the way. Nobody takes the rest of it for a client's data, so it has
// its name until it is gone.
func deleteSetAside(ctx context.Context, c *candidate) error {
	if id, ok := identify(c.Real); !ok || id != c.id {
		return fmt.Errorf("cannot delete %s: another one was put in its place", c.Path)
	}
	return notAll(c, c.Path, safedir.RemoveTreeContext(ctx, c.Real))
}

// openDirAt opens a directory, no component of whose path may be a symlink.
func openDirAt(dir int, path string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(dir, path, &how)
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}
