package doctor

import (
	"fmt"

	"github.com/dustin/go-humanize"
)

var (
	oldestMount  = version{2, 38} // util-linux of Debian 12
	fsconfigFrom = version{2, 39} // uses fsconfig(2), which takes 255 bytes for a value, where it can
	newestMount  = version{2, 41} // util-linux of Debian 13
)

const (
	oldestSystemd = 252      // of Debian 12
	reloadRoom    = 16 << 20 // RELOAD_DISK_SPACE_MIN of systemd
)

func (r *report) boot(f Facts) {
	r.mount(f)
	r.systemd(f.Systemd)
	if f.Unfinished {
		r.add(AreaBoot, Warning, "unfinished", "an apply or a reset was interrupted, and is to be finished",
			"run overlayd apply: it finishes that, also where nothing else is to do")
	}
}

// mount judges mount(8). overlayd does not use it, but systemd does, at the next boot.
func (r *report) mount(f Facts) {
	const subject = "mount(8)"
	m := f.Mount
	v, _ := parseVersion(m.Version)
	switch {
	case !m.Found && f.Systemd.Running:
		r.add(AreaBoot, Error, subject, "there is none: systemd mounts units by it, at the next boot too",
			"install util-linux (Debian: the package mount)")
	case !m.Found:
		r.add(AreaBoot, Warning, subject, "there is none; it takes one to mount the units at a boot with systemd",
			"install util-linux (Debian: the package mount)")
	case !m.UtilLinux:
		r.add(AreaBoot, Warning, subject, fmt.Sprintf("it is not that of util-linux (%q): whether it reads the units' "+
			"options as they are meant is not known", m.Text), "install util-linux (Debian: the package mount)")
	case v.before(oldestMount):
		r.add(AreaBoot, Warning, subject, fmt.Sprintf("%s is older than %s, the oldest that overlayd is tested with",
			m.Version, oldestMount), "after a reboot, see whether overlayd drift shows anything")
	case v.before(fsconfigFrom):
		r.add(AreaBoot, OK, subject, m.Version+", as tested", "")
	default:
		text := m.Version + ": by itself it would refuse layers of more than 255 bytes; units of overlayd set " +
			"LIBMOUNT_FORCE_MOUNT2, which lifts that"
		if newestMount.before(v) {
			text += fmt.Sprintf("; newer than %s, the newest that overlayd is tested with", newestMount)
		}
		r.add(AreaBoot, OK, subject, text, "")
	}
	r.helper(m.Helper)
}

func (r *report) helper(path string) {
	if path != "" {
		r.add(AreaBoot, Warning, "mount.overlay", "mount(8) leaves overlays to "+path+" where there is one, at boot: it "+
			"may mount otherwise than overlayd does", "remove it, unless you know that it does as mount(8)")
	}
}

func (r *report) systemd(s Systemd) {
	const subject = "systemd"
	switch {
	case !s.Running && s.Version == 0:
		r.add(AreaBoot, Warning, subject, "none is here: overlayd mounts and writes units, and nothing mounts them at boot",
			"install systemd, or run overlayd apply at each boot")
	case !s.Running:
		r.add(AreaBoot, Warning, subject, fmt.Sprintf("%d is installed and does not run this host: overlayd mounts by "+
			"itself, and nothing is reloaded", s.Version), "boot with systemd, or run overlayd apply at each boot")
	case s.Err != "":
		r.add(AreaBoot, Error, subject, s.Err,
			"see that systemd answers (systemctl status): an apply has to reload it")
	case s.Version == 0:
		r.add(AreaBoot, Warning, subject, "runs; which version is not known, as systemctl does not say", "")
	case s.Version < oldestSystemd:
		r.add(AreaBoot, Warning, subject, fmt.Sprintf("%d runs, older than %d, the oldest that overlayd is tested with",
			s.Version, oldestSystemd), "after a reboot, see whether overlayd drift shows anything")
	default:
		r.add(AreaBoot, OK, subject, fmt.Sprintf("%d runs", s.Version), "")
	}
	if !s.Running {
		return
	}
	switch {
	case s.RunErr != "":
		r.add(AreaBoot, Warning, "/run", s.RunErr, "")
	case s.RunFree < reloadRoom:
		r.add(AreaBoot, Error, "/run", fmt.Sprintf("%s free: systemd refuses to reload with less than %s",
			humanize.IBytes(s.RunFree), humanize.IBytes(reloadRoom)),
			"remove what is not needed there, or enlarge it (mount -o remount,size=... /run)")
	default:
		r.add(AreaBoot, OK, "/run", humanize.IBytes(s.RunFree)+" free, a reload of systemd takes "+
			humanize.IBytes(reloadRoom), "")
	}
}

// fstab tells of overlays that others mount at boot, which overlayd can live with.
func (r *report) fstab(f Facts) {
	if f.FstabErr != "" {
		r.add(AreaBoot, Warning, "/etc/fstab", f.FstabErr, "")
	}
	for _, l := range f.Fstab {
		text := fmt.Sprintf("line %d mounts an overlay at %s", l.Line, l.Mountpoint)
		if l.Careless {
			r.add(AreaBoot, Warning, "/etc/fstab", text+", without nofail: should that fail, the host boots into emergency "+
				"mode", "add nofail, or let overlayd have it (overlayd import --fstab)")
			continue
		}
		r.add(AreaBoot, OK, "/etc/fstab", text, "")
	}
}

// tree tells what the tree of --root has for its own boot. This host's kernel and programs are none of its matters.
func (r *report) tree(f Facts) {
	if f.Root == "" {
		return
	}
	r.add(AreaHost, OK, "--root", "only what lies in the tree is checked: it boots with a kernel and on filesystems that "+
		"are not known here", "")
	has := func(subject string, there bool, without, remedy string) {
		if there {
			r.add(AreaBoot, OK, subject, "there", "")
		} else {
			r.add(AreaBoot, Warning, subject, without, remedy)
		}
	}
	has("mount(8)", f.Tree.Mount, "the tree has none: systemd mounts units by it",
		"install util-linux in the tree (Debian: the package mount)")
	has("systemd", f.Tree.Systemd, "the tree has none: nothing mounts the units when it boots",
		"install systemd in the tree")
	r.helper(f.Tree.Helper)
}
