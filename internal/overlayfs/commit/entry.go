package commit

import (
	"errors"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"
)

// entry is one entry of the new layer: something as the client sees it, or a whiteout.
type entry struct {
	path     string // in the client's view, "/" is the root
	whiteout bool
	opaque   bool   // a directory that hides what is below
	link     string // path of an entry before this one, of which it is another name
	stat     unix.Stat_t
	xattrs   map[string]string // the client's, as the client names them
	target   string            // of a symlink
	open     func() (*os.File, error)
	lower    bool // the file lies in a lowerdir
	torn     bool // set by who copied the contents: they changed meanwhile
}

// contents are those of an entry, being copied.
type contents struct {
	*os.File
	entry *entry
	began unix.Stat_t
}

func (e *entry) contents() (*contents, error) {
	f, err := e.open()
	if err != nil {
		return nil, err
	}
	c := &contents{File: f, entry: e}
	if err := unix.Fstat(int(f.Fd()), &c.began); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return c, nil
}

// end closes the contents and notes whether they were as long as the entry says and stayed as they were.
func (c *contents) end() error {
	var now unix.Stat_t
	err := unix.Fstat(int(c.Fd()), &now)
	size := c.entry.stat.Size
	c.entry.torn = c.began.Size != size || now.Size != size || now.Mtim != c.began.Mtim
	return errors.Join(err, c.Close())
}

func (e *entry) name() string { return path.Base(e.path) }

func (e *entry) isDir() bool { return !e.whiteout && e.stat.Mode&unix.S_IFMT == unix.S_IFDIR }

func (e *entry) xattrNames() []string { return slices.Sorted(maps.Keys(e.xattrs)) }

// times are those of last access, which is of no interest, and of last change.
func (e *entry) times() []unix.Timespec { return []unix.Timespec{e.stat.Mtim, e.stat.Mtim} }

// shown quotes a client's name where it would garble a message.
func shown(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) ||
		strings.TrimSpace(name) != name {
		return strconv.Quote(name)
	}
	return name
}
