package commit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/safedir"
)

// stage is a directory of ours beside a target. The target is made in it and then renamed, so that it appears whole
// or not at all. Who makes one holds a lock on it; one without a lock is what a killed commit left.
type stage struct {
	ctx          context.Context // for cleaning up, which is not to be interrupted
	path, target string
	parent       *os.File // of both
	dir          *os.File // locked; nil until it is ours
}

// newStage makes the stage for target, whose parent is free of symlinks, and removes one that was left behind.
func newStage(ctx context.Context, target string, m safedir.Marker) (*stage, error) {
	above, name := filepath.Split(target)
	s := &stage{
		ctx: context.WithoutCancel(ctx), path: filepath.Join(above, "."+name+".overlayd-commit"), target: target,
	}
	fail := func(err error) (*stage, error) {
		return nil, errors.Join(fmt.Errorf("cannot use %s, where %s is to grow: %w", s.path, target, bare(err)), s.close())
	}
	var err error
	if s.parent, err = os.Open(above); err != nil {
		return fail(err)
	}
	err = s.make()
	if errors.Is(err, unix.EEXIST) {
		if err = s.clear(); err == nil {
			err = s.make()
		}
	}
	if err != nil {
		return fail(err)
	}
	if s.dir, err = s.lock(); err != nil {
		return fail(err)
	}
	if err := safedir.WriteMarker(s.path, m); err != nil {
		return fail(err)
	}
	return s, nil
}

func (s *stage) make() error { return unix.Mkdirat(int(s.parent.Fd()), filepath.Base(s.path), 0o700) }

var errBusy = errors.New("another commit to the same place is running")

// lock opens and locks the directory. It must be ours alone, and still be there afterwards: another commit might have
// taken it for a leftover before it was locked.
func (s *stage) lock() (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(int(s.parent.Fd()), filepath.Base(s.path), flags, 0)
	if err != nil {
		return nil, err
	}
	dir := os.NewFile(uintptr(fd), s.path)
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errBusy
		}
		return nil, errors.Join(err, dir.Close())
	}
	var mine, there unix.Stat_t
	if err = unix.Fstat(fd, &mine); err == nil {
		err = unix.Lstat(s.path, &there)
	}
	switch {
	case errors.Is(err, unix.ENOENT) || err == nil && mine.Ino != there.Ino:
		err = errBusy
	case err == nil && (mine.Uid != uint32(os.Geteuid()) || mine.Mode&0o022 != 0):
		err = errForeign
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

var errForeign = errors.New("it is there already and not of overlayd's making; remove it, or name another target")

// create makes a file in the stage.
func (s *stage) create(name string) (*os.File, error) {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(int(s.dir.Fd()), name, flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot make a file in %s: %w", s.path, err)
	}
	return os.NewFile(uintptr(fd), filepath.Join(s.path, name)), nil
}

// clear removes what a killed commit left. What overlayd did not make stays.
func (s *stage) clear() error {
	dir, err := s.lock()
	if err != nil {
		return err
	}
	defer dir.Close()
	_, ours, err := safedir.ReadMarker(s.path)
	if err != nil {
		return err
	}
	if ours {
		return safedir.RemoveTreeContext(s.ctx, s.path)
	}
	// A commit may be killed before it has written the marker.
	if os.Remove(s.path) != nil {
		return errForeign
	}
	return nil
}

// publish makes what grew as name the target, once it is on disk.
func (s *stage) publish(name string, flags uint) error {
	from, to, base := int(s.dir.Fd()), int(s.parent.Fd()), filepath.Base(s.target)
	err := unix.Syncfs(from)
	if err == nil {
		err = unix.Renameat2(from, name, to, base, flags)
		if errors.Is(err, unix.EINVAL) && flags != 0 { // the filesystem knows no flags
			err = unix.Linkat(from, name, to, base, 0)
		}
	}
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("cannot put %s in its place: something is mounted there; name a directory in it", s.target)
	case errors.Is(err, unix.EEXIST), errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("cannot put %s in its place: something else has appeared there meanwhile", s.target)
	case err != nil:
		return fmt.Errorf("cannot put %s in its place: %w", s.target, err)
	}
	if err := s.parent.Sync(); err != nil {
		return fmt.Errorf("cannot write %s to disk: %w", filepath.Dir(s.target), bare(err))
	}
	return nil
}

// close removes the stage, with all that was not published, if it became ours.
func (s *stage) close() error {
	var err error
	if s.dir != nil {
		err = errors.Join(safedir.RemoveTreeContext(s.ctx, s.path), s.dir.Close())
	}
	if s.parent != nil {
		err = errors.Join(err, s.parent.Close())
	}
	return err
}

// bare takes away what os says itself of the operation and the path.
func bare(err error) error {
	var path *os.PathError
	var link *os.LinkError
	var call *os.SyscallError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	case errors.As(err, &call):
		return call.Err
	}
	return err
}
