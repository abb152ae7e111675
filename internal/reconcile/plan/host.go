package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// Filesystems that the kernel refuses. Those that it takes although they cannot do the job (no trusted xattrs, no
// RENAME_WHITEOUT) are refused here by name, and by trial when an apply checks beforehand.
var (
	neverLower = map[string]string{
		"vfat": "does not tell upper from lower case", "msdos": "does not tell upper from lower case",
		"exfat": "does not tell upper from lower case", "hfs": "does not tell upper from lower case",
		"hfsplus": "does not tell upper from lower case", "autofs": "mounts on access",
	}
	neverUpper = map[string]string{
		"overlay": "cannot be the upperdir of another overlay",
		"nfs":     "has no xattrs and no whiteouts", "nfs4": "has no xattrs and no whiteouts",
		"cifs": "has no xattrs and no whiteouts", "smb3": "has no xattrs and no whiteouts",
		"9p": "has no whiteouts", "ramfs": "has no xattrs", "fuse.sshfs": "has no xattrs and no whiteouts",
		"squashfs": "is read-only", "iso9660": "is read-only", "erofs": "is read-only", "proc": "holds no files",
		"sysfs": "holds no files", "devpts": "holds no files", "cgroup2": "holds no files",
	}
)

// hostProblems lists what this host makes impossible about a goal, each with the remedy. The kernel answers most of
// these with a bare "invalid argument", or not at all.
func (g *goal) hostProblems(o *Observed, s *sight) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }

	if g.BadOwner != "" {
		add("%s: create the account, or correct the owner or group", g.BadOwner)
	}
	if g.cyclic {
		add("its layers lead back to itself: an overlay cannot be a layer of its own layers")
	}
	if g.depth > 1 {
		add("more than two overlays on top of each other: the kernel stacks two at most; name the layers of the "+
			"lowest overlay directly (%s)", strings.Join(g.parents, ", "))
	}
	for _, unit := range g.Requires {
		if o.NoUnit[unit] {
			add("unit %s, which it requires, does not exist: install it, or correct requires", unit)
		}
	}
	for i := range g.Lower {
		g.lowerProblem(&s.lower[i], g.config.Lower[i], add)
	}
	if !g.ReadOnly() {
		g.upperProblems(s, add)
	}
	g.overlaps(s, add)
	g.unmountedBase(o, add)

	m := &s.mountpoint
	switch {
	case m.Denied:
	case m.Err != "":
		add("cannot look at mountpoint %s: %s", g.Mountpoint, m.Err)
	case m.Symlink != "":
		add("%s in mountpoint %s is a symlink: name the real path %s", m.Symlink, g.Mountpoint, m.Real)
	case m.Exists && !m.IsDir:
		add("mountpoint %s is not a directory: remove the file, or choose another path", g.Mountpoint)
	}
	g.unsafe("mountpoint", m, add)
	if n := g.config.KernelDataLen(); n > overlayfs.MaxOptionsLen {
		add("its mount options are %d bytes long once symlinks are resolved, %d is the most: use fewer or shorter "+
			"lowerdirs", n, overlayfs.MaxOptionsLen)
	}
	return out
}

func (g *goal) lowerProblem(info *overlayfs.PathInfo, resolved string, add func(string, ...any)) {
	if parentOf(resolved, g.parents) != "" {
		return // it lies on an overlay that may not be mounted yet
	}
	switch {
	case info.Denied: // warnings tell
	case info.Err != "":
		add("cannot look at lowerdir %s: %s", info.Path, info.Err)
	case !info.Exists && info.Symlink != "":
		add("lowerdir %s leads to %s, which does not exist: create it, or correct the link", info.Path, info.Real)
	case !info.Exists:
		add("lowerdir %s does not exist: create it, or correct the path", info.Path)
	case !info.IsDir:
		add("lowerdir %s is not a directory: name a directory", info.Path)
	case info.CaseFold:
		add("lowerdir %s folds case, which overlayfs does not support: use a directory without casefold", info.Path)
	case neverLower[info.FSType] != "":
		add("lowerdir %s is on %s, which %s: overlayfs does not support it; copy the tree to another filesystem",
			info.Path, info.FSType, neverLower[info.FSType])
	}
}

func (g *goal) upperProblems(s *sight, add func(string, ...any)) {
	upper, work := &s.upper, &s.work
	for _, dir := range []struct {
		what, path string
		info       *overlayfs.PathInfo
	}{{"upperdir", g.Upper, upper}, {"workdir", g.Work, work}} {
		info := dir.info
		switch {
		case info.Denied:
			continue
		case info.Err != "":
			add("cannot look at %s %s: %s", dir.what, dir.path, info.Err)
			continue
		case info.Symlink != "":
			add("%s in %s %s is a symlink: name the real path %s", info.Symlink, dir.what, dir.path, info.Real)
			continue
		case info.Exists && !info.IsDir:
			add("%s %s is not a directory: remove the file, or choose another path", dir.what, dir.path)
			continue
		}
		switch {
		case neverUpper[info.FSType] != "":
			add("%s %s is on %s, which %s: put it on a local filesystem such as ext4, xfs or btrfs",
				dir.what, dir.path, info.FSType, neverUpper[info.FSType])
		case info.CaseFold:
			add("%s %s folds case, which overlayfs does not support: use a directory without casefold",
				dir.what, dir.path)
		case info.ReadOnly:
			add("%s %s is on a read-only mount: mount it writable, or choose another place", dir.what, dir.path)
		}
		g.unsafe(dir.what, info, add)
	}
	// Two mounts of one filesystem do not do either: overlayfs renames between upper and work, within one mount.
	if upper.Base != "" && work.Base != "" && upper.MountID != work.MountID {
		add("upperdir %s and workdir %s are on different mounts: put the workdir beside the upperdir, as in "+
			"workdir = %q", g.Upper, g.Work, path.Join(path.Dir(g.Upper), "work"))
	}
	if work.Exists && work.IsDir && !g.AllowUnsafeParent && (work.UID != 0 || work.Mode&0o022 != 0) {
		add("workdir %s can be written by others than root: chown it to root and chmod 0700, or remove it", g.Work)
	}
}

func (g *goal) unsafe(what string, info *overlayfs.PathInfo, add func(string, ...any)) {
	if info.Unsafe != "" && !g.AllowUnsafeParent {
		add("%s %s is not safe for root to use, as %s: change that, choose another place, or say "+
			"allow_unsafe_parent = true if you trust whoever can write there", what, info.Path, info.Unsafe)
	}
}

// warnings lists what the spec allows in words although it trusts somebody besides root.
func (g *goal) warnings(o *Observed, s *sight) []string {
	var out []string
	denied := func(p string, info *overlayfs.PathInfo) {
		if info.Denied {
			out = append(out, "only root may look at "+p+", so whether it is as it has to be is not known")
		}
	}
	for i, l := range g.Lower {
		denied(l, &s.lower[i])
	}
	denied(g.Mountpoint, &s.mountpoint)
	denied(g.Upper, &s.upper)
	denied(g.Work, &s.work)
	if g.DataDir != "" && (s.upper.Denied || s.work.Denied) { // one of these lies in it
		data := o.path(g.DataDir)
		denied(g.DataDir, &data)
	}
	if g.Applied != nil {
		return out // the rest was said when it was applied
	}
	if g.AllowUnsafeParent {
		for _, info := range []*overlayfs.PathInfo{&s.upper, &s.work, &s.mountpoint} {
			if info.Unsafe != "" {
				out = append(out, fmt.Sprintf("%s: %s, and can make root mount something else at the next boot; "+
					"allow_unsafe_parent trusts them with that", info.Path, info.Unsafe))
			}
		}
	}
	if g.config.Options["metacopy"] != "on" && !has(g.config.Options, "userxattr") {
		return out
	}
	for _, info := range append(slices.Clone(s.lower), s.upper) {
		if info.Exists && (info.Unsafe != "" || info.UID != 0 || info.Mode&0o022 != 0) {
			out = append(out, fmt.Sprintf("others than root can write to layer %s: with userxattr or metacopy its "+
				"writer can forge access to files of every layer", info.Path))
		}
	}
	return out
}

func has(o overlayfs.Options, name string) bool {
	_, ok := o[name]
	return ok
}

// lostData finds an upperdir or workdir that was removed under the live mount. The kernel writes on, to files without
// a name, and they are gone at the unmount.
func (g *goal) lostData(s *sight, live overlayfs.Mount) []string {
	if live.Overlay == nil || g.ReadOnly() {
		return nil
	}
	for _, dir := range []struct {
		what, want, is string
		info           *overlayfs.PathInfo
	}{
		{"upperdir", g.Upper, live.Overlay.Upper, &s.upper}, {"workdir", g.Work, live.Overlay.Work, &s.work},
	} {
		if dir.want == dir.is && !dir.info.Exists && !dir.info.Denied {
			return []string{fmt.Sprintf("%s %s was removed while it is mounted, and what the client writes is lost at "+
				"the unmount: copy what matters out of %s, unmount it, then apply", dir.what, dir.want, g.Mountpoint)}
		}
	}
	return nil
}

// surprises tells of a new overlay what somebody who only read the spec would not expect.
func (g *goal) surprises(c *Change, s *sight) {
	var taken []string
	for _, f := range inherited {
		if has(g.config.Options, f) && !has(g.Options, f) {
			taken = append(taken, f)
		}
	}
	if len(taken) > 0 {
		c.because("%s: as the mounts that its layers lie on", list(taken))
	}
	if g.ReadOnly() {
		return
	}
	upper := &s.upper
	if upper.Exists && upper.IsDir && !upper.Empty {
		c.because("the client gets back what is in its upperdir from before")
	}
	if upper.Exists && (g.Owner != "" || g.Group != "" || g.Mode != nil) {
		c.because("owner, group and mode are for an upperdir that overlayd makes; %s is there already", g.Upper)
	}
	if upper.FSType == "tmpfs" {
		c.because("upperdir is on tmpfs: what the client writes is lost at the next boot")
	}
	if m := &s.mountpoint; m.Exists && m.IsDir && !m.Empty {
		c.because("the mountpoint is not empty; what is in it is hidden while the overlay is mounted")
	}
}

// unmountedBase finds layers below a mountpoint of fstab where nothing is mounted now. Directories made there would be
// hidden as soon as it is, with what the client wrote.
func (g *goal) unmountedBase(o *Observed, add func(string, ...any)) {
	if len(o.Fstab) == 0 || o.Offline {
		return
	}
	var said []string
	below := func(p string) {
		for dir := p; len(dir) > 1; dir = path.Dir(dir) { // down to "/", or "." of a path that is none
			if line, ok := o.Fstab[dir]; ok && !slices.Contains(said, dir) && len(o.Mounts.At(dir)) == 0 {
				said = append(said, dir)
				add("%s is below %s, which line %d of %s mounts, and nothing is mounted there now: mount it first", p, dir,
					line.Line, line.File)
			}
		}
	}
	for _, l := range g.config.Lower {
		below(l)
	}
	if !g.ReadOnly() {
		below(g.Upper)
		below(g.Work)
	}
	below(path.Dir(g.Mountpoint))
}

// dirs are the directories to make for a goal, parents first. upperdir decides how the merged root looks.
func (g *goal) dirs(o *Observed, byMount map[string]*goal) []Dir {
	var out []Dir
	if g.DataDir != "" && !o.HasData(g.Overlay) && !o.path(g.DataDir).Exists {
		out = append(out, Dir{Path: g.DataDir, Mode: 0o700, AllowUnsafe: g.AllowUnsafeParent, Marker: true})
	}
	if !g.ReadOnly() {
		if !o.path(g.Upper).Exists {
			d := g.mergedRoot(o, byMount)
			d.Path, d.Merged = g.Upper, true
			out = append(out, d)
		}
		if !o.path(g.Work).Exists {
			out = append(out, Dir{Path: g.Work, Mode: 0o700, AllowUnsafe: g.AllowUnsafeParent})
		}
	}
	if !o.path(g.Mountpoint).Exists {
		out = append(out, Dir{Path: g.Mountpoint, Mode: 0o755, AllowUnsafe: g.AllowUnsafeParent})
	}
	return out
}

// mergedRoot tells owner and mode of a new upperdir: as the spec says, else as the topmost lowerdir has them.
func (g *goal) mergedRoot(o *Observed, byMount map[string]*goal) Dir {
	d := Dir{Mode: 0o755, AllowUnsafe: g.AllowUnsafeParent}
	if len(g.Lower) == 0 {
		return d // a unit that was edited into having no layers
	}
	if info := o.path(g.Lower[0]); info.Exists {
		d.UID, d.GID, d.Mode = info.UID, info.GID, info.Mode&0o7777
	} else if parent := byMount[g.config.Lower[0]]; parent != nil && parent != g && !g.cyclic {
		d = parent.mergedRoot(o, byMount)
		d.AllowUnsafe = g.AllowUnsafeParent
	}
	if g.UID >= 0 {
		d.UID = uint32(g.UID)
	}
	if g.GID >= 0 {
		d.GID = uint32(g.GID)
	}
	if g.Mode != nil {
		d.Mode = uint32(*g.Mode)
	}
	return d
}

// foreign lists what others have at the unit's name or mountpoint; overlayd never touches it.
func (g *goal) foreign(o *Observed) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if line, ok := o.Fstab[g.Mountpoint]; ok {
		add("%s mounts %s as well: remove line %d of %s, then apply", line.File, g.Mountpoint, line.Line, line.File)
	}
	if u, ok := o.Units[g.name]; ok && !u.Ours {
		switch {
		case u.Link == "/dev/null":
			add("unit %s is masked: systemctl unmask it", g.name)
		case u.Link != "":
			add("unit %s is a link to %s, which is not overlayd's: remove it, or choose another mountpoint", g.name,
				u.Link)
		default:
			add("unit file %s is not overlayd's: remove it, or choose another mountpoint", u.Path)
		}
	}
	if at, ok := o.Elsewhere[g.name]; ok && !strings.Contains(at, "/generator") {
		if at == "/dev/null" {
			add("unit %s is masked: systemctl unmask it (with --runtime if need be)", g.name)
		} else {
			add("there is another unit file for this mountpoint, %s: remove it, or choose another mountpoint", at)
		}
	}
	if drops := o.DropIns[g.name]; len(drops) > 0 {
		drops = slices.Sorted(slices.Values(drops))
		add("%s changes the [Mount] section of %s: say it in the spec, and remove the drop-in",
			strings.Join(drops, ", "), g.name)
	}
	if o.Target.Exists && !o.Target.Ours {
		add("%s is not overlayd's, but overlayd needs that name: rename or remove it", o.Target.Path)
	}
	return out
}
