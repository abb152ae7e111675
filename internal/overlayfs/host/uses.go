package host

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// OverlayUses returns every live writable overlay: those of t, the own mount table, hidden ones included, and those of
// all other mount namespaces. The kernel does not protect an upperdir from being mounted twice, and a copy of an
// overlay in a service's private namespace keeps it alive after its unmount.
//
// It reads one mount table for each namespace on the host; ask when something is to change, not for each look.
// [Namespaces.Uses] costs less where nothing is to go down. Without root, namespaces of other users' processes are left
// out.
func OverlayUses(t *overlayfs.Table) ([]overlayfs.Use, error) {
	f := finder{known: make(map[string]overlayfs.Use), peers: make(map[string]int), masters: make(map[int]int)}
	own, err := namespaceOf("self")
	if err != nil {
		return nil, fmt.Errorf("cannot tell the own mount namespace: %w", err)
	}
	f.identify(t.All())
	f.add(t.All(), 0, own, unix.AT_FDCWD)
	err = OtherNamespaces(func(n Namespace) {
		if bytes.Contains(n.Table, []byte(overlayMark)) {
			// The kernel wrote it; what cannot be read has no overlays that could be told.
			if mounts, err := overlayfs.ParseMounts(bytes.NewReader(n.Table)); err == nil {
				f.add(mounts, n.PID, n.ID, n.Root)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	f.follow()
	return f.uses, nil
}

// overlayMark is in the line of each overlay in a mount table, and in no other: blanks in names are escaped.
const overlayMark = " - overlay "

type finder struct {
	uses  []overlayfs.Use
	known map[string]overlayfs.Use // by super block: what its paths led to where it was seen first

	// An unmount reaches those mounts that lie on peers or slaves of the mount that ours lies on.
	parents []peering      // of each of uses
	peers   map[string]int // super block → peer group that our own mount's parent sends to
	masters map[int]int    // peer group → group it receives from
}

// peering is the peer groups of a mount.
type peering struct{ shared, master int }

// follow finds out which copies in other namespaces go when ours is unmounted.
func (f *finder) follow() {
	for i := range f.uses {
		u := &f.uses[i]
		sends := f.peers[u.Dev]
		if u.PID == 0 || sends == 0 {
			continue
		}
		group := f.parents[i].shared
		if group == 0 {
			group = f.parents[i].master
		}
		for hops := 0; group != 0 && hops <= len(f.masters); hops++ {
			if group == sends {
				u.Follows = true
				break
			}
			group = f.masters[group]
		}
	}
}

// identify finds out what the paths of our own overlays lead to.
func (f *finder) identify(mounts []overlayfs.Mount) {
	var devs, paths []string
	for i := range mounts {
		if m := &mounts[i]; m.Overlay != nil && m.Overlay.Upper != "" {
			devs, paths = append(devs, m.Dev), append(paths, m.Overlay.Upper, m.Overlay.Work)
		}
	}
	ids := Identify(paths)
	for i, dev := range devs {
		if _, known := f.known[dev]; !known && ids[2*i] != (overlayfs.FileID{}) {
			f.known[dev] = overlayfs.Use{Upper: ids[2*i], Work: ids[2*i+1]}
		}
	}
}

// add takes in the writable overlays among mounts, whose paths start at root.
func (f *finder) add(mounts []overlayfs.Mount, pid int, ns uint64, root int) {
	groups := make(map[int]peering, len(mounts))
	for i := range mounts {
		m := &mounts[i]
		groups[m.ID] = peering{m.Shared, m.Master}
		if m.Shared != 0 && m.Master != 0 {
			f.masters[m.Shared] = m.Master
		}
	}
	for i := range mounts {
		m := &mounts[i]
		if m.Overlay == nil || m.Overlay.Upper == "" {
			continue
		}
		u, ok := f.known[m.Dev]
		if !ok {
			u.Upper, u.Work = fileID(root, m.Overlay.Upper), fileID(root, m.Overlay.Work)
			if u.Upper != (overlayfs.FileID{}) {
				f.known[m.Dev] = u
			}
		}
		u.Mountpoint, u.PID, u.Namespace, u.Dev, u.Source = m.Mountpoint, pid, ns, m.Dev, m.Source
		f.uses = append(f.uses, u)
		f.parents = append(f.parents, groups[m.Parent])
		if pid == 0 {
			f.peers[m.Dev] = groups[m.Parent].shared
		}
	}
}

// fileID identifies the directory that path leads to, symlinks followed as the kernel did when it mounted.
func fileID(root int, path string) overlayfs.FileID {
	if !strings.HasPrefix(path, "/") {
		return overlayfs.FileID{} // relative to where the mounter once stood
	}
	if root != unix.AT_FDCWD {
		fd, err := openIn(root, path)
		if err != nil {
			return overlayfs.FileID{}
		}
		defer unix.Close(fd)
		return statID(fd, "", unix.AT_EMPTY_PATH)
	}
	return statID(root, path, 0)
}

// openIn opens path as a process does whose root directory is root.
func openIn(root int, path string) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for range 10 { // EAGAIN: a rename somewhere made it uncertain whether the walk stayed in the root
		fd, err := unix.Openat2(root, path, &how)
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}

func statID(dir int, path string, flags int) overlayfs.FileID {
	var sx unix.Statx_t
	if err := unix.Statx(dir, path, flags|unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, unix.STATX_INO, &sx); err != nil {
		return overlayfs.FileID{}
	}
	return overlayfs.FileID{Dev: unix.Mkdev(sx.Dev_major, sx.Dev_minor), Ino: sx.Ino}
}
