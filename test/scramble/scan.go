package scramble

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// entry is one thing in a tree, the root included, whose rel is "".
type entry struct {
	rel   string
	depth int
	kind  uint32 // S_IFMT
}

// scan lists a tree, parents first, names in bytewise order: what is picked from it depends on the tree alone.
func scan(dir string) ([]entry, error) {
	all := []entry{{kind: unix.S_IFDIR}}
	for i := 0; i < len(all); i++ {
		e := all[i]
		if e.kind != unix.S_IFDIR {
			continue
		}
		names, err := readDir(filepath.Join(dir, e.rel))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			rel := filepath.Join(e.rel, name)
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(dir, rel), &st); err != nil {
				return nil, fmt.Errorf("cannot look at %q in %s: %w", rel, dir, err)
			}
			all = append(all, entry{rel: rel, depth: e.depth + 1, kind: st.Mode & unix.S_IFMT})
		}
	}
	return all, nil
}

func readDir(path string) ([]string, error) {
	list, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(list))
	for _, e := range list {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	return names, nil
}

// node is all that is compared of one entry.
type node struct {
	unix.Stat_t
	xattrs map[string]string
	target string // of a symlink
}

func look(path string) (node, error) {
	var n node
	if err := unix.Lstat(path, &n.Stat_t); err != nil {
		return n, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	var err error
	if n.xattrs, err = xattrs(path); err != nil {
		return n, err
	}
	if n.kind() == unix.S_IFLNK {
		n.target, err = os.Readlink(path)
	}
	return n, err
}

func (n node) kind() uint32 { return n.Mode & unix.S_IFMT }

func xattrs(path string) (map[string]string, error) {
	list := make([]byte, 1<<16) // XATTR_LIST_MAX
	size, err := unix.Llistxattr(path, list)
	if errors.Is(err, unix.ENOTSUP) {
		return map[string]string{}, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "llistxattr", Path: path, Err: err}
	}
	all := make(map[string]string)
	value := make([]byte, 1<<16) // XATTR_SIZE_MAX
	for name := range strings.SplitSeq(string(list[:size]), "\x00") {
		if name == "" {
			continue
		}
		size, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, &os.PathError{Op: "lgetxattr " + name, Path: path, Err: err}
		}
		all[name] = string(value[:size])
	}
	return all, nil
}

// sameContents compares two regular files.
func sameContents(a, b string) (bool, error) {
	left, err := os.ReadFile(a)
	if err != nil {
		return false, err
	}
	right, err := os.ReadFile(b)
	return bytes.Equal(left, right), err
}
