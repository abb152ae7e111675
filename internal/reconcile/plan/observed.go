package plan

import (
	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/units"
)

// Observed is what the machine was seen to be.
type Observed struct {
	Units     map[string]UnitFile        // every .mount file of the unit directory, by unit name
	Elsewhere map[string]string          // unit name → a unit file of that name outside the unit directory
	DropIns   map[string][]string        // unit name → drop-ins that change its [Mount] section
	Wants     map[string]map[string]bool // target → units linked below TARGET.wants
	Target    TargetUnit
	Fstab     map[string]FstabLine // by mountpoint
	Gone      map[string]bool      // spec files named by units that no longer exist
	Marked    map[string]bool      // data directories that bear overlayd's mark; looked at where no unit tells

	Mounts   *overlayfs.Table
	Paths    map[string]overlayfs.PathInfo
	Held     map[string]overlayfs.FileID // upperdirs and workdirs of which nothing else was looked at
	Defaults overlayfs.Defaults

	Systemd bool            // systemd runs this host
	NoUnit  map[string]bool // units named by requires that systemd does not know
	Offline bool            // --root: nothing can be mounted

	// Uses and Impact cost a look at every process. They are filled in where a first plan showed that it matters.
	Uses   []overlayfs.Use
	Impact map[string]Impact // by mountpoint

	Resets map[string]ResetFacts // by mountpoint, of what Desired.Resets asks for
}

// UnitFile is a file of the unit directory.
type UnitFile struct {
	units.File
	Path   string
	Text   string
	Link   string           // where it leads, when it is a symlink
	Config overlayfs.Config // what Options= mounts
	Err    string           // why one of ours, or its options, could not be read
}

// TargetUnit is what stands at overlayd.target.
type TargetUnit struct {
	Exists  bool
	Ours    bool
	Current bool // has the text this version writes
	Enabled bool // linked from multi-user.target
	Path    string
}

// FstabLine is a line of /etc/fstab.
type FstabLine struct {
	File string
	Line int
}

// Impact is what a disruptive change would hit.
type Impact struct {
	Units     []string            `json:"units"`     // active units that systemd stops with the mount
	Mounts    []string            `json:"mounts"`    // mounts below the mountpoint
	Processes []overlayfs.Process `json:"processes"` // nil: not permitted to look
}

// path gives what is known of p. What was not looked at does not exist.
func (o *Observed) path(p string) overlayfs.PathInfo {
	if i, ok := o.Paths[p]; ok {
		return i
	}
	if id, ok := o.Held[p]; ok {
		return overlayfs.PathInfo{Path: p, Real: p, Exists: true, ID: id}
	}
	return overlayfs.PathInfo{Path: p, Real: p}
}

// ID gives the directory that p leads to, the zero FileID if it leads nowhere or was not looked at.
func (o *Observed) ID(p string) overlayfs.FileID {
	if id, ok := o.Held[p]; ok {
		return id
	}
	return o.Paths[p].ID
}

// HasData tells whether an overlay's upperdir or workdir exists in its data directory, which then exists as well, looked
// at or not.
func (o *Observed) HasData(of *Overlay) bool {
	in := func(p string) bool { return within(p, of.DataDir) && o.path(p).Exists }
	return of.DataDir != "" && (in(of.Upper) || in(of.Work))
}

// target gives where the symlinks in a path lead.
func (o *Observed) target(p string) string {
	info := o.path(p)
	return leadsTo(p, &info)
}

func leadsTo(p string, info *overlayfs.PathInfo) string {
	if info.Symlink != "" && info.Real != "" {
		return info.Real
	}
	return p
}

// same tells whether two path texts lead to one directory.
func (o *Observed) same(a, b string) bool {
	x, y := o.path(a), o.path(b)
	return x.Exists && y.Exists && x.ID == y.ID
}
