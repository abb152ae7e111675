package scramble

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Same compares two views strictly and returns what differs, a line for each, in words: types, owners, modes, times of
// change to the nanosecond, xattrs and ACLs, contents, targets of symlinks, device numbers, and which names are names
// of one file. Link counts are not looked at: an overlay tells those of its layers.
func Same(a, b string) ([]string, error) {
	s := comparison{a: a, b: b, groups: [2]map[fileID][]string{{}, {}}}
	if err := s.node("/"); err != nil {
		return nil, err
	}
	left, right := s.links(0), s.links(1)
	for _, group := range left {
		if !slices.Contains(right, group) {
			s.say("only in %s one file: %s", a, group)
		}
	}
	for _, group := range right {
		if !slices.Contains(left, group) {
			s.say("only in %s one file: %s", b, group)
		}
	}
	return s.lines, nil
}

type fileID struct{ dev, ino uint64 }

type comparison struct {
	a, b   string
	lines  []string
	groups [2]map[fileID][]string
}

func (s *comparison) say(format string, args ...any) {
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

func (s *comparison) node(path string) error {
	left, err := look(filepath.Join(s.a, path))
	if err != nil {
		return err
	}
	right, err := look(filepath.Join(s.b, path))
	if err != nil {
		return err
	}
	if left.kind() != right.kind() {
		s.say("%q: mode %o and %o", path, left.Mode, right.Mode)
		return nil
	}
	for i, n := range []node{left, right} {
		if n.kind() != unix.S_IFDIR {
			id := fileID{n.Dev, n.Ino}
			s.groups[i][id] = append(s.groups[i][id], path)
		}
	}
	s.metadata(path, left, right)
	switch left.kind() {
	case unix.S_IFDIR:
		return s.children(path)
	case unix.S_IFREG:
		same, err := sameContents(filepath.Join(s.a, path), filepath.Join(s.b, path))
		if err != nil {
			return err
		}
		if !same {
			s.say("%q: contents differ, sizes %d and %d", path, left.Size, right.Size)
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		if left.Rdev != right.Rdev {
			s.say("%q: device %#x and %#x", path, left.Rdev, right.Rdev)
		}
	}
	return nil
}

func (s *comparison) metadata(path string, left, right node) {
	if left.Mode != right.Mode {
		s.say("%q: mode %o and %o", path, left.Mode, right.Mode)
	}
	if left.Uid != right.Uid || left.Gid != right.Gid {
		s.say("%q: owner %d:%d and %d:%d", path, left.Uid, left.Gid, right.Uid, right.Gid)
	}
	if left.Mtim != right.Mtim {
		s.say("%q: mtime %d.%09d and %d.%09d", path, left.Mtim.Sec, left.Mtim.Nsec, right.Mtim.Sec, right.Mtim.Nsec)
	}
	if left.target != right.target {
		s.say("%q: target %q and %q", path, left.target, right.target)
	}
	if !maps.Equal(left.xattrs, right.xattrs) {
		s.say("%q: xattrs %q and %q", path, left.xattrs, right.xattrs)
	}
}

func (s *comparison) children(path string) error {
	left, err := readDir(filepath.Join(s.a, path))
	if err != nil {
		return err
	}
	right, err := readDir(filepath.Join(s.b, path))
	if err != nil {
		return err
	}
	for _, name := range left {
		child := filepath.Join(path, name)
		if !slices.Contains(right, name) {
			s.say("%q: only in %s", child, s.a)
		} else if err := s.node(child); err != nil {
			return err
		}
	}
	for _, name := range right {
		if !slices.Contains(left, name) {
			s.say("%q: only in %s", filepath.Join(path, name), s.b)
		}
	}
	return nil
}

// links returns the names of each file that has several, as text.
func (s *comparison) links(side int) []string {
	var groups []string
	for _, paths := range s.groups[side] {
		if len(paths) > 1 {
			slices.Sort(paths)
			groups = append(groups, fmt.Sprintf("%q", strings.Join(paths, "  ")))
		}
	}
	slices.Sort(groups)
	return groups
}
