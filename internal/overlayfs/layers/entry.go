package layers

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Pair is what a path leads to without what the client did (Base) and with it (Merged). One of them may be nil, for
// nothing. It is valid until the function that got it returns.
type Pair struct {
	// Path is absolute, in the client's view; it is "/" for the root.
	Path         string
	Base, Merged *Entry
	ctx          context.Context // of the walk, as long as which the pair is valid
	walker       *walker
}

// Kind compares both sides, which for files may take reading them; it is "" when they are the same.
//
// What counts is type, owner, mode, device number, target, contents and xattrs, ACLs among them. Times do not: a file
// that was only touched is the same, as is a directory in which something changed.
func (p *Pair) Kind() (Kind, error) {
	switch {
	case p.Base == nil:
		return Added, nil
	case p.Merged == nil:
		return Deleted, nil
	}
	same, err := p.walker.same(p.ctx, p.Base, p.Merged)
	if same || err != nil {
		return "", err
	}
	return Changed, nil
}

// Entry is one thing in a view: its attributes lie in one layer, for a metacopy its contents in another. It is valid
// as long as its [Pair].
type Entry struct {
	// Stat is of the layer, so Dev and Ino tell which names of a view are names of one file, Nlink not how many. Size
	// is the file's, also for a metacopy; Blocks is what is kept in that layer.
	Stat unix.Stat_t
	// Upper tells that the attributes are kept in the upperdir (or in the index, for a file with several names).
	Upper bool
	// Refused is why the kernel lists the name but lets nobody look at it, nil normally. Nothing else here is to be
	// used then.
	Refused error
	node    node
}

func newEntry(n node) *Entry {
	if n.meta == nil {
		return nil
	}
	return &Entry{Stat: n.meta.st, Upper: n.meta.dir.layer.rank == 0, Refused: n.refused, node: n}
}

// IsDir tells whether it is a directory.
func (e *Entry) IsDir() bool { return e.Stat.Mode&unix.S_IFMT == unix.S_IFDIR }

// Target is what a symlink says.
func (e *Entry) Target() (string, error) { return e.node.meta.target() }

// Open opens the contents of a regular file. Closing it is the caller's.
func (e *Entry) Open() (*os.File, error) {
	if e.node.data == nil {
		return nil, e.node.meta.fail("open", errors.New("it is no regular file"))
	}
	fd, err := e.node.data.open()
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), e.node.data.name), nil
}

// Xattrs are those that the client sees, ACLs among them: without the overlay's own, and those that the kernel keeps
// under another name for it (trusted.overlay.overlay.x) by the name the client gave them.
func (e *Entry) Xattrs() (map[string][]byte, error) {
	o := e.node.meta
	names, err := o.attrNames()
	if err != nil || len(names) == 0 {
		return nil, err
	}
	all := make(map[string][]byte, len(names))
	for _, name := range names {
		visible, own := o.dir.view.settings.own(name)
		if own {
			continue
		}
		value, err := o.attr(name)
		if errors.Is(err, unix.ENODATA) { // removed meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		all[visible] = value
	}
	return all, nil
}

// Marks tells of a directory in the upperdir whether it hides all below it (opaque), and whether what is below it has
// another name there, because the client moved it (redirected).
func (e *Entry) Marks() (opaque, redirected bool, err error) {
	value, err := e.node.meta.mark("opaque")
	if err != nil {
		return false, false, err
	}
	to, err := e.node.meta.mark("redirect")
	return string(value) == "y", to != nil, err
}

// xattrs are those that count in a comparison.
func (e *Entry) xattrs() (map[string][]byte, error) {
	all, err := e.Xattrs()
	// A signature over the inode number among others: a copy always has another one, if any.
	delete(all, "security.evm")
	return all, err
}
