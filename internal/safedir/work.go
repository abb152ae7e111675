package safedir

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// VolatileError says that an overlay was mounted volatile on a workdir and never synced: its upperdir may be
// incomplete. The kernel leaves a directory behind as a warning and refuses to mount until somebody removes it.
type VolatileError struct{ Path string }

// Error says what to do.
func (e *VolatileError) Error() string {
	return fmt.Sprintf("the overlay was last mounted with volatile, so its upperdir may be incomplete; "+
		"if you trust it, remove %s", e.Path)
}

// EmptyWork empties WORKDIR/work, the kernel's scratch, where a crash may leave what makes the next mount fall back to
// read-only silently. It touches nothing else: WORKDIR/index is part of the client's data. Nothing may be mounted on
// that workdir. A workdir that is not there is no error. The mark of a volatile mount is left alone: *VolatileError.
func EmptyWork(ctx context.Context, workdir string) error {
	err := emptyWork(ctx, workdir)
	if err != nil {
		return fmt.Errorf("cannot empty workdir %s: %w", workdir, err)
	}
	return nil
}

func emptyWork(ctx context.Context, workdir string) error {
	work, err := openDir(workdir, unix.O_PATH)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(work)
	path := filepath.Join(workdir, "work")
	dir, err := openBeneath(work, "work", unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_NO_XDEV)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.EXDEV):
		return &MountPointError{Path: path}
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR):
		// A file or symlink in this place is no more than scratch either; the kernel would replace it.
		if err := unix.Unlinkat(work, "work", 0); err != nil {
			return removeReason(work, "work", path, err)
		}
		return nil
	case err != nil:
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dir, "incompat/volatile", &st, unix.AT_SYMLINK_NOFOLLOW); err == nil {
		_ = unix.Close(dir)
		return &VolatileError{Path: filepath.Join(path, "incompat", "volatile")}
	}
	return empty(ctx, dir, path)
}
