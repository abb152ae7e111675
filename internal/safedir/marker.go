package safedir

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Marker says that overlayd made a data directory, and what for.
type Marker struct {
	Address    string `json:"address"`
	Mountpoint string `json:"mountpoint"`
}

// MarkerName is the file that a marker is.
const MarkerName = ".overlayd"

const (
	markerAt  = ".overlayd.new"
	maxMarker = 64 << 10
)

// markXattr on a marked directory holds its inode number. The file alone would do for a copy of the directory as well,
// which is somebody else's, and a client whose root a directory is can write files in it.
const markXattr = "trusted.overlayd.marked"

// WriteMarker marks dir. A marker that says the same already is left as it is.
func WriteMarker(dir string, m Marker) error {
	if old, ok, err := ReadMarker(dir); err == nil && ok && old == m {
		return nil
	}
	if err := writeMarker(dir, m); err != nil {
		return fmt.Errorf("cannot write %s: %w", filepath.Join(dir, MarkerName), err)
	}
	return nil
}

func writeMarker(dir string, m Marker) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	fd, err := openDir(dir, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Unlinkat(fd, markerAt, 0); err != nil && !errors.Is(err, unix.ENOENT) { // of a killed run
		return err
	}
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	file, err := unix.Openat(fd, markerAt, flags, 0o644)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(file), markerAt)
	_, err = f.Write(append(text, '\n'))
	if err = errors.Join(err, f.Close()); err == nil {
		err = unix.Renameat(fd, markerAt, fd, MarkerName)
	}
	if err != nil {
		_ = unix.Unlinkat(fd, markerAt, 0)
		return err
	}
	return bind(fd)
}

// bind ties the mark to the directory. Who may not set trusted attributes, as when a tree is prepared without root,
// leaves it to be set by nobody: then the directory does not count as overlayd's on the host that it is for.
func bind(dir int) error {
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return err
	}
	err := unix.Fsetxattr(dir, markXattr, strconv.AppendUint(nil, st.Ino, 10), 0)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	return err
}

// bound tells whether the mark is this directory's. Without root the attribute cannot be seen, and the file has to do.
func bound(dir string) (bool, error) {
	if os.Geteuid() != 0 {
		return true, nil
	}
	fd, err := openDir(dir, unix.O_RDONLY)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	buf := make([]byte, 32)
	n, err := unix.Fgetxattr(fd, markXattr, buf)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ERANGE) {
		return false, nil
	}
	return err == nil && string(buf[:n]) == strconv.FormatUint(st.Ino, 10), err
}

// ReadMarker reads the marker of dir; false when there is none. A marker that root did not write, or that was not
// written for this directory, is an error: whoever planted it wants dir to be taken for one of ours, and a copy of a
// marked directory is its maker's.
func ReadMarker(dir string) (Marker, bool, error) {
	m, ok, err := readMarker(dir)
	if err == nil && ok {
		var own bool
		if own, err = bound(dir); err == nil && !own {
			err = errors.New("it was not written for this directory, which may be a copy of one that overlayd made")
		}
	}
	if err != nil {
		return Marker{}, false, fmt.Errorf("cannot read %s: %w", filepath.Join(dir, MarkerName), err)
	}
	return m, ok, nil
}

func readMarker(dir string) (Marker, bool, error) {
	parent, err := openDir(dir, unix.O_PATH)
	if errors.Is(err, unix.ENOENT) {
		return Marker{}, false, nil
	}
	if err != nil {
		return Marker{}, false, err
	}
	defer unix.Close(parent)
	// Without O_NONBLOCK a FIFO in this place would hang us.
	fd, err := openBeneath(parent, MarkerName, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return Marker{}, false, nil
	case errors.Is(err, unix.ELOOP):
		return Marker{}, false, errors.New("it is a symlink")
	case err != nil:
		return Marker{}, false, err
	}
	f := os.NewFile(uintptr(fd), MarkerName)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Marker{}, false, err
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return Marker{}, false, errors.New("it is not a file")
	case st.Uid != 0 && st.Uid != uint32(os.Geteuid()):
		return Marker{}, false, fmt.Errorf("it belongs to %s", userName(st.Uid))
	case st.Size > maxMarker:
		return Marker{}, false, errors.New("it is too long for a marker")
	}
	text, err := io.ReadAll(io.LimitReader(f, maxMarker))
	if err != nil {
		return Marker{}, false, err
	}
	var m Marker
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return Marker{}, false, fmt.Errorf("it is damaged: %w", err)
	}
	return m, true, nil
}
