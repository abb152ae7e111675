package host

import (
	"bytes"
	"errors"
	"fmt"
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
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the mount table: %w", err)
	}
	defer f.Close()
	var text bytes.Buffer
	for range attempts {
		text.Reset()
		if _, err := f.Seek(0, 0); err != nil {
			return nil, fmt.Errorf("cannot read the mount table: %w", err)
		}
		if _, err := text.ReadFrom(f); err != nil {
			return nil, fmt.Errorf("cannot read the mount table: %w", err)
		}
		poll := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLPRI}}
		if n, err := unix.Poll(poll, 0); err != nil || n == 0 {
			break // an interrupted poll tells nothing; the table read is as good as any
		}
	}
	return text.Bytes(), nil
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
