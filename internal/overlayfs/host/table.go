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
	fd, err := openTable(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the mount table: %w", err)
	}
	defer unix.Close(fd)
	var text bytes.Buffer
	for range attempts {
		text.Reset()
		_, err := unix.Seek(fd, 0, io.SeekStart)
		if err == nil {
			_, err = text.ReadFrom(reader(fd))
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the mount table: %w", err)
		}
		if !changed(fd) {
			break
		}
	}
	return text.Bytes(), nil
}

// openTable opens a mount table. os.Open would not do: Go's own poller would be told of changes in place of changed.
func openTable(path string) (fd int, err error) {
	fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// reader reads from a descriptor.
type reader int

func (r reader) Read(p []byte) (int, error) {
	for {
		switch n, err := unix.Read(int(r), p); {
		case err == unix.EINTR:
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// changed tells whether a mount came or went since the table was opened, or since this was last asked. What cannot be
// told has changed.
func changed(table int) bool {
	poll := []unix.PollFd{{Fd: int32(table), Events: unix.POLLPRI}}
	n, err := unix.Poll(poll, 0)
	return n != 0 || err != nil
}

// TableWatch tells whether the mount table of this process has changed, for much less than another look at it takes.
type TableWatch struct{ fd int }

// WatchTable begins to watch. Close it.
func WatchTable() (*TableWatch, error) {
	fd, err := openTable("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cannot watch the mount table: %w", err)
	}
	return &TableWatch{fd}, nil
}

// Changed tells whether a mount came or went since WatchTable, or since this was last asked. Flags of a mount may have
// changed all the same. What cannot be told has changed; a nil TableWatch cannot tell.
func (w *TableWatch) Changed() bool { return w == nil || changed(w.fd) }

// Close ends the watch. It does nothing to a nil TableWatch.
func (w *TableWatch) Close() {
	if w != nil {
		_ = unix.Close(w.fd)
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
