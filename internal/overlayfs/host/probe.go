package host

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// Prober looks at paths and remembers directories and filesystems it met: thousands of overlays share theirs. It is
// for one observation, not for two points in time, and not for two goroutines.
type Prober struct {
	table  *overlayfs.Table
	nodes  map[string]*node
	mounts map[int]*mountInfo
	users  map[uint32]string
}

// node is one path looked at, symlinks followed.
type node struct {
	real    string
	symlink string
	exists  bool
	st      status
	base    string // of real
	mountID int    // of base
	unsafe  string // about the directories above
	err     error
}

// status is what is needed of struct statx, which is large.
type status struct {
	id       overlayfs.FileID
	uid, gid uint32
	mode     uint32
}

// Depth tells how closely to look.
type Depth int

// The depths.
const (
	Outside Depth = iota // as far as it goes without opening a directory, which is most of the price
	Layer                // CaseFold as well
	Inside               // Empty as well
)

// NewProber makes a Prober; t says what the mounts are that paths lie on, and may be nil.
func NewProber(t *overlayfs.Table) *Prober {
	return &Prober{
		table: t, nodes: make(map[string]*node), mounts: make(map[int]*mountInfo), users: make(map[uint32]string),
	}
}

// Look looks at path, which is absolute, as closely as can be.
func (p *Prober) Look(path string) overlayfs.PathInfo { return p.LookAt(path, Inside) }

// LookAt looks at path, which is absolute. What the depth leaves out is false.
func (p *Prober) LookAt(path string, depth Depth) overlayfs.PathInfo {
	if !filepath.IsAbs(path) {
		return overlayfs.PathInfo{Path: path, Err: fmt.Sprintf("%s is not an absolute path", path)}
	}
	at := filepath.Clean(path)
	n, ok := p.nodes[at]
	if !ok {
		n = p.look(at) // not remembered: of thousands of paths nothing is asked about what is below
	}
	info := p.info(path, n)
	if !info.IsDir || info.Network || depth == Outside {
		return info
	}
	m := p.mount(n)
	if n.real != m.point && (m.folds || depth == Inside) {
		info.Empty, info.CaseFold = lookInside(n.real, m.folds, depth == Inside)
	}
	return info
}

func (p *Prober) info(path string, n *node) overlayfs.PathInfo {
	info := overlayfs.PathInfo{
		Path: path, Exists: n.exists, Symlink: n.symlink, Real: n.real,
		Base: n.base, MountID: n.mountID, Unsafe: n.unsafe,
	}
	if n.err != nil {
		info.Err = n.err.Error()
		// Data directories are root's alone. What is in them says nothing about the overlay to others.
		info.Denied = errors.Is(n.err, unix.EACCES) && os.Geteuid() != 0
	}
	// Of what does not exist, the node has the status of the nearest directory that does.
	info.BaseID = n.st.id
	if n.exists {
		info.IsDir = n.st.mode&unix.S_IFMT == unix.S_IFDIR
		info.ID = info.BaseID
		info.UID, info.GID, info.Mode = n.st.uid, n.st.gid, n.st.mode
	}
	m := p.mount(n)
	info.FSType, info.Magic, info.ReadOnly, info.Network, info.Flags = m.fsType, m.magic, m.readOnly, m.network, m.flags
	return info
}

const statFlags = unix.AT_SYMLINK_NOFOLLOW | unix.AT_STATX_DONT_SYNC | unix.AT_NO_AUTOMOUNT

// node looks at a clean path: one statx(2) beyond what is known of the directory above.
func (p *Prober) node(path string) *node {
	if n, ok := p.nodes[path]; ok {
		return n
	}
	n := p.look(path)
	p.nodes[path] = n
	return n
}

func (p *Prober) look(path string) *node {
	n := &node{real: path}
	var above *node
	if path != "/" {
		dir, name := split(path)
		above = p.node(dir)
		*n = *above
		n.exists, n.real = false, path
		if above.real != dir {
			n.real = filepath.Join(above.real, name)
		}
		if above.err != nil || !above.exists {
			return n
		}
		n.unsafe = p.unsafeDir(above)
	}
	var sx unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, n.real, statFlags, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &sx)
	switch {
	case errors.Is(err, unix.ENOENT):
		return n
	case errors.Is(err, unix.ENOTDIR):
		n.err = fmt.Errorf("%s is not a directory", filepath.Dir(n.real))
		return n
	case err != nil:
		n.err = fmt.Errorf("cannot look at %s: %w", n.real, err)
		return n
	}
	n.st = status{
		id:  overlayfs.FileID{Dev: unix.Mkdev(sx.Dev_major, sx.Dev_minor), Ino: sx.Ino},
		uid: sx.Uid, gid: sx.Gid, mode: uint32(sx.Mode),
	}
	if n.st.mode&unix.S_IFMT == unix.S_IFLNK {
		return p.follow(path, n)
	}
	if n.unsafe == "" && above != nil {
		n.unsafe = p.unsafeEntry(above, n)
	}
	n.exists, n.mountID, n.base = true, int(sx.Mnt_id), n.real
	if n.st.mode&unix.S_IFMT != unix.S_IFDIR {
		n.base = filepath.Dir(n.real)
	}
	return n
}

// split gives the directory and the name of a clean path that is not "/".
func split(path string) (dir, name string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 1)], path[i+1:]
}

// follow continues at what a symlink leads to. link is the node of the link itself.
func (p *Prober) follow(path string, link *node) *node {
	n := *link
	if n.symlink == "" {
		n.symlink = path
	}
	real, err := filepath.EvalSymlinks(link.real)
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			n.err = fmt.Errorf("cannot follow the symlink %s: %w", path, err)
			return &n
		}
		text, err := os.Readlink(link.real)
		if err != nil {
			n.err = fmt.Errorf("cannot follow the symlink %s: %w", path, err)
			return &n
		}
		if !filepath.IsAbs(text) {
			text = filepath.Join(filepath.Dir(link.real), text)
		}
		n.real = filepath.Clean(text)
		return &n
	}
	to := *p.node(real)
	to.symlink = n.symlink
	if to.unsafe == "" {
		to.unsafe = n.unsafe // of the way to the link
	}
	if to.unsafe == "" && link.st.uid != 0 {
		to.unsafe = fmt.Sprintf("the symlink %s belongs to %s", path, p.userName(link.st.uid))
	}
	return &to
}

// unsafeDir says why entries of dir are not root's alone to make and replace, dir's own place included.
func (p *Prober) unsafeDir(dir *node) string {
	switch {
	case dir.unsafe != "":
		return dir.unsafe
	case dir.st.uid != 0:
		return fmt.Sprintf("%s is owned by %s", dir.real, p.userName(dir.st.uid))
	case dir.st.mode&0o022 != 0 && dir.st.mode&unix.S_ISVTX == 0:
		return fmt.Sprintf("%s is writable by others than root (mode %04o)", dir.real, dir.st.mode&0o7777)
	}
	return ""
}

// unsafeEntry: in a sticky directory that all may write to, an entry is its owner's to replace.
func (p *Prober) unsafeEntry(dir, entry *node) string {
	if dir.st.mode&0o022 != 0 && entry.st.uid != 0 {
		return fmt.Sprintf("%s belongs to %s, in a directory that all may write to", entry.real, p.userName(entry.st.uid))
	}
	return ""
}

func (p *Prober) userName(uid uint32) string {
	if name, ok := p.users[uid]; ok {
		return name
	}
	name := fmt.Sprintf("uid %d", uid)
	if u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10)); err == nil {
		name = fmt.Sprintf("%s (uid %d)", u.Username, uid)
	}
	p.users[uid] = name
	return name
}
