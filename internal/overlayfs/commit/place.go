package commit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// place checks that a path is a good one for a new layer, and returns it with the symlinks above it resolved. In the
// overlay's own directories it would become part of what is being read, or of every client's base.
func (c Client) place(path string) (string, error) {
	if !filepath.IsAbs(path) || path == "/" {
		return "", errors.New("it is not an absolute path of something new")
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(path))
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("there is no directory %s; make it first", filepath.Dir(path))
	}
	if err != nil {
		return "", bare(err)
	}
	target := filepath.Join(parent, filepath.Base(path))
	own := make(map[overlayfs.FileID]string)
	for _, p := range c.Config.Data {
		note(own, "data-only lowerdir", p)
	}
	for _, p := range c.Config.Lower {
		note(own, "lowerdir", p)
	}
	note(own, "upperdir", c.Config.Upper)
	note(own, "workdir", c.Config.Work)
	if c.Mounted {
		note(own, "mountpoint", c.Mountpoint)
	}
	for at := target; ; at = filepath.Dir(at) {
		if what, ok := own[identify(at)]; ok {
			return "", fmt.Errorf("it lies in the overlay's own %s; name a place outside", what)
		}
		if at == "/" {
			break
		}
	}
	if what := c.boundTo(parent); what != "" {
		return "", fmt.Errorf("by a bind mount it lies in the overlay's own %s; name a place outside", what)
	}
	return target, nil
}

// boundTo says which of the overlay's own directories a directory lies in on its filesystem. What is above it by path
// does not tell: a bind mount of a subdirectory leads in from elsewhere.
func (c Client) boundTo(parent string) string {
	if c.Table == nil {
		return ""
	}
	m, ok := c.Table.Covering(parent)
	if !ok {
		return ""
	}
	dev, at := m.Place(parent)
	if c.Mounted && dev == c.Dev {
		return "mountpoint " + c.Mountpoint
	}
	for _, own := range append([]string{c.Config.Upper, c.Config.Work}, append(c.Config.Lower, c.Config.Data...)...) {
		real, err := filepath.EvalSymlinks(own)
		if err != nil {
			continue
		}
		on, ok := c.Table.Covering(real)
		if !ok {
			continue
		}
		if d, place := on.Place(real); d == dev && (at == place || strings.HasPrefix(at, strings.TrimSuffix(place, "/")+"/")) {
			return "directory " + own
		}
	}
	return ""
}

func note(own map[overlayfs.FileID]string, what, path string) {
	if id := identify(path); id.Ino != 0 {
		own[id] = what + " " + path
	}
}

// identify is zero for what is not there.
func identify(path string) overlayfs.FileID {
	var st unix.Stat_t
	if path == "" || unix.Stat(path, &st) != nil {
		return overlayfs.FileID{}
	}
	return overlayfs.FileID{Dev: st.Dev, Ino: st.Ino}
}

// vacant checks that nothing is there, or an empty directory.
func vacant(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return bare(err)
	case info.Mode()&os.ModeSymlink != 0:
		to, err := os.Readlink(path)
		if err != nil {
			return bare(err)
		}
		return fmt.Errorf("it is a symlink to %s; name that", to)
	case !info.IsDir():
		return errors.New("it is there already, and is not a directory; name another place")
	}
	names, err := os.ReadDir(path)
	if err != nil {
		return bare(err)
	}
	if len(names) > 0 {
		return errors.New("it is there already, and is not empty; empty it, or name another directory")
	}
	return nil
}
