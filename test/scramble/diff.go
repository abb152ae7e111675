package scramble

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Diff compares two views in full and returns what overlayd diff has to say about it: lines "A /path" for what is only
// in merged, "D /path" for what is only in base, without what was below it, and "C /path" for what differs in type,
// owner, mode, xattrs, ACLs, contents, target or device number. Times are not looked at. A directory that came in place
// of something else is a C, with an A for all below it. The lines are in bytewise order of their paths.
func Diff(base, merged string) ([]string, error) {
	d := differ{base: base, merged: merged}
	err := d.both("/")
	slices.SortFunc(d.lines, func(a, b string) int { return strings.Compare(a[2:], b[2:]) })
	return d.lines, err
}

type differ struct {
	base, merged string
	lines        []string
}

func (d *differ) both(path string) error {
	old, err := look(filepath.Join(d.base, path))
	if err != nil {
		return err
	}
	now, err := look(filepath.Join(d.merged, path))
	if err != nil {
		return err
	}
	same := old.Mode == now.Mode && old.Uid == now.Uid && old.Gid == now.Gid && maps.Equal(old.xattrs, now.xattrs) &&
		old.target == now.target
	switch now.kind() {
	case unix.S_IFREG:
		if same && old.Size != now.Size {
			same = false
		}
		if same {
			if same, err = sameContents(filepath.Join(d.base, path), filepath.Join(d.merged, path)); err != nil {
				return err
			}
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		same = same && old.Rdev == now.Rdev
	}
	if !same {
		d.lines = append(d.lines, "C "+path)
	}
	if now.kind() != unix.S_IFDIR {
		return nil
	}
	if old.kind() != unix.S_IFDIR {
		return d.added(path)
	}
	return d.children(path)
}

func (d *differ) children(path string) error {
	old, err := readDir(filepath.Join(d.base, path))
	if err != nil {
		return err
	}
	now, err := readDir(filepath.Join(d.merged, path))
	if err != nil {
		return err
	}
	for _, name := range old {
		if !slices.Contains(now, name) {
			d.lines = append(d.lines, "D "+filepath.Join(path, name))
		}
	}
	for _, name := range now {
		child := filepath.Join(path, name)
		if slices.Contains(old, name) {
			err = d.both(child)
		} else {
			d.lines = append(d.lines, "A "+child)
			err = d.added(child)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// added lists all below path, in merged; there is nothing if path is no directory.
func (d *differ) added(path string) error {
	if n, err := look(filepath.Join(d.merged, path)); err != nil || n.kind() != unix.S_IFDIR {
		return err
	}
	below, err := scan(filepath.Join(d.merged, path))
	for _, e := range below {
		if e.rel != "" {
			d.lines = append(d.lines, "A "+filepath.Join(path, e.rel))
		}
	}
	return err
}
