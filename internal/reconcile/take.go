package reconcile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/safedir"
)

// reset takes what the client wrote out of the way. Nothing is mounted, and what it takes is deleted only after the
// overlay is mounted again.
func (a *apply) reset(i int, c *plan.Change) error {
	if a.o.Resets[c.Mountpoint].Pristine {
		return nil // done by the run before, which was killed then
	}
	if err := a.free(c); err != nil {
		return err
	}
	a.mu.Lock()
	t := a.takings[i]
	a.mu.Unlock()
	config := a.o.Units[c.Unit].Config
	if len(c.Do.Reset.Paths) > 0 {
		return errors.Join(a.takePaths(config, c.Do.Reset.Paths, c.Mountpoint, t), a.free(c))
	}
	if err := a.takeAll(config, t); err != nil {
		return errors.Join(err, a.putBack(t))
	}
	// Somebody may have mounted it in the moment between, on what is aside now.
	if err := a.free(c); err != nil {
		return errors.Join(err, a.putBack(t))
	}
	return nil
}

// free makes sure that nothing is mounted. Who starts the unit just now, as a timer or a socket may, is undone if the
// overlay is to be mounted by us anyway.
func (a *apply) free(c *plan.Change) error {
	if c.Do.Mount == nil {
		if !a.h.Offline() && isMountpoint(c.Mountpoint) {
			return fmt.Errorf("%s was mounted meanwhile: reset again", c.Mountpoint)
		}
		return nil
	}
	for range 3 {
		there, err := a.occupied(c)
		if !there || err != nil {
			return err
		}
		if c.Do.Start {
			err = a.manager.Stop(a.work, c.Unit)
		} else {
			err = host.Unmount(c.Mountpoint)
		}
		if err != nil && !errors.Is(err, unix.EINVAL) { // somebody else has unmounted it
			return fmt.Errorf("somebody mounted it meanwhile, and uses it: %w", err)
		}
	}
	return fmt.Errorf("somebody keeps mounting %s meanwhile: stop what starts %s, then try again", c.Mountpoint, c.Unit)
}

// takeAll gives the client a fresh upperdir. An index remembers what is in the upperdir, and makes the kernel refuse
// another one as stale, so it goes with it; it goes first, since an upperdir without its index can be mounted.
func (a *apply) takeAll(config overlayfs.Config, t *taking) error {
	upper, work := a.h.inRoot(config.Upper), a.h.inRoot(config.Work)
	// Services may have written on their way down, so what was seen before the unmount does not count.
	info := host.NewProber(nil).Look(upper)
	switch {
	case info.Err != "":
		return fmt.Errorf("cannot look at upperdir %s: %s", upper, info.Err)
	case !info.Exists:
		return nil
	}
	t.keep = t.keep && !info.Empty // of an empty one there is nothing to keep but owner and mode of its root
	root, known := mergedRoot(info, work)
	remember := func(dir string) error { rememberRoot(dir, root); return nil }
	_, err := os.Lstat(filepath.Join(work, "index"))
	switch {
	case err == nil:
		err = a.renew(config.Work, plan.Dir{Mode: 0o700}, t.work, t, remember)
	case errors.Is(err, os.ErrNotExist):
		err = safedir.EmptyWork(a.work, work)
	}
	if err != nil {
		return err
	}
	return a.renew(config.Upper, root, t.upper, t, func(dir string) error {
		if known {
			return nil
		}
		return copyACLs(upper, dir) // somebody else made it so
	})
}

// renew puts a fresh directory in the place of one. On a full disk there is no room for that, and to reset clients is
// the way to make some: then what is to be deleted is deleted in place.
func (a *apply) renew(dir string, like plan.Dir, name string, t *taking, prepare func(dir string) error) error {
	at := a.h.inRoot(dir)
	err := safedir.Renew(at, attr(like), name, prepare)
	switch {
	case err == nil:
		t.taken = append(t.taken, filepath.Join(filepath.Dir(dir), name))
	case !t.keep && (errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)):
		if err = safedir.Clear(a.work, at, attr(like)); err == nil {
			err = prepare(at)
		}
	}
	return err
}

// putBack undoes what a failed reset took.
func (a *apply) putBack(t *taking) error {
	var errs []error
	for _, dir := range t.taken {
		of, _, _ := SetAside(filepath.Base(dir))
		at := a.h.inRoot(filepath.Join(filepath.Dir(dir), of))
		errs = append(errs, safedir.TakeBack(at, filepath.Base(dir)))
	}
	t.taken = nil
	return errors.Join(errs...)
}

// copyACLs gives a directory the access control lists of another (acl(5)), if it has any.
func copyACLs(from, to string) error {
	for _, name := range []string{"system.posix_acl_access", "system.posix_acl_default"} {
		buf := make([]byte, 64<<10) // XATTR_SIZE_MAX
		n, err := unix.Lgetxattr(from, name, buf)
		if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
			continue
		}
		if err == nil {
			err = unix.Lsetxattr(to, name, buf[:n], 0)
		}
		if err != nil {
			return fmt.Errorf("cannot copy the ACLs of %s: %w", from, err)
		}
	}
	return nil
}

// emptyLeftovers deletes what interrupted resets were about to delete, before anything else: that may be what fills
// the disk.
func (a *apply) emptyLeftovers() {
	for i, c := range a.p.Changes {
		if len(c.Do.Trash) == 0 || c.Kind == plan.Conflict {
			continue
		}
		if err := a.throwAway(c.Do.Trash); err != nil {
			a.wrong[i] = err
		}
	}
	a.writing = nil // who writes to what is looked at again when the resets are done
}

// endTakings deletes or reports what resets took, once the clients are mounted again.
func (a *apply) endTakings() {
	for i := range a.p.Changes {
		t := a.takings[i]
		switch {
		case t == nil || len(t.taken) == 0:
		case t.keep:
			a.aside = append(a.aside, t.taken...)
		case a.p.Changes[i].Do.Mount != nil && !a.mounted[i]:
			// It stays until the next reset: who is mounted there, if anybody, was not mounted by us.
		default:
			if err := a.throwAway(t.taken); err != nil {
				a.results[i].Status = Failed
				a.results[i].Err = errors.Join(a.results[i].Err, fmt.Errorf("it is reset, but %w", err))
			}
		}
	}
}

// throwAway deletes directories that resets took, unless somebody still writes to them.
func (a *apply) throwAway(dirs []string) error {
	var errs []error
	for _, dir := range dirs {
		who, err := a.writer(dir)
		if err == nil && who != "" {
			err = fmt.Errorf("%s is in use by %s: reset again when that has ended", dir, who)
		}
		if err == nil {
			err = safedir.RemoveTreeContext(a.ctx, a.h.inRoot(dir))
		}
		if errors.Is(err, context.Canceled) {
			err = fmt.Errorf("interrupted before %s was deleted: reset again, or overlayd prune", dir)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("what a client wrote is not all deleted: %w", err)
	}
	return nil
}

// writer says which live overlay writes to a directory that is to be deleted; "" if none does. All mount namespaces are
// looked at, once: ask when the mounts are as they are to be.
func (a *apply) writer(dir string) (string, error) {
	if a.h.Offline() {
		return "", nil
	}
	if a.writing == nil {
		table, err := host.ReadTable()
		if err != nil {
			return "", err
		}
		uses, err := a.h.uses(table)
		if err != nil {
			return "", err
		}
		a.writing = map[overlayfs.FileID]string{}
		for _, u := range uses {
			who := "the overlay mounted at " + u.Mountpoint
			if u.PID != 0 {
				who = fmt.Sprintf("process %d, which still has the overlay of %s", u.PID, u.Mountpoint)
			}
			a.writing[u.Upper], a.writing[u.Work] = who, who
		}
		delete(a.writing, overlayfs.FileID{}) // of those whose directories are gone
	}
	var st unix.Stat_t
	if err := unix.Lstat(a.h.inRoot(dir), &st); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return "", nil
		}
		return "", fmt.Errorf("cannot look at %s: %w", dir, err)
	}
	return a.writing[overlayfs.FileID{Dev: st.Dev, Ino: st.Ino}], nil
}
