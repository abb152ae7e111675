package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// mountInfo is what all paths on one mount have in common.
type mountInfo struct {
	point    string
	fsType   string
	magic    int64
	readOnly bool
	network  bool
	flags    overlayfs.Options
	folds    bool // a filesystem whose directories may fold case
}

// mount describes the filesystem at n's base: one statfs(2) for each mount.
func (p *Prober) mount(n *node) *mountInfo {
	if m, ok := p.mounts[n.mountID]; ok {
		return m
	}
	m := &mountInfo{flags: overlayfs.Options{}}
	if p.table != nil {
		if mnt, ok := p.table.ByID(n.mountID); ok {
			m.fsType, m.readOnly, m.point = mnt.FSType, mnt.SuperReadOnly, mnt.Mountpoint
			for _, name := range []string{"nosuid", "nodev", "noexec", "ro"} {
				if _, ok := mnt.Flags[name]; ok {
					m.flags[name] = ""
				}
			}
		}
	}
	m.magic, m.network = networkType(m.fsType)
	switch {
	case m.fsType == "overlay":
		m.magic = unix.OVERLAYFS_SUPER_MAGIC // the table has told all, and of these there are thousands
	case !m.network && n.base != "":
		m.statfs(n.base, p.table == nil)
	}
	if _, ok := m.flags["ro"]; ok {
		m.readOnly = true
	}
	p.mounts[n.mountID] = m
	return m
}

// statfs fills in what the filesystem says. It is not for network filesystems: it asks the server, which may be dead.
func (m *mountInfo) statfs(path string, flags bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return
	}
	m.magic = int64(uint32(st.Type)) // as wide as the constants on every architecture; the type's own width varies
	m.network = networkMagic(m.magic)
	m.folds = mayFold("/sys/fs", m.magic)
	m.readOnly = m.readOnly || st.Flags&unix.ST_RDONLY != 0
	if !flags {
		return
	}
	for name, bit := range map[string]int64{
		"nosuid": unix.ST_NOSUID, "nodev": unix.ST_NODEV, "noexec": unix.ST_NOEXEC, "ro": unix.ST_RDONLY,
	} {
		if int64(st.Flags)&bit != 0 {
			m.flags[name] = ""
		}
	}
}

// mayFold tells whether directories of a filesystem of that type may fold case. That kernels were built without it is
// shown below /sys/fs: by ext4 since 5.2, by f2fs since 5.4, by tmpfs since 6.13. Where nothing is shown they may.
func mayFold(sysfs string, magic int64) bool {
	name := ""
	switch magic {
	case unix.EXT4_SUPER_MAGIC:
		name = "ext4"
	case unix.F2FS_SUPER_MAGIC:
		name = "f2fs"
	case unix.TMPFS_MAGIC:
		name = "tmpfs"
	default:
		return false
	}
	features := filepath.Join(sysfs, name, "features")
	if _, err := os.Stat(features); err != nil {
		return true
	}
	_, err := os.Stat(filepath.Join(features, "casefold"))
	return !errors.Is(err, fs.ErrNotExist)
}

// lookInside tells whether a directory folds case, which no layer may, and if entries is set whether it is empty.
func lookInside(dir string, folds, entries bool) (empty, fold bool) {
	const casefold = 0x40000000 // FS_CASEFOLD_FL
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err := unix.Open(dir, flags|unix.O_NOATIME, 0)
	if err == unix.EPERM { // not the owner
		fd, err = unix.Open(dir, flags, 0)
	}
	if err != nil {
		return false, false
	}
	defer unix.Close(fd)
	if folds {
		if v, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS); err == nil {
			fold = v&casefold != 0
		}
	}
	if !entries {
		return false, fold
	}
	var buf [512]byte // room for "." and ".." and one name of any length at least
	for {
		n, err := unix.Getdents(fd, buf[:])
		if err != nil {
			return false, fold
		}
		if n <= 0 {
			return true, fold
		}
		if _, count, _ := unix.ParseDirent(buf[:n], -1, nil); count > 0 { // without . and ..
			return false, fold
		}
	}
}

// networkType tells filesystems whose data comes over the network by their name.
func networkType(fsType string) (magic int64, network bool) {
	switch fsType {
	case "nfs", "nfs4":
		return unix.NFS_SUPER_MAGIC, true
	case "cifs", "smb3":
		return unix.CIFS_SUPER_MAGIC, true
	case "ceph", "smbfs", "afs", "coda", "ncpfs", "ncp", "gfs", "gfs2", "ocfs2", "lustre", "orangefs", "pvfs2",
		"glusterfs", "davfs", "gpfs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.rclone", "fuse.s3fs",
		"fuse.davfs", "fuse.davfs2", "fuse.curlftpfs", "fuse.juicefs", "fuse.moosefs":
		return 0, true
	}
	return 0, strings.HasPrefix(fsType, "fuse.mfs")
}

func networkMagic(magic int64) bool {
	switch magic {
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CEPH_SUPER_MAGIC,
		unix.AFS_FS_MAGIC, unix.AFS_SUPER_MAGIC, unix.CODA_SUPER_MAGIC, unix.NCP_SUPER_MAGIC, unix.OCFS2_SUPER_MAGIC:
		return true
	}
	return false
}
