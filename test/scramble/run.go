package scramble

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Run does n random things to the tree in dir, as clients of an overlay do. It returns what it did, a line for each,
// to be shown when a test fails. What the kernel refuses as it should (see tolerated) is noted and passed over.
func Run(dir string, seed uint64, n int, o Options) ([]string, error) {
	g := newGenerator(dir, seed, 2, o)
	var log []string
	for len(log) < n {
		all, err := scan(dir)
		if err != nil {
			return log, err
		}
		op := pick(g.r, operations)
		what, err := op(g, all)
		switch {
		case errors.Is(err, errNothingToDo):
			continue
		case err != nil && !tolerated(what, err):
			return append(log, what), fmt.Errorf("seed %d, step %d, %s: %w", seed, len(log), what, err)
		case err != nil:
			what += ": " + err.Error()
		}
		log = append(log, what)
	}
	return log, nil
}

// errNothingToDo says that the tree holds nothing an operation could be about.
var errNothingToDo = errors.New("nothing to do")

// tolerated tells whether an overlay is expected to refuse that.
func tolerated(what string, err error) bool {
	for _, t := range []struct {
		what string
		errs []error
	}{
		// A directory of a lowerdir cannot be moved with redirect_dir=off, and mv(1) would copy it.
		// ESTALE: with index=off the overlay may take two names of one file in the upperdir for two files, and then
		// finds that they are one.
		{"rename", []error{unix.EXDEV, unix.ENOTEMPTY, unix.EEXIST, unix.ESTALE}},
		{"exchange", []error{unix.EXDEV, unix.ESTALE}},
		// A metacopy needs a redirect for its second name, which must not be longer than 256 bytes.
		{"link", []error{unix.EXDEV}},
		// Before Linux 6.7 there was no escaping; tmpfs has user xattrs since 6.6.
		{"setxattr trusted.overlay.", []error{unix.EPERM, unix.ENOTSUP}},
		{"setxattr user.", []error{unix.EPERM, unix.ENOTSUP}},
		// Containers may not make devices.
		{"device", []error{unix.EPERM}},
		{"block device", []error{unix.EPERM}},
	} {
		if strings.HasPrefix(what, t.what) && slices.ContainsFunc(t.errs, func(e error) bool { return errors.Is(err, e) }) {
			return true
		}
	}
	return false
}

// operations are picked with equal chance; what is there twice is meant to be more frequent.
var operations = []operation{
	create, create, create, makeDir, makeDir, overwrite, overwrite, appendTo, truncate, remove, remove, remove,
	removeTree, remakeDir, remakeDir, fileToDir, dirToFile, rename, rename, rename, renameDir, renameDir, exchange, link,
	link, reopen, rewrite, recreate, punch, sly,
	on(isAny, (*generator).chmod), on(isAny, (*generator).chown), on(isAny, (*generator).setXattr),
	on(isAny, (*generator).setXattr), on(isAny, (*generator).setACL), on(isAny, (*generator).setTime), removeXattr,
	chownSame,
}

func isAny(entry) bool        { return true }
func isBelow(e entry) bool    { return e.rel != "" }
func isFile(e entry) bool     { return e.kind == unix.S_IFREG }
func isDir(e entry) bool      { return e.kind == unix.S_IFDIR && e.rel != "" }
func isNotDir(e entry) bool   { return e.kind != unix.S_IFDIR }
func exists(p string) bool    { _, err := os.Lstat(p); return err == nil }
func within(a, b string) bool { return a == b || strings.HasPrefix(a, b+"/") }

// operation does something to the tree, of which it gets all entries, and says what it was.
type operation func(g *generator, all []entry) (string, error)

// on makes an operation of a change to one entry.
func on(fits func(entry) bool, change func(*generator, entry) (string, error)) operation {
	return func(g *generator, all []entry) (string, error) {
		e, ok := g.among(all, fits)
		if !ok {
			return "", errNothingToDo
		}
		what, err := change(g, e)
		return fmt.Sprintf("%s %q", what, e.rel), err
	}
}

// place finds a path where nothing is.
func (g *generator) place(all []entry) (string, error) {
	dir := g.anyDir(all).rel
	for range 10 {
		if rel := filepath.Join(dir, g.name()); !exists(g.abs(rel)) {
			return rel, nil
		}
	}
	return "", errNothingToDo
}

func create(g *generator, all []entry) (string, error) {
	rel, err := g.place(all)
	if err != nil {
		return "", err
	}
	what, err := g.node(rel)
	return fmt.Sprintf("%s %q", what, rel), err
}

func makeDir(g *generator, all []entry) (string, error) {
	rel, err := g.place(all)
	if err != nil {
		return "", err
	}
	if err := os.Mkdir(g.abs(rel), 0o755); err != nil {
		return fmt.Sprintf("mkdir %q", rel), err
	}
	if strings.Count(rel, "/")+2 > maxDepth || g.r.IntN(2) == 0 {
		return fmt.Sprintf("mkdir %q", rel), nil
	}
	return fmt.Sprintf("mkdir, fill %q", rel), g.fill(rel, maxDepth-1)
}

func overwrite(g *generator, all []entry) (string, error) {
	return on(isFile, func(g *generator, e entry) (string, error) {
		return "write", writeTo(g.abs(e.rel), os.O_TRUNC, g.contents(pick(g.r, sizes)))
	})(g, all)
}

func appendTo(g *generator, all []entry) (string, error) {
	return on(isFile, func(g *generator, e entry) (string, error) {
		return "append", writeTo(g.abs(e.rel), os.O_APPEND, g.contents(7))
	})(g, all)
}

func truncate(g *generator, all []entry) (string, error) {
	return on(isFile, func(g *generator, e entry) (string, error) {
		return "truncate", os.Truncate(g.abs(e.rel), int64(pick(g.r, sizes)))
	})(g, all)
}

// punch makes a hole at the beginning of a file.
func punch(g *generator, all []entry) (string, error) {
	return on(isFile, func(g *generator, e entry) (string, error) {
		f, err := os.OpenFile(g.abs(e.rel), os.O_WRONLY, 0)
		if err != nil {
			return "punch", err
		}
		err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 1<<16)
		return "punch", errors.Join(err, f.Close())
	})(g, all)
}

// reopen copies a file up without changing it.
func reopen(g *generator, all []entry) (string, error) {
	return on(isFile, func(g *generator, e entry) (string, error) {
		f, err := os.OpenFile(g.abs(e.rel), os.O_RDWR, 0)
		if err != nil {
			return "open", err
		}
		return "open, close", f.Close()
	})(g, all)
}

// rewrite puts the same contents into a file.
func rewrite(g *generator, all []entry) (string, error) {
	return on(isFile, func(g *generator, e entry) (string, error) {
		text, err := os.ReadFile(g.abs(e.rel))
		if err != nil {
			return "rewrite", err
		}
		return "rewrite", writeTo(g.abs(e.rel), os.O_TRUNC, text)
	})(g, all)
}

// recreate removes a file and makes one like it, without its xattrs.
func recreate(g *generator, all []entry) (string, error) {
	return on(isFile, func(g *generator, e entry) (string, error) {
		path := g.abs(e.rel)
		old, err := look(path)
		if err != nil {
			return "recreate", err
		}
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.Remove(path)
		}
		if err == nil {
			err = os.WriteFile(path, text, 0o600) //nolint:gosec // found below dir
		}
		if err == nil {
			err = os.Lchown(path, int(old.Uid), int(old.Gid))
		}
		if err == nil {
			err = unix.Chmod(path, old.Mode&0o7777)
		}
		return "recreate", err
	})(g, all)
}

// sly changes contents and nothing else that stat(2) tells.
func sly(g *generator, all []entry) (string, error) {
	if !g.o.SameTimes {
		return "", errNothingToDo
	}
	return on(isFile, func(g *generator, e entry) (string, error) {
		path := g.abs(e.rel)
		old, err := look(path)
		if err != nil {
			return "sly write", err
		}
		if err := writeTo(path, 0, g.contents(min(int(old.Size), 100))); err != nil {
			return "sly write", err
		}
		return "sly write", unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{old.Atim, old.Mtim}, 0)
	})(g, all)
}

func writeTo(path string, flag int, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|flag, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

func remove(g *generator, all []entry) (string, error) {
	return on(isNotDir, func(g *generator, e entry) (string, error) { return "rm", os.Remove(g.abs(e.rel)) })(g, all)
}

func removeTree(g *generator, all []entry) (string, error) {
	return on(isDir, func(g *generator, e entry) (string, error) { return "rm -r", os.RemoveAll(g.abs(e.rel)) })(g, all)
}

// remakeDir puts a new directory in the place of one, with something in it or not.
func remakeDir(g *generator, all []entry) (string, error) {
	return on(isDir, func(g *generator, e entry) (string, error) { return "rm -r, mkdir", g.toDir(e, 0o755) })(g, all)
}

func fileToDir(g *generator, all []entry) (string, error) {
	return on(isNotDir, func(g *generator, e entry) (string, error) { return "rm, mkdir", g.toDir(e, 0o750) })(g, all)
}

func (g *generator) toDir(e entry, mode os.FileMode) error {
	err := os.RemoveAll(g.abs(e.rel))
	if err == nil {
		err = os.Mkdir(g.abs(e.rel), mode)
	}
	if err == nil && e.depth < maxDepth && g.r.IntN(2) == 0 {
		err = g.fill(e.rel, maxDepth-1)
	}
	return err
}

func dirToFile(g *generator, all []entry) (string, error) {
	return on(isDir, func(g *generator, e entry) (string, error) {
		err := os.RemoveAll(g.abs(e.rel))
		if err != nil {
			return "rm -r", err
		}
		what, err := g.node(e.rel)
		return what + " for a directory", err
	})(g, all)
}

// rename moves something that is no directory, onto another one or to where nothing is.
func rename(g *generator, all []entry) (string, error) {
	from, ok := g.among(all, isNotDir)
	if !ok {
		return "", errNothingToDo
	}
	to, err := g.place(all)
	if err != nil {
		return "", err
	}
	if over, ok := g.among(all, isNotDir); ok && g.r.IntN(3) == 0 {
		to = over.rel
	}
	return fmt.Sprintf("rename %q to %q", from.rel, to), os.Rename(g.abs(from.rel), g.abs(to))
}

func renameDir(g *generator, all []entry) (string, error) {
	from, ok := g.among(all, isDir)
	if !ok {
		return "", errNothingToDo
	}
	to, err := g.place(all)
	if err != nil {
		return "", err
	}
	if over, ok := g.among(all, isDir); ok && g.r.IntN(4) == 0 {
		to = over.rel // refused unless empty
	}
	if within(to, from.rel) || within(from.rel, to) {
		return "", errNothingToDo
	}
	return fmt.Sprintf("rename dir %q to %q", from.rel, to),
		unix.Renameat2(unix.AT_FDCWD, g.abs(from.rel), unix.AT_FDCWD, g.abs(to), 0)
}

// exchange swaps two things, of whatever type.
func exchange(g *generator, all []entry) (string, error) {
	one, ok := g.among(all, isBelow)
	if !ok {
		return "", errNothingToDo
	}
	other, _ := g.among(all, isBelow)
	if within(one.rel, other.rel) || within(other.rel, one.rel) {
		return "", errNothingToDo
	}
	return fmt.Sprintf("exchange %q with %q", one.rel, other.rel),
		unix.Renameat2(unix.AT_FDCWD, g.abs(one.rel), unix.AT_FDCWD, g.abs(other.rel), unix.RENAME_EXCHANGE)
}

func link(g *generator, all []entry) (string, error) {
	from, ok := g.among(all, isNotDir)
	if !ok {
		return "", errNothingToDo
	}
	to, err := g.place(all)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("link %q to %q", from.rel, to), os.Link(g.abs(from.rel), g.abs(to))
}

func chownSame(g *generator, all []entry) (string, error) {
	return on(isAny, func(g *generator, e entry) (string, error) {
		old, err := look(g.abs(e.rel))
		if err != nil {
			return "chown to the same", err
		}
		return "chown to the same", os.Lchown(g.abs(e.rel), int(old.Uid), int(old.Gid))
	})(g, all)
}

func removeXattr(g *generator, all []entry) (string, error) {
	e, ok := g.among(all, isAny)
	if !ok {
		return "", errNothingToDo
	}
	old, err := look(g.abs(e.rel))
	if err != nil {
		return "", err
	}
	if len(old.xattrs) == 0 {
		return "", errNothingToDo
	}
	name := slices.Min(slices.Collect(maps.Keys(old.xattrs)))
	return fmt.Sprintf("removexattr %s %q", name, e.rel), unix.Lremovexattr(g.abs(e.rel), name)
}
