package doctor

import (
	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
)

// Facts is what was found out about a host, and about the overlays it is to carry.
type Facts struct {
	Question

	Privileges  Privileges
	Kernel      Kernel
	Mount       Mount
	Systemd     Systemd
	Security    Security
	Filesystems []Filesystem // those for upperdirs first
	Fstab       []FstabLine
	FstabErr    string

	TableErr string         // why the mount table could not be read
	Submount []Submount     // what lowerdirs do not show
	Refused  map[int]string // index into Overlays → why the kernel refused a trial of its layers
	TrialErr string         // why layers could not be tried out
	Tree     Tree           // with Question.Root
}

// Question is what to look at besides the host itself.
type Question struct {
	Root       string  // tree to look at instead of the host, "" for the host
	Places     []Place // the state_dir first
	Spec       Spec
	Overlays   []Overlay
	Unfinished bool // an apply or reset that was killed left something to finish
}

// Use is what a directory is for.
type Use string

// The uses.
const (
	StateDir Use = "state_dir"
	Upper    Use = "upperdir"
	Lower    Use = "lowerdir"
)

// Place is a directory that overlays live on, which need not exist.
type Place struct {
	Path    string
	Use     Use
	Overlay string // address; "" for the state_dir
}

// Spec is how the reading of the spec went.
type Spec struct {
	Paths    []string
	Missing  bool // there is none, and none was named
	Errors   int
	Warnings int
	Distrust []string // why an apply refuses files of the spec
	Err      string   // why overlays could not be compared with the host
}

// Overlay is one overlay of the spec, or one that was applied.
type Overlay struct {
	Address   string
	Source    string   // file:line
	Conflicts []string // what is in its way, each with the remedy
	Warnings  []string
	Options   overlayfs.Options
	Try       *overlayfs.Config // layers to try out; nil where they are mounted already, or cannot be
}

// Privileges is what this process may do.
type Privileges struct {
	Root         bool
	Mounts       bool // has CAP_SYS_ADMIN
	OwnNamespace bool // lives in another mount namespace than process 1
}

// Kernel is the running kernel.
type Kernel struct {
	Release      string
	Overlay      bool // has the filesystem
	Defaults     overlayfs.Defaults
	DefaultsSeen bool            // they were read, not assumed
	DefaultsErr  string          // why they could not be read
	Options      map[string]bool // what it takes, see host.Options; nil if not known
	OptionsErr   string          // why it is not known
}

// Mount is mount(8), which systemd runs at boot.
type Mount struct {
	Found     bool
	UtilLinux bool
	Version   string // of util-linux, "2.41.5"
	Text      string // first line of what it says about itself
	Helper    string // a mount.overlay that it would run instead of mounting
}

// Systemd is what is there of systemd.
type Systemd struct {
	Version int  // 0: not installed, or it does not say
	Running bool // runs this host
	Err     string
	// RunFree is the room in /run, in bytes; RunErr why it is not known.
	RunFree uint64
	RunErr  string
}

// Security is what else the kernel asks before it allows something.
type Security struct {
	Modules []string // of /sys/kernel/security/lsm, nil if that is not to be seen
	SELinux string   // enforcing, permissive, or "" without it
}

// Filesystem is one mount, and what directories on it are for; one with upperdirs and lowerdirs is there twice.
type Filesystem struct {
	Use        Use
	Paths      []string // as given, sorted
	Overlays   []string // addresses, sorted
	Mountpoint string
	Type       string
	ReadOnly   bool
	Network    bool
	Flags      []string // nosuid, nodev, noexec
	Depth      int      // overlays on top of each other, at least; those mounted by relative paths are not followed
	Missing    bool     // none of Paths is there yet
	Err        string   // why it could not be looked at

	Space      *host.Space // nil: not asked
	ShowsTypes *bool       // d_type; nil: not known
	UserXattrs *bool       // nil: not known
	Upper      UpperTrial  // of one for upperdirs
}

// UpperTrial is what came of the question whether a filesystem can hold upperdirs. It can if all fields are empty.
type UpperTrial struct {
	Cause, Remedy string // why it cannot, and what to do
	NotTried      string // why that is not known
}

// Submount is a mount below a lowerdir: overlays show the empty directory under it.
type Submount struct {
	Lower  string
	Mounts []string
}

// FstabLine is a line of fstab that mounts an overlay.
type FstabLine struct {
	Line       int
	Mountpoint string
	Careless   bool // without nofail or noauto: its failure stops the boot
}

// Tree is what a tree prepared with --root has for its own boot.
type Tree struct {
	Mount, Systemd bool
	Helper         string
}
