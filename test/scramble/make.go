package scramble

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// generator makes things below dir, by chance. Paths are relative to dir, "" is dir itself.
type generator struct {
	dir string
	r   *rand.Rand
	o   Options
}

func newGenerator(dir string, seed, stream uint64, o Options) *generator {
	return &generator{dir: dir, r: rand.New(rand.NewPCG(seed, stream)), o: o}
}

func (g *generator) abs(rel string) string { return filepath.Join(g.dir, rel) }

func (g *generator) name() string {
	if g.o.WhiteoutNames && g.r.IntN(8) == 0 {
		return pick(g.r, whiteoutNames)
	}
	return pick(g.r, names)
}

// contents are random, so that two files are the same only on purpose.
func (g *generator) contents(size int) []byte {
	b := make([]byte, 0, size+8)
	for len(b) < size {
		b = binary.LittleEndian.AppendUint64(b, g.r.Uint64())
	}
	return b[:size]
}

// file makes a regular file, one in five of them with holes.
func (g *generator) file(rel string) error {
	f, err := os.OpenFile(g.abs(rel), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if g.r.IntN(5) > 0 {
		_, err = f.Write(g.contents(pick(g.r, sizes)))
		return errors.Join(err, f.Close())
	}
	_, err = f.WriteAt(g.contents(10), int64(g.r.IntN(3))<<19)
	return errors.Join(err, f.Truncate(1<<21), f.Close())
}

// node makes anything but a directory.
func (g *generator) node(rel string) (what string, err error) {
	switch n := g.r.IntN(12); {
	case n == 0:
		return "fifo", unix.Mknod(g.abs(rel), unix.S_IFIFO|0o600, 0)
	case n == 1 && !g.o.OCI:
		return "socket", unix.Mknod(g.abs(rel), unix.S_IFSOCK|0o700, 0)
	case n == 2:
		return "device", unix.Mknod(g.abs(rel), unix.S_IFCHR|0o666, int(unix.Mkdev(1, pick(g.r, []uint32{3, 5}))))
	case n == 3:
		return "block device", unix.Mknod(g.abs(rel), unix.S_IFBLK|0o660, int(unix.Mkdev(7, 300))) // a large minor
	case n <= 5:
		targets := append([]string{"/etc/passwd", "../nowhere", "a", strings.Repeat("t/", 100)}, names...)
		return "symlink", os.Symlink(pick(g.r, targets), g.abs(rel))
	default:
		return "file", g.file(rel)
	}
}

// attributes gives what is at rel a random owner, mode, xattrs, ACL and time, some of them.
func (g *generator) attributes(e entry) error {
	steps := []func(entry) (string, error){g.chown, g.chmod, g.setXattr, g.setACL}
	for _, step := range steps {
		if g.r.IntN(3) > 0 {
			continue
		}
		if what, err := step(e); err != nil && !tolerated(what, err) {
			return fmt.Errorf("%s %q: %w", what, e.rel, err)
		}
	}
	return nil
}

func (g *generator) chown(e entry) (string, error) {
	return "chown", os.Lchown(g.abs(e.rel), pick(g.r, owners), pick(g.r, owners))
}

func (g *generator) chmod(e entry) (string, error) {
	if e.kind == unix.S_IFLNK {
		return "chmod", nil // symlinks have no mode
	}
	return "chmod", unix.Chmod(g.abs(e.rel), pick(g.r, modes))
}

func (g *generator) setXattr(e entry) (string, error) {
	what, value := "trusted."+pick(g.r, []string{"a", "b", "overlayed", "nul\xffname"}), g.contents(g.r.IntN(20))
	plain := e.kind == unix.S_IFREG || e.kind == unix.S_IFDIR // the only ones to have user xattrs
	switch n := g.r.IntN(6); {
	case n < 2 && plain:
		what = "user." + pick(g.r, []string{"a", "é", "equals=", "mime_type"})
	case n == 2 && e.kind == unix.S_IFREG:
		// cap_net_raw, revision 2 (capabilities(7)); a chown or a write takes it away.
		what = "security.capability"
		value = append([]byte{1, 0, 0, 2, 0, 0x20}, make([]byte, 14)...)
	case n == 3 && g.o.Private != "" && (plain || !strings.HasPrefix(g.o.Private, "user.")):
		what = g.o.Private + pick(g.r, []string{"opaque", "redirect", "whiteout", "mine", "overlay.opaque"})
		value = []byte(pick(g.r, []string{"y", "x", "/a"}))
	}
	if g.o.OCI {
		what, value = strings.TrimSuffix(what, "="), append(value, 'x')
		if strings.HasPrefix(what, "security.") {
			value = value[:len(value)-1] // of a fixed length
		}
	}
	return "setxattr " + what, unix.Lsetxattr(g.abs(e.rel), what, value, 0)
}

// setACL sets an ACL (acl(5), linux/posix_acl_xattr.h) that says more than the mode does.
func (g *generator) setACL(e entry) (string, error) {
	name := "system.posix_acl_access"
	switch {
	case e.kind == unix.S_IFLNK:
		return "set ACL", nil // symlinks have none
	case e.kind == unix.S_IFDIR && !g.o.OCI && g.r.IntN(2) == 0:
		name = "system.posix_acl_default" // what is made in there later inherits it
	}
	const userObj, user, groupObj, mask, other, nobody = 1, 2, 4, 0x10, 0x20, ^uint32(0)
	var acl bytes.Buffer
	put := func(v any) { _ = binary.Write(&acl, binary.LittleEndian, v) } // a Buffer takes it all
	put(uint32(2))
	for _, line := range []struct {
		Tag, Perm uint16
		ID        uint32
	}{
		{userObj, 7, nobody},
		{user, uint16(g.r.IntN(8)), pick(g.r, []uint32{1, 1000})},
		{groupObj, uint16(g.r.IntN(8)), nobody},
		{mask, 7, nobody},
		{other, uint16(g.r.IntN(8)), nobody},
	} {
		put(line)
	}
	return "set ACL", unix.Lsetxattr(g.abs(e.rel), name, acl.Bytes(), 0)
}

// setTime gives a time that no clock of today does.
func (g *generator) setTime(e entry) (string, error) {
	seconds := pick(g.r, []int64{0, 1, -1_000_000, 1_000_000_000, 1_234_567_890, 5_000_000_000}) + g.r.Int64N(1_000_000)
	if g.o.OCI {
		seconds = max(seconds, 0)
	}
	at := unix.Timespec{Sec: seconds, Nsec: g.r.Int64N(1_000_000_000)}
	return "utimes", unix.UtimesNanoAt(unix.AT_FDCWD, g.abs(e.rel), []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
}

// Tree fills the directory dir, which exists, with a random tree of some thirty entries: all types of files, owners,
// modes, xattrs, ACLs, holes, and names of one file in several places. Times are in the past or far ahead. Of dir
// itself only the time is set: the root of an overlay is that of its upperdir.
func Tree(dir string, seed uint64, o Options) error {
	o.Private = "" // a lowerdir is written to directly: nobody escapes there
	g := newGenerator(dir, seed, 1, o)
	if err := g.fill("", 0); err != nil {
		return fmt.Errorf("cannot make a tree of seed %d in %s: %w", seed, dir, err)
	}
	all, err := scan(dir)
	if err != nil {
		return err
	}
	for _, e := range all[1:] {
		if !o.OneName && e.kind != unix.S_IFDIR && g.r.IntN(6) == 0 {
			to := filepath.Join(g.anyDir(all).rel, g.name())
			if err := os.Link(g.abs(e.rel), g.abs(to)); err != nil && !errors.Is(err, os.ErrExist) {
				return err
			}
		}
	}
	if all, err = scan(dir); err != nil {
		return err
	}
	// Directories last: what is made in them touches them.
	for _, e := range slices.Backward(all) {
		if e.rel != "" {
			if err := g.attributes(e); err != nil {
				return err
			}
		}
		if _, err := g.setTime(e); err != nil {
			return err
		}
	}
	return nil
}

// fill makes entries in the directory rel, and directories down to maxDepth.
func (g *generator) fill(rel string, depth int) error {
	n := 2 + g.r.IntN(6)
	for range n {
		path := filepath.Join(rel, g.name())
		err := g.entry(path, depth)
		if err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

func (g *generator) entry(path string, depth int) error {
	if depth+1 < maxDepth && g.r.IntN(3) == 0 {
		if err := os.Mkdir(g.abs(path), 0o755); err != nil {
			return err
		}
		return g.fill(path, depth+1)
	}
	if what, err := g.node(path); err != nil && !tolerated(what, err) {
		return err
	}
	return nil
}

func (g *generator) anyDir(all []entry) entry {
	e, _ := g.among(all, func(e entry) bool { return e.kind == unix.S_IFDIR && e.depth < maxDepth })
	return e // the root is always one
}

func (g *generator) among(all []entry, fits func(entry) bool) (entry, bool) {
	var found []entry
	for _, e := range all {
		if fits(e) {
			found = append(found, e)
		}
	}
	if len(found) == 0 {
		return entry{}, false
	}
	return pick(g.r, found), true
}
