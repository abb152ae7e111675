package importer

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// Line is an overlay's line of fstab.
type Line struct {
	File       string
	Number     int
	Mountpoint string
	Config     overlayfs.Config
	Options    []string // as written, in their order
	Err        string   // why the options could not be read
}

// unitSettings is what a unit block says.
type unitSettings struct {
	network         bool
	noBoot          bool
	wantedBy        []string
	after, requires []string
}

// ParseFstab reads the overlays of an fstab; file is its name.
func ParseFstab(text, file string) []Line {
	var out []Line
	number := 0
	for line := range strings.SplitSeq(text, "\n") {
		number++
		fields := strings.Fields(line)
		if len(fields) < 3 || strings.HasPrefix(fields[0], "#") || fields[2] != "overlay" {
			continue
		}
		l := Line{File: file, Number: number, Mountpoint: path.Clean(overlayfs.DecodeOctal(fields[1]))}
		given := ""
		if len(fields) > 3 {
			given = overlayfs.DecodeOctal(fields[3])
		}
		l.Options = split(given)
		var err error
		if l.Config, err = overlayfs.ParseMountOptions(given); err != nil {
			l.Err = err.Error()
		} else if len(l.Config.Lower) == 0 {
			l.Err = "the line names no lowerdir"
		}
		out = append(out, l)
	}
	return out
}

// split cuts mount options at the commas that no backslash protects.
func split(options string) []string {
	var out []string
	start := 0
	for i := 0; i < len(options); i++ {
		switch options[i] {
		case '\\':
			i++
		case ',':
			out = append(out, options[start:i])
			start = i + 1
		}
	}
	return append(out, options[start:])
}

func (l Line) place() string { return fmt.Sprintf("line %d of %s", l.Number, l.File) }

// mount is what the line would mount, in the form in which the mount table would show it.
func (l Line) mount() overlayfs.Mount {
	flags := overlayfs.Options{}
	for name := range l.Config.Options {
		if overlayfs.ClassOf(name) == overlayfs.ClassPerMount {
			flags[name] = ""
		}
	}
	implied := map[string][]string{ // mount(8)
		"user": {"nosuid", "nodev", "noexec"}, "users": {"nosuid", "nodev", "noexec"},
		"owner": {"nosuid", "nodev"}, "group": {"nosuid", "nodev"},
	}
	for name, more := range implied {
		if _, ok := l.Config.Options[name]; !ok {
			continue
		}
		for _, flag := range more {
			if _, no := l.Config.Options[strings.TrimPrefix(flag, "no")]; !no {
				flags[flag] = ""
			}
		}
	}
	config := l.Config
	return overlayfs.Mount{Mountpoint: l.Mountpoint, FSType: "overlay", Flags: flags, Overlay: &config}
}

// annotate adds what only the line knows: how the mount is bound to the rest of the system. live is the mount, empty
// if there is none.
func (l Line) annotate(o *overlay, live overlayfs.Mount, d overlayfs.Defaults, sameFS bool) {
	then := "create"
	if o.mounted {
		then = "adopt"
	}
	o.note("Line %d of %s. Plan says conflict until that line is removed, and then %s.", l.Number, l.File, then)
	if o.mounted && l.Err == "" {
		if diff := overlayfs.Compare(l.Config, live, d, sameFS, nil); !diff.None() {
			o.note("It is mounted otherwise than the line says, and written as it is mounted: %s.",
				strings.Join(diff.Reasons, "; "))
		}
	}
	var dropped []string
	for _, option := range l.Options {
		name, value, _ := strings.Cut(option, "=")
		unit := value != "" && !strings.HasPrefix(value, "/")
		switch {
		case overlayfs.ClassOf(name) != overlayfs.ClassUserspace, silent[name]:
		case name == "noauto":
			o.unit.noBoot = true
			o.note("Not mounted at boot, as the line says noauto.")
		case name == "_netdev":
			o.unit.network = true
		case name == "x-systemd.after" && unit:
			o.unit.after = append(o.unit.after, value)
		case name == "x-systemd.requires" && unit: // implies After=, as systemd.mount(5) says
			o.unit.after = append(o.unit.after, value)
			o.unit.requires = append(o.unit.requires, value)
		case name == "x-systemd.wanted-by" && unit:
			o.unit.wantedBy = append(o.unit.wantedBy, value)
		case name != "":
			dropped = append(dropped, option)
		}
	}
	if len(dropped) > 0 {
		slices.Sort(dropped)
		o.note("Not carried over from the line: %s.", show(strings.Join(slices.Compact(dropped), ", ")))
	}
}

// silent are the options that say what overlayd does anyway.
var silent = map[string]bool{
	"nofail": true, "defaults": true, "auto": true, "rw": true, "nouser": true, "suid": true, "dev": true, "exec": true,
	"async": true, "atime": true, "diratime": true, "norelatime": true, "nostrictatime": true, "symfollow": true,
}

// lines are the attributes of the unit block.
func (u unitSettings) lines() []setting {
	var out []setting
	switch {
	case len(u.wantedBy) > 0:
		out = append(out, setting{"wanted_by", list(u.wantedBy)})
	case u.noBoot:
		out = append(out, setting{"wanted_by", "[]"})
	}
	if len(u.after) > 0 {
		out = append(out, setting{"after", list(u.after)})
	}
	if len(u.requires) > 0 {
		out = append(out, setting{"requires", list(u.requires)})
	}
	if u.network {
		out = append(out, setting{"network", fmt.Sprint(u.network)})
	}
	return out
}

func list(items []string) string {
	quoted := make([]string, 0, len(items))
	for _, s := range items {
		quoted = append(quoted, quote(s))
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
