package plan

import (
	"fmt"
	"slices"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/units"
)

// Kind is what a change does.
type Kind string

// The kinds of change, in the order in which a summary names them.
const (
	Create   Kind = "create"
	Adopt    Kind = "adopt"
	Update   Kind = "update"
	Repair   Kind = "repair"
	Replace  Kind = "replace"
	Delete   Kind = "delete"
	Conflict Kind = "conflict"
	NoOp     Kind = "no_op"
)

// ResetKind is the kind of a change that [Desired.Resets] asks for. No spec does, so no plan of one has it.
const ResetKind Kind = "reset"

// Kinds lists all kinds that a plan of a spec can have, in the order of a summary.
func Kinds() []Kind { return []Kind{Create, Adopt, Update, Repair, Replace, Delete, Conflict, NoOp} }

// Via is the way a mount is taken down or put up.
type Via string

// The ways. A change that touches no mount has none.
const (
	ViaNone    Via = ""
	ViaSyscall Via = "syscall"
	ViaSystemd Via = "systemd"
)

// View is an overlay as people see it.
type View struct {
	Lowerdirs  []string          `json:"lowerdirs"`
	Upperdir   string            `json:"upperdir"`
	Workdir    string            `json:"workdir"`
	Mountpoint string            `json:"mountpoint"`
	Options    overlayfs.Options `json:"options"`
}

// Change is the difference at one address.
type Change struct {
	Address    string
	Kind       Kind
	Unit       string
	Mountpoint string
	Source     string // file:line; the file alone when the block has gone
	Via        Via
	ViaReason  string // why systemd has to do it
	Disruptive bool   // takes a live mount down
	Reasons    []string
	Warnings   []string // what can be done, and better were not
	Before     *View
	After      *View
	Impact     Impact
	Keeps      []string // upperdirs that stay although nothing uses them any more
	Made       []string // upperdir and workdir of a delete, where overlayd made them
	DraggedBy  string   // address of what takes it down, where nothing is wrong with it itself

	Do Actions
}

// Actions is what apply does for a change. A field that is empty is not done.
type Actions struct {
	Write   *units.Mount      // unit to write
	Remove  []string          // unit files to remove
	Link    [][2]string       // target, unit
	Unlink  [][2]string       // target, unit
	Dirs    []Dir             // to make, parents first
	Clean   []string          // directories of ours to remove when they are empty
	Unmount []Live            // live mounts to take down, topmost first
	Detach  bool              // a busy mount may be detached: on_busy of a delete
	Mount   *overlayfs.Config // what to mount at Mountpoint
	Holds   []string          // keys of its upperdir and workdir
	Below   []string          // mountpoints of the overlays it stands on
	Start   bool              // the mount is put up by a start job
	Remount overlayfs.Options // per-mount flags to set in place, nil for none
	Reset   *Reset            // what the client wrote goes, while nothing is mounted
	Trash   []string          // directories of earlier resets that are to be deleted
}

// Live is a mount that stands.
type Live struct {
	Mountpoint string
	Unit       string
	Upper      string
	Work       string
	Dev        string   // of its super block
	Holds      []string // keys of its upperdir and workdir
	Below      []string // mountpoints of the live overlays it stands on
	Depth      int      // how many overlays are below it
	ViaSystemd bool
}

// Dir is a directory to make.
type Dir struct {
	Path        string
	UID, GID    uint32
	Mode        uint32
	AllowUnsafe bool
	Marker      bool // is a data directory of ours
	Merged      bool // is an upperdir, whose owner and mode the merged root has
}

// Plan is the whole difference.
type Plan struct {
	Changes []Change // in order of execution; conflicts and no-ops last
	Target  TargetAction
}

// TargetAction is what happens to overlayd.target.
type TargetAction int

// What may happen to overlayd.target.
const (
	TargetKeep TargetAction = iota
	TargetWrite
	TargetRemove
)

// InSync tells whether there is nothing to do and nothing in the way.
func (p Plan) InSync() bool {
	return !slices.ContainsFunc(p.Changes, func(c Change) bool { return c.Kind != NoOp }) && p.Target == TargetKeep
}

// Pending tells whether an apply would do anything.
func (p Plan) Pending() bool {
	return p.Target != TargetKeep ||
		slices.ContainsFunc(p.Changes, func(c Change) bool { return c.Kind != NoOp && c.Kind != Conflict })
}

// Count gives the number of changes of a kind.
func (p Plan) Count(k Kind) int {
	n := 0
	for _, c := range p.Changes {
		if c.Kind == k {
			n++
		}
	}
	return n
}

// Find gives the change of an address.
func (p Plan) Find(address string) (*Change, bool) {
	for i := range p.Changes {
		if p.Changes[i].Address == address {
			return &p.Changes[i], true
		}
	}
	return nil, false
}

// conflict makes the change a conflict: nothing is done, and the reasons say why.
func (c *Change) conflict(format string, args ...any) {
	reason := fmt.Sprintf(format, args...)
	if c.Kind != Conflict {
		*c = Change{
			Address: c.Address, Kind: Conflict, Unit: c.Unit, Mountpoint: c.Mountpoint, Source: c.Source,
			Before: c.Before, After: c.After,
		}
	}
	c.Reasons = append(c.Reasons, reason)
}

func (c *Change) because(format string, args ...any) {
	c.Reasons = append(c.Reasons, fmt.Sprintf(format, args...))
}

// first puts reasons before those that are there, each once.
func (c *Change) first(reasons []string) {
	for _, r := range c.Reasons {
		if !slices.Contains(reasons, r) {
			reasons = append(reasons, r)
		}
	}
	c.Reasons = reasons
}

// view shows a config to people: what only mount(8) and systemd read is left out. It shares what it can with the
// config.
func view(c overlayfs.Config, mountpoint string) *View {
	return viewWith(c, mountpoint, shown(c.Options))
}

func viewWith(c overlayfs.Config, mountpoint string, options overlayfs.Options) *View {
	lower := c.Lower
	if len(c.Data) > 0 {
		lower = slices.Concat(c.Lower, c.Data)
	}
	return &View{Lowerdirs: lower, Upperdir: c.Upper, Workdir: c.Work, Mountpoint: mountpoint, Options: options}
}

// view shows what is wanted.
func (g *goal) view() *View { return viewWith(g.config, g.Mountpoint, g.shown) }

// shown gives options without those that only mount(8) and systemd read.
func shown(o overlayfs.Options) overlayfs.Options {
	hidden := false
	for name := range o {
		hidden = hidden || overlayfs.ClassOf(name) == overlayfs.ClassUserspace
	}
	if !hidden && o != nil {
		return o
	}
	out := overlayfs.Options{}
	for name, value := range o {
		if overlayfs.ClassOf(name) != overlayfs.ClassUserspace {
			out[name] = value
		}
	}
	return out
}

func place(file string, line int) string {
	if line == 0 {
		return file
	}
	return fmt.Sprintf("%s:%d", file, line)
}
