package plan

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// Desired is what a spec asks for, in plain values. A saved plan carries it, so apply needs no spec.
type Desired struct {
	Overlays []Overlay `json:"overlays"` // sorted by address
	Scope    Scope     `json:"scope"`
	// Orphans are mountpoints of live overlays of ours that are to go although they have no unit file any more.
	Orphans []string `json:"orphans,omitempty"`
	// Resets are the overlays that are to go back to pristine, by mountpoint. They are desired as they were applied.
	Resets map[string]Reset `json:"-"`

	whole *Index // of the spec that this is a part of, nil for a whole one
}

// Scope tells which applied units a run may delete.
type Scope struct {
	Files []string `json:"files"` // absolute paths of the spec files loaded
	Dirs  []string `json:"dirs"`  // absolute paths of the directories named
	// Mountpoints are named one by one, wherever their units came from.
	Mountpoints []string `json:"mountpoints,omitempty"`
}

// Contains tells whether a unit that came from the spec file source is in scope.
func (s Scope) Contains(source string) bool {
	return slices.Contains(s.Files, source) || slices.Contains(s.Dirs, path.Dir(source))
}

// empty tells whether nothing can be in scope.
func (s Scope) empty() bool { return len(s.Files)+len(s.Dirs)+len(s.Mountpoints) == 0 }

// Overlay is one client's view as the spec wants it.
type Overlay struct {
	Address string `json:"address"` // overlay.NAME or overlay.NAME["KEY"]
	Name    string `json:"name"`
	Key     string `json:"key,omitempty"`
	Source  string `json:"source"` // absolute path of the spec file
	Line    int    `json:"line"`

	Lower      []string `json:"lowerdirs"` // topmost first, symlinks not resolved
	Upper      string   `json:"upperdir,omitempty"`
	Work       string   `json:"workdir,omitempty"`
	DataDir    string   `json:"data_dir,omitempty"` // holds Upper or Work where the spec names none
	Mountpoint string   `json:"mountpoint"`

	AllowUnsafeParent bool   `json:"allow_unsafe_parent,omitempty"`
	Owner             string `json:"owner,omitempty"`
	Group             string `json:"group,omitempty"`
	UID               int    `json:"uid"` // of Owner, -1 without one
	GID               int    `json:"gid"`
	Mode              *int   `json:"mode,omitempty"`
	BadOwner          string `json:"bad_owner,omitempty"` // why Owner or Group is no account of this host

	Options  overlayfs.Options `json:"options"` // as the spec says, varying defaults pinned
	OffFlags []string          `json:"off_flags,omitempty"`

	Description string   `json:"description"`
	WantedBy    []string `json:"wanted_by"`
	After       []string `json:"after,omitempty"`
	Requires    []string `json:"requires,omitempty"`
	Network     bool     `json:"network,omitempty"`

	PreventDestroy bool   `json:"prevent_destroy,omitempty"`
	OnBusy         string `json:"on_busy"`

	// Applied is set where the unit file itself is what is desired, as for drift. Then it is taken to the letter, and
	// nothing is derived from the host: no symlink resolved, no flag taken over.
	Applied *UnitFile `json:"-"`
}

// ReadOnly tells whether the overlay has no upperdir.
func (o Overlay) ReadOnly() bool { return o.Upper == "" }

// Place is where the overlay is declared, "file.hcl:12".
func (o Overlay) Place() string { return place(o.Source, o.Line) }

// paths are all paths the overlay names.
func (o Overlay) paths() []string {
	out := append(slices.Clone(o.Lower), o.Mountpoint)
	if !o.ReadOnly() {
		out = append(out, o.Upper, o.Work)
	}
	if o.DataDir != "" {
		out = append(out, o.DataDir)
	}
	return out
}

// within tells whether p is dir or lies below it.
func within(p, dir string) bool {
	return p == dir || dir == "/" || (strings.HasPrefix(p, dir) && p[len(dir)] == '/')
}

// ancestors calls f with p and each directory above it until f says stop.
func ancestors(p string, f func(dir string) (stop bool)) {
	for {
		if f(p) || p == "/" || p == "." {
			return
		}
		p = path.Dir(p)
	}
}

// Sort puts the overlays in the order of their addresses, and of their mountpoints where two units share an address.
func (d *Desired) Sort() {
	slices.SortFunc(d.Overlays, func(a, b Overlay) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.Mountpoint, b.Mountpoint))
	})
}
