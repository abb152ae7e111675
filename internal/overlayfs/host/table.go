package host

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// ReadTable reads the mount table of this process.
func ReadTable() (*overlayfs.Table, error) { return readTable("/proc/self/mountinfo") }

func readTable(path string) (*overlayfs.Table, error) {
	text, err := readMountinfo(path)
	if err != nil {
		return nil, err
	}
	return overlayfs.ParseTable(bytes.NewReader(text))
}

// readMountinfo reads a mount table that did not change while it was read. The kernel hands it out in pages and lets
// mounts come and go in between, but it keeps account: poll(2) tells whether the table changed since it was opened.
// On a host that never rests the last reading has to do: since 5.8 none that stood the whole time is missing in it.
func readMountinfo(path string) ([]byte, error) {
	const attempts = 5
	f, err := openTable(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the mount table: %w", err)
	}
	defer f.Close()
	var text bytes.Buffer
	for range attempts {
		text.Reset()
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, fmt.Errorf("cannot read the mount table: %w", err)
		}
		if _, err := text.ReadFrom(f); err != nil {
			return nil, fmt.Errorf("cannot read the mount table: %w", err)
		}
		if !changed(f) {
			break
		}
	}
	return text.Bytes(), nil
}

// openTable opens a mount table. os.Open would not do: Go's own poller would be told of changes, and the kernel tells
// each descriptor once. What os.NewFile is given, and would block, stays out of the poller.
func openTable(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// changed tells whether a mount came or went since the table was opened, or since this was last asked. What cannot be
// told has changed.
func changed(table *os.File) bool {
	poll := []unix.PollFd{{Fd: int32(table.Fd()), Events: unix.POLLPRI}}
	n, err := unix.Poll(poll, 0)
	return n != 0 || err != nil
}

// TableWatch tells whether the mount table of this process has changed, for much less than another look at it takes.
type TableWatch struct{ f *os.File }

// WatchTable begins to watch. Close it.
func WatchTable() (*TableWatch, error) {
	f, err := openTable("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cannot watch the mount table: %w", err)
	}
	return &TableWatch{f}, nil
}

// Changed tells whether a mount came or went since WatchTable, or since this was last asked. Flags of a mount may have
// changed all the same. What cannot be told has changed; a nil TableWatch cannot tell.
func (w *TableWatch) Changed() bool { return w == nil || changed(w.f) }

// Close ends the watch. It does nothing to a nil TableWatch.
func (w *TableWatch) Close() {
	if w != nil {
		_ = w.f.Close()
	}
}

// ReadDefaults reads what the running kernel does about options that are not given. Where overlay is a module that is
// not loaded yet, asking for the filesystem loads it, as the first mount would. Where the parameters are not to be
// seen (no module, no right to load it, a container that hides /sys/module) the answer is what a kernel built without
// other wishes does: no error, since a kernel without overlays says so at the first mount.
func ReadDefaults() (overlayfs.Defaults, error) {
	return readDefaults("/sys/module/overlay/parameters")
}

func readDefaults(dir string) (overlayfs.Defaults, error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		// fsopen(2) loads fs-overlay and makes nothing but a descriptor. Its error says less than the second look.
		if fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC); err == nil {
			_ = unix.Close(fd)
		}
	}
	d := overlayfs.Defaults{RedirectAlwaysFollow: true}
	for _, p := range []struct {
		name string
		into *bool
	}{
		{name: "redirect_dir", into: &d.RedirectDir},
		{name: "index", into: &d.Index},
		{name: "redirect_always_follow", into: &d.RedirectAlwaysFollow},
		{name: "metacopy", into: &d.Metacopy},
		{name: "nfs_export", into: &d.NFSExport}, // only with CONFIG_EXPORTFS
		{name: "xino_auto", into: &d.XinoAuto},   // only on 64 bit
	} {
		text, err := os.ReadFile(filepath.Join(dir, p.name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return overlayfs.Defaults{}, fmt.Errorf("cannot read the overlay defaults: %w", err)
		default:
			*p.into = bytes.HasPrefix(text, []byte("Y")) || bytes.HasPrefix(text, []byte("1"))
		}
	}
	return d, nil
}
