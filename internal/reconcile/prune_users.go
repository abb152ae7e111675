package reconcile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// place is where a directory lies on a filesystem, whatever it is mounted on: bind mounts give one many paths.
type place struct{ dev, path string }

// places knows candidates by all that may tell that something lies in one, or one in it.
type places struct {
	claimed map[string]bool // layers that were looked at: thousands of overlays share theirs

	byPath  map[string]*candidate           // where they lie on this host, without symlinks
	byID    map[overlayfs.FileID]*candidate // and the directories directly in them: upperdir and workdir
	byPlace map[place]*candidate
	above   map[overlayfs.FileID][]*candidate // directories that they lie in
}

func newPlaces(cs []*candidate, table *overlayfs.Table) places {
	p := places{
		claimed: map[string]bool{}, byPath: map[string]*candidate{}, byID: map[overlayfs.FileID]*candidate{},
		byPlace: map[place]*candidate{}, above: map[overlayfs.FileID][]*candidate{},
	}
	for _, c := range cs {
		p.byPath[c.Real] = c
		if m, ok := table.Covering(c.Real); ok {
			p.byPlace[placeOn(m, c.Real)] = c
		}
		for dir := filepath.Dir(c.Real); ; dir = filepath.Dir(dir) {
			if id, ok := identify(dir); ok {
				p.above[id] = append(p.above[id], c)
			}
			if dir == "/" {
				break
			}
		}
		// After the parents' entries, so that what was set aside in a candidate is known for itself.
		if entries, err := os.ReadDir(c.Real); err == nil {
			for _, e := range entries {
				if id, ok := identify(filepath.Join(c.Real, e.Name())); ok && e.IsDir() {
					p.byID[id] = c
				}
			}
		}
	}
	for _, c := range cs {
		p.byID[c.id] = c
	}
	return p
}

func identify(path string) (overlayfs.FileID, bool) {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	return overlayfs.FileID{Dev: st.Dev, Ino: st.Ino}, err == nil
}

// placeOn says where a path lies on the filesystem that m mounts.
func placeOn(m overlayfs.Mount, path string) place {
	dev, at := m.Place(path)
	return place{dev, at}
}

// use notes what uses a candidate, and the one that this lies in.
func use(c *candidate, by string) {
	for ; c != nil; c = c.within {
		if c.usedBy == "" {
			c.usedBy = by
		}
	}
}

// claim marks what units and the spec name, mounted or not. prevent_destroy speaks for all that was ever made for its
// address.
func (s *search) claim(d plan.Desired) {
	p := newPlaces(s.found, s.table)
	protected := map[string]string{} // address → by what
	for _, u := range s.units {
		by := "the overlay of unit " + filepath.Base(u.Path)
		s.claimOverlay(p, by, u.Config, u.Where)
		if u.PreventDestroy {
			protected[u.Address] = by
		}
	}
	for _, o := range d.Overlays {
		by := o.Address + " of the spec"
		s.claimOverlay(p, by, overlayfs.Config{Lower: o.Lower, Upper: o.Upper, Work: o.Work}, o.Mountpoint)
		if o.DataDir != "" {
			s.claimPath(p, o.DataDir, by)
		}
		if o.PreventDestroy {
			protected[o.Address] = by
		}
	}
	for _, c := range s.found {
		if by, yes := protected[c.Address]; yes {
			use(c, by+", which has prevent_destroy")
		}
		for _, u := range s.units {
			// What it lies on may be mounted elsewhere now, where this is its data under another name.
			if _, there := identify(s.real(u.Config.Upper)); !there && u.Address == c.Address && u.Where == c.Mountpoint {
				use(c, "the overlay of unit "+filepath.Base(u.Path)+", whose upperdir "+u.Config.Upper+" is not there now: "+
					"mount what it lies on")
			}
		}
	}
}

func (s *search) claimOverlay(p places, by string, c overlayfs.Config, mountpoint string) {
	s.claimPath(p, mountpoint, by)
	for _, dir := range append([]string{c.Upper, c.Work}, c.Lower...) {
		if dir != "" && !p.claimed[dir] {
			p.claimed[dir] = true
			s.claimPath(p, dir, by)
			s.claimLayer(p, dir, by)
		}
	}
}

// claimPath marks the candidate that a path lies in; it need not exist.
func (s *search) claimPath(p places, path, by string) {
	for at := s.where(path); ; at = filepath.Dir(at) {
		if c := p.byPath[at]; c != nil {
			use(c, by)
		}
		if at == "/" || at == "." {
			return
		}
	}
}

// claimLayer marks what a layer lies in by another path, and all that lies in the layer.
func (s *search) claimLayer(p places, path, by string) {
	fd, err := unix.Open(s.where(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return // it does not exist, or is none; its path was looked at
	}
	defer unix.Close(fd)
	p.climb(fd, s.table, by)
}

// where says where a path of the tree lies on this host, without symlinks as far as it exists.
func (s *search) where(path string) string {
	if info := s.h.look(s.prober, path); info.Real != "" {
		return s.real(info.Real)
	}
	return s.real(path)
}

// climb goes up from a layer to the root of its mount, and marks the candidates that it lies in, and those in it.
func (p places) climb(layer int, table *overlayfs.Table, by string) {
	if id, _, ok := statMount(layer); ok {
		for _, c := range p.above[id] {
			use(c, by)
		}
	}
	fd, err := unix.Openat(layer, ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer func() { _ = unix.Close(fd) }()
	for {
		id, mount, ok := statMount(fd)
		if !ok {
			return
		}
		if c := p.byID[id]; c != nil {
			use(c, by)
		}
		if mount != 0 { // its root may be deep in its filesystem
			if m, ok := table.ByID(mount); ok {
				p.mark(place{m.Dev, m.Root}, by)
			}
			return
		}
		up, err := unix.Openat(fd, "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return
		}
		_ = unix.Close(fd)
		fd = up
	}
}

// statMount identifies a directory; mount is the id of the mount whose root it is, 0 if it is none.
func statMount(fd int) (id overlayfs.FileID, mount int, ok bool) {
	const mask = unix.STATX_INO | unix.STATX_MNT_ID
	var sx unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, mask, &sx); err != nil {
		return id, 0, false
	}
	if sx.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		mount = int(sx.Mnt_id)
	}
	return overlayfs.FileID{Dev: unix.Mkdev(sx.Dev_major, sx.Dev_minor), Ino: sx.Ino}, mount, true
}

// mark marks the candidates that a place lies in.
func (p places) mark(at place, by string) {
	for at.path != "" {
		if c := p.byPlace[at]; c != nil {
			use(c, by)
		}
		if at.path == "/" || at.path == "." {
			return
		}
		at.path = filepath.Dir(at.path)
	}
}

// mounted marks the candidates that mounts stand on or in, in any mount namespace.
func (s *search) mounted(cs []*candidate) error {
	table, err := host.ReadTable()
	if err != nil {
		return err
	}
	s.table = table
	p := newPlaces(cs, table)
	uses, err := s.h.uses(table)
	if err != nil {
		return err
	}
	for _, u := range uses {
		by := mountedAt(u.Mountpoint, u.PID)
		if u.Detached {
			by = fmt.Sprintf("process %d, which still has the detached overlay of %s", u.PID, u.Mountpoint)
		}
		for _, id := range []overlayfs.FileID{u.Upper, u.Work} {
			if c := p.byID[id]; c != nil {
				use(c, by)
			}
		}
		if u.Upper == (overlayfs.FileID{}) && u.Source == plan.Label {
			// Its upperdir was moved under the mount, and nothing tells where to but what it was made for.
			for _, c := range cs {
				if c.Mountpoint == u.Mountpoint {
					use(c, by)
				}
			}
		}
	}
	p.stand(table, unix.AT_FDCWD, 0)
	return p.elsewhere()
}

func mountedAt(mountpoint string, pid int) string {
	if pid == 0 {
		return "what is mounted at " + mountpoint
	}
	return fmt.Sprintf("what is mounted at %s in the mount namespace of process %d", mountpoint, pid)
}

// elsewhere looks at the mounts of all other namespaces.
func (p places) elsewhere() error {
	var failed error
	err := host.OtherNamespaces(func(n host.Namespace) {
		table, err := overlayfs.ParseTable(bytes.NewReader(n.Table))
		if err != nil {
			failed = fmt.Errorf("cannot read the mount table of process %d: %w", n.PID, err)
			return
		}
		p.stand(table, n.Root, n.PID)
	})
	return errors.Join(err, failed)
}

// stand marks the candidates that a mount of this table has as its layers or its root, or that it stands in. Paths
// start at root, which is AT_FDCWD for our own.
func (p places) stand(table *overlayfs.Table, root, pid int) {
	climbed := map[string]bool{} // thousands of overlays share their lowerdirs
	for _, m := range table.All() {
		by := mountedAt(m.Mountpoint, pid)
		p.mark(place{m.Dev, m.Root}, by)
		if on, ok := table.ByID(m.Parent); ok {
			// An rmdir(2) of the mountpoint would succeed for a mount in another namespace, and take it down.
			p.mark(placeOn(on, m.Mountpoint), by)
		}
		if m.Overlay == nil {
			continue
		}
		layers := append([]string{m.Overlay.Upper, m.Overlay.Work}, m.Overlay.Lower...)
		for _, layer := range append(layers, m.Overlay.Data...) {
			if !strings.HasPrefix(layer, "/") || climbed[layer] {
				continue // a relative one began where the mounter once stood
			}
			climbed[layer] = true
			if fd, err := openLayer(root, layer); err == nil {
				p.climb(fd, table, by)
				_ = unix.Close(fd)
			}
		}
	}
}

// openLayer opens a layer, symlinks followed as the kernel did when it mounted.
func openLayer(root int, path string) (int, error) {
	if root == unix.AT_FDCWD {
		return unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for range 10 { // EAGAIN: a rename somewhere made it uncertain whether the walk stayed in the root
		fd, err := unix.Openat2(root, path, &how)
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}
