package overlayfs

// The types below are what package host finds out about a machine. They live here, as plain values, so that the plan
// can think about them without touching the machine.

// FileID identifies a directory or file by device and inode.
type FileID struct {
	Dev uint64 `json:"dev"`
	Ino uint64 `json:"ino"`
}

// Process is a process that keeps a mount busy.
type Process struct {
	PID     int    `json:"pid"`
	Command string `json:"command"`
}

// Use is one live, writable overlay in some mount namespace.
type Use struct {
	Mountpoint string // as that namespace sees it
	Source     string
	Dev        string // of the super block, "0:45"; copies of one mount in several namespaces share it
	PID        int    // a process in that namespace; 0 is our own
	Namespace  uint64 // inode number of the namespace
	Upper      FileID
	Work       FileID
	// Follows tells of a copy in another namespace that it goes when ours is unmounted, by mount propagation.
	Follows bool
	// Detached tells of an overlay that is in no mount table any more, but that a process still uses.
	Detached bool
}

// PathInfo is one path looked at, whether or not it exists.
type PathInfo struct {
	Path    string
	Exists  bool
	IsDir   bool
	Empty   bool   // an existing directory without entries, where that was looked at
	Symlink string // the first component that is a symlink, "" if there is none
	Real    string // Path with symlinks resolved, as far as it exists
	ID      FileID
	UID     uint32
	GID     uint32
	Mode    uint32

	// Base is the nearest existing directory, Path itself or an ancestor. The fields below describe what it lies on.
	Base     string
	BaseID   FileID
	MountID  int
	FSType   string
	Magic    int64
	ReadOnly bool
	Network  bool
	CaseFold bool
	Flags    Options // nosuid, nodev, noexec, ro of the mount

	Unsafe string // why somebody other than root can change what the path leads to; "" if nobody can
	Denied bool   // it could not be looked at, as this is not root
	Err    string // why the path could not be looked at; "" normally, also for one that does not exist
}
