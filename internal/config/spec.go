package config

import (
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// DefaultStateDir is where upperdir and workdir live when neither the
// overlay nor the settings block says otherwise.
const DefaultStateDir = "/var/lib/overlayd"

// Inputs is all that a spec may depend on besides its files.
type Inputs struct {
	// Root is the directory that --root names, "" or "/" for the host itself.
	// Only a default path lies below it: paths in the spec are the host's.
	Root string
	// Values holds --var and --var-file in the order given.
	Values []ValueArg
	// Environ is the environment in the form of os.Environ. Only names that
	// begin with OVERLAYD_VAR_ are looked at.
	Environ []string
	// HostName is the value of host.name.
	HostName string
}

// ValueArg is one --var or --var-file of the command line.
type ValueArg struct {
	// File is true for --var-file.
	File bool
	// Arg is NAME=EXPR, or a path.
	Arg string
}

// Spec is what the files ask for, evaluated and checked.
type Spec struct {
	// Sources holds every file read, by the name its diagnostics carry.
	Sources map[string]*hcl.File
	// Files are the spec files and Dirs the directories named as PATH, absolute,
	// symlinks not resolved.
	Files, Dirs []string
	// ValueFiles are the *.vars.hcl files read, absolute.
	ValueFiles []string
	// StateDir is settings.state_dir or its default.
	StateDir string
	// Agent is settings.agent.
	Agent Agent
	// Lowerdirs and Overlays are sorted by name and by address.
	Lowerdirs []Lowerdir
	Overlays  []*Overlay
}

// Agent is how the agent runs. What is "" or 0 the spec leaves to the agent.
type Agent struct {
	Policy string // observe, safe or full
	// Resync is how often the agent looks at the whole host, events or none.
	Resync Duration
	// MetricsFile is where it writes metrics, a *.prom file.
	MetricsFile string
}

// Lowerdir is a shared read-only layer.
type Lowerdir struct {
	Name  string
	Path  string
	Range hcl.Range // of the block header
}

// Address names one overlay: overlay.NAME, or overlay.NAME["KEY"] for an
// instance of a block with for_each.
type Address struct {
	Name  string
	Key   string
	Keyed bool
}

// String is the address as one writes it in HCL.
func (a Address) String() string {
	if !a.Keyed {
		return "overlay." + a.Name
	}
	return "overlay." + a.Name + "[" + quote(a.Key) + "]"
}

// compare orders by name, a block without key before one with, then by key.
func (a Address) compare(b Address) int {
	if c := strings.Compare(a.Name, b.Name); c != 0 {
		return c
	}
	if a.Keyed != b.Keyed {
		if b.Keyed {
			return -1
		}
		return 1
	}
	return strings.Compare(a.Key, b.Key)
}

// Overlay is one client's view. Instances of one block have lists and maps in
// common: they are to be read only.
type Overlay struct {
	Address Address
	Range   hcl.Range // of the block header
	Source  string    // absolute path of the file that declares it

	Lowerdirs  []Layer // topmost first
	Upperdir   string  // "" iff ReadOnly
	Workdir    string  // "" iff ReadOnly
	Mountpoint string

	// The ranges are those of the expressions; of the block header for what came
	// from the state directory.
	UpperRange, WorkRange, MountpointRange hcl.Range

	// DefaultUpper and DefaultWork tell that the path came from the state
	// directory; DataDir is then the directory that holds them, else "".
	DefaultUpper, DefaultWork bool
	DataDir                   string

	ReadOnly          bool
	AllowUnsafeParent bool

	// Owner, Group and Mode are for a merged root that overlayd makes; "" and nil
	// mean as the topmost lowerdir.
	Owner, Group string
	Mode         *uint32

	// Options holds only what the spec says: on or off for booleans of the
	// kernel, "" for bare flags.
	Options overlayfs.Options
	// OffFlags names the flags that the spec sets to false, such as nosuid, which
	// would otherwise be taken over from the mounts of the layers.
	OffFlags map[string]bool

	Unit      Unit
	Lifecycle Lifecycle
}

// Layer is one entry of lowerdirs.
type Layer struct {
	Path string
	// Ref is how the spec names it: lowerdir.NAME, an overlay's address, or ""
	// for a path written out.
	Ref string
	// Overlay is set when the layer is the mountpoint of another overlay of the
	// spec or lies within it, however it was named.
	Overlay *Address
	Range   hcl.Range
}

// Unit is what an administrator adds to the .mount unit.
type Unit struct {
	Description string   // "" means the address
	WantedBy    []string // overlayd.target unless the spec says otherwise
	After       []string
	Requires    []string
	Network     bool
}

// Values of Lifecycle.OnBusy.
const (
	OnBusyFail   = "fail"
	OnBusyDetach = "detach"
)

// Lifecycle is how an overlay may go away.
type Lifecycle struct {
	PreventDestroy bool
	OnBusy         string
}
