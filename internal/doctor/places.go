package doctor

import (
	"cmp"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
)

// place is a Place looked at.
type place struct {
	Place
	info overlayfs.PathInfo
}

// group is what one Filesystem will be about: what has the same use on the same mount. The state_dir takes in the
// upperdirs that lie in it.
type group struct {
	use   Use
	mount int
	about string // the path of the state_dir, and of what could not be looked at
}

// lookFilesystems looks at the places, and asks each mount once: a host with thousands of overlays has a few.
func (f *Facts) lookFilesystems() {
	table, err := host.ReadTable()
	if err != nil {
		f.TableErr = err.Error()
	}
	prober := host.NewProber(table)
	state := ""
	groups := map[group][]place{}
	for _, p := range f.Places {
		at := place{p, prober.Look(p.Path)}
		g := group{use: p.Use, mount: at.info.MountID}
		switch {
		case at.info.Err != "":
			g = group{use: p.Use, about: p.Path}
		case p.Use == Lower && !at.info.Exists:
			continue // a plan says that it is missing; what is above it says nothing
		case p.Use == StateDir:
			state, g.about = p.Path, p.Path
		case p.Use == Upper && state != "" && strings.HasPrefix(p.Path, state+"/"):
			if inside := (group{StateDir, at.info.MountID, state}); groups[inside] != nil {
				g = inside
			}
		}
		groups[g] = append(groups[g], at)
	}
	order := map[Use]int{StateDir: 0, Upper: 1, Lower: 2}
	keys := slices.SortedFunc(maps.Keys(groups), func(a, b group) int {
		return cmp.Or(order[a.use]-order[b.use], cmp.Compare(groups[a][0].Path, groups[b][0].Path))
	})
	for _, g := range keys {
		f.Filesystems = append(f.Filesystems, filesystem(g, groups[g], table, prober))
	}
	f.lookBelow(groups, table)
}

func filesystem(g group, places []place, table *overlayfs.Table, prober *host.Prober) Filesystem {
	info := places[0].info
	fs := Filesystem{
		Use: g.use, Type: info.FSType, ReadOnly: info.ReadOnly, Network: info.Network, Err: info.Err, Missing: true,
	}
	if fs.Err != "" {
		fs.Type = ""
	}
	for _, p := range places {
		fs.Paths = append(fs.Paths, p.Path)
		if p.Overlay != "" {
			fs.Overlays = append(fs.Overlays, p.Overlay)
		}
		fs.Missing = fs.Missing && !p.info.Exists
	}
	// The state_dir stays in front, whatever lies in it.
	if g.use != StateDir {
		slices.Sort(fs.Paths)
	}
	fs.Paths, fs.Overlays = slices.Compact(fs.Paths), sortedOnce(fs.Overlays)
	for _, flag := range []string{"nosuid", "nodev", "noexec"} {
		if _, ok := info.Flags[flag]; ok {
			fs.Flags = append(fs.Flags, flag)
		}
	}
	if table != nil {
		if m, ok := table.ByID(info.MountID); ok {
			fs.Mountpoint = m.Mountpoint
		}
		fs.Depth = depth(info.MountID, table, prober)
	}
	if fs.Err != "" {
		return fs
	}
	if g.use == Lower {
		fs.lookLower(info)
	} else {
		fs.lookUpper(info)
	}
	return fs
}

func sortedOnce(all []string) []string {
	slices.Sort(all)
	return slices.Compact(all)
}

// depth counts the overlays that lie on each other at a mount.
func depth(mountID int, table *overlayfs.Table, prober *host.Prober) int {
	const enough = depthLimit + 1 // the kernel mounts no more
	var down func(id, most int) int
	down = func(id, most int) int {
		m, ok := table.ByID(id)
		if !ok || m.Overlay == nil || most == 0 {
			return 0
		}
		n := 0
		for _, layer := range slices.Concat(m.Overlay.Lower, m.Overlay.Data) {
			n = max(n, down(prober.Look(layer).MountID, most-1))
		}
		return n + 1
	}
	return down(mountID, enough)
}

func (fs *Filesystem) lookLower(info overlayfs.PathInfo) {
	if fs.Network || !info.IsDir {
		return
	}
	if typed, err := host.ShowsTypes(info.Real); err == nil { // else who may not list it learns nothing
		fs.ShowsTypes = &typed
	}
}

const onNetwork = "on the network nothing is tried: a server that is gone would never answer"

func (fs *Filesystem) lookUpper(info overlayfs.PathInfo) {
	if fs.Network {
		fs.Upper.NotTried = onNetwork
		switch fs.Type {
		case "nfs", "nfs4", "cifs", "smb3", "fuse.sshfs": // no trusted.* attributes, no whiteouts
			fs.Upper = UpperTrial{
				Cause: "it is on the network", Remedy: "put upperdirs on a local filesystem such as ext4, xfs or btrfs",
			}
		}
		return
	}
	if space, err := host.SpaceOf(info.Base); err == nil { // the trial below fails where this does, and says why
		fs.Space = &space
	}
	err := host.CheckUpper(info.Real)
	refused, ok := errors.AsType[*host.UpperError](err)
	switch {
	case err == nil:
		if kept, err := host.UserXattrs(info.Real); err == nil {
			fs.UserXattrs = &kept
		}
	case ok:
		fs.Upper = UpperTrial{Cause: refused.Cause, Remedy: refused.Remedy}
	case errors.Is(err, host.ErrNotPermitted) && os.Geteuid() == 0:
		fs.Upper = UpperTrial{
			Cause:  "this root may not set trusted.* attributes: it lacks CAP_SYS_ADMIN, or lives in a user namespace",
			Remedy: "run overlayd on the host itself",
		}
	case os.Geteuid() != 0 && (errors.Is(err, host.ErrNotPermitted) || errors.Is(err, unix.EACCES)):
		fs.Upper.NotTried = "to try takes root"
	default:
		fs.Upper.NotTried = err.Error()
	}
}

// holdNothing are filesystems mounted below "/" of every host that no lowerdir is expected to show.
func holdNothing(fsType string) bool {
	switch fsType {
	case "proc", "sysfs", "devtmpfs", "devpts", "tmpfs", "ramfs", "cgroup", "cgroup2", "securityfs", "debugfs", "tracefs",
		"configfs", "fusectl", "fuse.portal", "mqueue", "hugetlbfs", "pstore", "efivarfs", "bpf", "autofs", "binfmt_misc",
		"nsfs", "rpc_pipefs", "nfsd", "selinuxfs", "overlay":
		return true
	}
	return false
}

// lookBelow finds what is mounted below lowerdirs.
func (f *Facts) lookBelow(groups map[group][]place, table *overlayfs.Table) {
	if table == nil {
		return
	}
	below := map[string][]string{}
	for g, places := range groups {
		for _, p := range places {
			if g.use != Lower || below[p.Path] != nil {
				continue
			}
			for _, m := range table.Below(p.info.Real) {
				if !holdNothing(m.FSType) {
					below[p.Path] = append(below[p.Path], m.Mountpoint)
				}
			}
		}
	}
	for _, lower := range slices.Sorted(maps.Keys(below)) {
		f.Submount = append(f.Submount, Submount{Lower: lower, Mounts: sortedOnce(below[lower])})
	}
}
