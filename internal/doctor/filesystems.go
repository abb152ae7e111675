package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/overlayd/overlayd/internal/overlayfs/host"
)

// A filesystem for upperdirs is low when less than these are left, for bytes and for inodes.
const (
	lowPercent = 5
	lowBytes   = 1 << 30
)

// depthLimit is how many overlays the kernel puts on top of each other (FILESYSTEM_MAX_STACK_DEPTH).
const depthLimit = 2

func (r *report) filesystems(f Facts) {
	for _, fs := range f.Filesystems {
		v := verdict{level: OK}
		switch {
		case fs.Err != "":
			v.say(Warning, fs.Err, asRoot(f, ""))
		case fs.Use == Lower:
			v.lower(fs)
		default:
			v.upper(fs, f)
		}
		r.add(AreaFilesystems, v.level, subject(fs), strings.Join(append([]string{what(fs)}, v.texts...), "; "),
			strings.Join(v.remedies, "; "))
	}
	for _, s := range f.Submount {
		r.add(AreaFilesystems, Warning, s.Lower, fmt.Sprintf("overlays of this lowerdir do not show what is mounted below "+
			"it: %s", list(s.Mounts)), "unmount that, or make it a layer or an overlay of its own")
	}
}

// asRoot is the remedy for what only root can know; root gets the other one.
func asRoot(f Facts, other string) string {
	if f.Privileges.Root {
		return other
	}
	return "run overlayd doctor as root"
}

// verdict is what there is to say about one filesystem: the worst level counts.
type verdict struct {
	level    Level
	texts    []string
	remedies []string
}

func (v *verdict) say(l Level, text, remedy string) {
	if l == Error || l == Warning && v.level == OK {
		v.level = l
	}
	v.texts = append(v.texts, text)
	if remedy != "" && !slices.Contains(v.remedies, remedy) {
		v.remedies = append(v.remedies, remedy)
	}
}

// upper judges what is to hold upperdirs and workdirs. What no overlay uses yet, the state_dir, is no error.
func (v *verdict) upper(fs Filesystem, f Facts) {
	broken := Error
	if len(fs.Overlays) == 0 {
		broken = Warning
	}
	switch t := fs.Upper; {
	case t.Cause != "":
		v.say(broken, "cannot hold upperdirs: "+t.Cause, t.Remedy)
		return // room does not matter
	case t.NotTried != "":
		v.say(Warning, "whether it can hold upperdirs is not known: "+t.NotTried, asRoot(f, ""))
	default:
		v.say(OK, "has trusted.* attributes, whiteouts and d_type", "")
	}
	if fs.UserXattrs != nil && !*fs.UserXattrs {
		v.say(Warning, "has no user.* attributes, so clients cannot set any",
			"put upperdirs on ext4, xfs or btrfs if clients need them")
	}
	if fs.Type == "tmpfs" || fs.Type == "ramfs" {
		v.say(Warning, "lives in memory: what clients write is lost at a reboot",
			"put upperdirs on a disk, if they are to outlive a reboot")
	}
	v.flags(fs)
	v.space(fs.Space, broken)
}

func (v *verdict) space(s *host.Space, broken Level) {
	if s == nil || s.Size == 0 {
		return
	}
	text := fmt.Sprintf("%s of %s (%d %%)", humanize.IBytes(s.Free), humanize.IBytes(s.Size), percent(s.Free, s.Size))
	low := s.Free < lowBytes || percent(s.Free, s.Size) < lowPercent
	if s.Inodes > 0 {
		text += fmt.Sprintf(" and %d %% of the inodes", percent(s.FreeInodes, s.Inodes))
		low = low || percent(s.FreeInodes, s.Inodes) < lowPercent
	}
	text += " free"
	switch {
	case s.Free == 0 || s.Inodes > 0 && s.FreeInodes == 0:
		v.say(broken, "full: "+text, "make room: overlayd du shows who takes it, overlayd prune what nobody uses")
	case low:
		v.say(Warning, "low: "+text, "make room: overlayd du shows who takes it, overlayd prune what nobody uses")
	default:
		v.say(OK, text, "")
	}
}

func percent(part, whole uint64) int { return int(float64(part) / float64(whole) * 100) }

func (v *verdict) lower(fs Filesystem) {
	if fs.ShowsTypes != nil && !*fs.ShowsTypes {
		v.say(Warning, "does not tell the type of directory entries (d_type): whiteouts in such a layer would show",
			"use it for the lowest layer only, or on xfs make it anew with mkfs.xfs -n ftype=1")
	}
	switch {
	case fs.Depth >= depthLimit:
		v.say(Error, fmt.Sprintf("lies on %d overlays on top of each other: the kernel takes no third one", fs.Depth),
			"name the layers of the lowest overlay directly")
	case fs.Depth > 0:
		v.say(OK, "lies on an overlay itself, and the kernel takes two on top of each other at most", "")
	}
	if fs.Network {
		v.say(OK, "over the network: its overlays wait for that at boot", "")
	}
	if fs.ReadOnly {
		v.say(OK, "read-only, as a base may be", "")
	}
	if fs.Type == "tmpfs" || fs.Type == "ramfs" {
		v.say(Warning, "lives in memory: after a reboot the layer is gone, and its overlays fail",
			"keep it on a disk, or fill it before overlayd.target is reached")
	}
	v.flags(fs)
}

func (v *verdict) flags(fs Filesystem) {
	if len(fs.Flags) > 0 {
		v.say(OK, strings.Join(fs.Flags, ", ")+", as its overlays unless their spec says otherwise", "")
	}
}

func subject(fs Filesystem) string {
	if len(fs.Paths) == 1 || fs.Use == StateDir {
		return fs.Paths[0]
	}
	return fmt.Sprintf("%d %ss on %s", len(fs.Paths), fs.Use, fs.Mountpoint)
}

// what says what a filesystem is for, and of what type it is.
func what(fs Filesystem) string {
	text := string(fs.Use)
	if len(fs.Paths) > 1 && fs.Use != StateDir {
		text += "s"
	}
	if len(fs.Overlays) > 0 {
		text += " of " + list(fs.Overlays)
	}
	if fs.Missing {
		text += ", not there yet"
	}
	if fs.Type != "" {
		text += fmt.Sprintf(", on %s at %s", fs.Type, fs.Mountpoint)
	}
	return text
}
