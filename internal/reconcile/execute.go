package reconcile

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/safedir"
)

// errDetached says that a mount was taken out of the tree while it was busy.
var errDetached = errors.New("detached")

// do takes one step.
func (a *apply) do(s plan.Step) error {
	c := &a.p.Changes[s.Change]
	switch s.Kind {
	case plan.StepUnmount:
		return a.unmount(c, s.Live)
	case plan.StepMount:
		return a.mount(c)
	case plan.StepRestart:
		if err := a.makeDirs(c); err != nil {
			return err
		}
		if err := a.manager.Restart(a.work, c.Unit); err != nil {
			return err
		}
		return a.checkWritable(c)
	case plan.StepRemount:
		return host.Remount(c.Mountpoint, c.Do.Remount)
	case plan.StepReset:
		return a.reset(s.Change, c)
	case plan.StepRevive:
		return a.revive(c)
	}
	panic(fmt.Sprintf("internal error: step of unknown kind %d", s.Kind))
}

func (a *apply) unmount(c *plan.Change, l plan.Live) error {
	if l.ViaSystemd {
		return a.manager.Stop(a.work, l.Unit)
	}
	if is, err := stands(l); err != nil || !is {
		return err
	}
	err := host.Unmount(l.Mountpoint)
	if errors.Is(err, unix.EBUSY) {
		if c.Do.Detach {
			// Its users keep the super block alive and write to its upperdir on, so the account keeps it too.
			if err = a.h.noteDetached(l, c.Impact.Processes, a.o); err == nil {
				err = host.Detach(l.Mountpoint)
			}
			if err == nil {
				err = errDetached
			}
			return err
		}
		return a.busy(l.Mountpoint, err)
	}
	return err
}

// stands tells whether the mount that was observed is still the one at its mountpoint. Seconds can lie between the
// look and the act; what came on top meanwhile is not ours to take down.
func stands(l plan.Live) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, l.Mountpoint, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_INO, &st)
	switch {
	case err != nil:
		return false, fmt.Errorf("cannot look at mountpoint %s: %w", l.Mountpoint, err)
	case st.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0:
		return false, nil
	case fmt.Sprintf("%d:%d", st.Dev_major, st.Dev_minor) != l.Dev:
		return false, fmt.Errorf("cannot unmount %s: something else was mounted there meanwhile; plan again", l.Mountpoint)
	}
	return true, nil
}

// occupied tells whether somebody was faster: systemd, which mounted the very overlay that is wanted, and then there is
// nothing left to do; or else an error. It costs a system call where the mountpoint is free.
func (a *apply) occupied(c *plan.Change) (byOurs bool, err error) {
	if !isMountpoint(c.Mountpoint) {
		return false, nil
	}
	table, err := host.ReadTable()
	if err != nil {
		return false, err
	}
	stack := table.At(c.Mountpoint)
	if len(stack) == 1 && isOurs(stack[0]) && overlayfs.Compare(*c.Do.Mount, stack[0], a.o.Defaults, true, nil).None() {
		return true, nil
	}
	return false, fmt.Errorf("cannot mount %s: something was mounted there meanwhile; apply again", c.Mountpoint)
}

// isMountpoint tells whether something is mounted at a path. Of one that cannot be looked at, mount(2) will say what is
// wrong with it.
func isMountpoint(path string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_INO, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// busy says who keeps a mount.
func (a *apply) busy(mountpoint string, cause error) error {
	table, err := host.ReadTable()
	if err != nil {
		return cause
	}
	ids := map[int]string{}
	for _, m := range table.At(mountpoint) {
		ids[m.ID] = mountpoint
	}
	users, err := host.Users(ids)
	if err != nil {
		return cause
	}
	var processes []overlayfs.Process
	for _, p := range users {
		processes = append(processes, p...)
	}
	var mounts []string
	for _, m := range table.Below(mountpoint) {
		mounts = append(mounts, m.Mountpoint)
	}
	if reason := inUse(processes, mounts); reason != "" {
		return fmt.Errorf("%s: %w", reason, unix.EBUSY)
	}
	return cause
}

// mount puts the overlay of a change up, directories first.
func (a *apply) mount(c *plan.Change) error {
	if err := a.makeDirs(c); err != nil {
		return err
	}
	if c.Do.Reset != nil {
		// What somebody mounted meanwhile may stand on what is about to be deleted.
		if err := a.free(c); err != nil {
			return err
		}
	} else if there, err := a.occupied(c); there || err != nil {
		return err
	}
	if c.Do.Mount.Work != "" {
		// What a crash leaves in the kernel's scratch directory can be too deep for it to clean, and then it mounts
		// read-only without a word.
		if err := safedir.EmptyWork(a.work, c.Do.Mount.Work); err != nil {
			// A mount that systemd makes at this moment changes the directory, too.
			if there, _ := a.occupied(c); !there || c.Do.Reset != nil {
				return err
			}
			return a.checkWritable(c)
		}
	}
	if c.Do.Start {
		if err := a.manager.Start(a.work, c.Unit); err != nil {
			return err
		}
	} else if err := host.Mount(plan.Label, c.Mountpoint, *c.Do.Mount); err != nil {
		if there, _ := a.occupied(c); !there || c.Do.Reset != nil {
			return err
		}
	}
	return a.checkWritable(c)
}

// remounts tells whether a change mounts on an upperdir of before, and nobody who is to be seen uses that. An overlay
// that was taken from under another one is used on by it, but for reading only.
func (a *apply) remounts(c *plan.Change) bool {
	if c.Do.Mount == nil || c.Do.Mount.Upper == "" || len(c.Do.Unmount) > 0 ||
		slices.ContainsFunc(c.Do.Dirs, func(d plan.Dir) bool { return d.Path == c.Do.Mount.Upper }) {
		return false
	}
	return !a.layers[c.Mountpoint]
}

// layersOf gives the layers of all live overlays, with the directories above them.
func layersOf(t *overlayfs.Table) map[string]bool {
	out := map[string]bool{}
	for _, m := range t.All() {
		if m.Overlay == nil {
			continue
		}
		for _, l := range m.Overlay.Lower {
			for ; !out[l] && l != "/" && l != "."; l = filepath.Dir(l) {
				out[l] = true
			}
		}
	}
	return out
}

// outOfSight says why an upperdir is not free that nothing in the mount table uses.
func outOfSight(upper string) string {
	return "its upperdir " + upper + " is in use by a mount that is out of sight (umount --lazy): end the processes that " +
		"use it first"
}

// checkWritable takes a mount away again that came up read-only against the spec.
func (a *apply) checkWritable(c *plan.Change) error {
	if _, wanted := c.Do.Mount.Options["ro"]; wanted || c.Do.Mount.Upper == "" {
		return nil
	}
	readOnly, err := host.SuperReadOnly(c.Mountpoint)
	if err != nil || !readOnly {
		return err
	}
	err = fmt.Errorf("cannot mount %s writable: the kernel could not clean workdir %s and fell back to read-only; "+
		"empty that directory, then apply again", c.Mountpoint, c.Do.Mount.Work)
	return errors.Join(err, host.Unmount(c.Mountpoint))
}

func (a *apply) makeDirs(c *plan.Change) error {
	var made *plan.Dir // the upperdir
	for _, d := range c.Do.Dirs {
		created, err := a.maker.Make(d.Path, attr(d), d.AllowUnsafe)
		if err != nil {
			return err
		}
		if d.Merged && created != "" {
			made = &d
		}
		if d.Marker {
			m := safedir.Marker{Address: c.Address, Mountpoint: c.Mountpoint}
			if err := safedir.WriteMarker(a.h.inRoot(d.Path), m); err != nil {
				return err
			}
		}
	}
	if made != nil {
		rememberRoot(a.h.inRoot(c.After.Workdir), *made)
	}
	return nil
}

func attr(d plan.Dir) safedir.Attr {
	return safedir.Attr{UID: d.UID, GID: d.GID, Mode: unixMode(d.Mode)}
}

// unixMode gives the bits of a mode as package fs writes them.
func unixMode(bits uint32) fs.FileMode {
	m := fs.FileMode(bits & 0o777)
	for bit, flag := range map[uint32]fs.FileMode{
		unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky,
	} {
		if bits&bit != 0 {
			m |= flag
		}
	}
	return m
}

// revive starts the units again that a stop job took down together with the mount.
func (a *apply) revive(c *plan.Change) error { return a.start(c.Impact.Units) }

func (a *apply) start(names []string) error {
	var errs []error
	for _, unit := range names {
		if err := a.manager.Start(a.work, unit); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("mounted, but not all units that depend on it are running again: %w", err)
	}
	return nil
}
