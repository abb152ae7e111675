package reconcile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/safedir"
)

// lookAtPaths finds out what the client did to some paths of its view: nothing to any of them (pristine), or why one
// of them cannot go back to what the lowerdirs have while the rest stays.
func (h *Host) lookAtPaths(c overlayfs.Config, paths []string, mountpoint string) (
	pristine bool, problems []string, err error,
) {
	if c.Options["index"] == "on" || c.Options["nfs_export"] == "on" {
		return false, []string{"with index or nfs_export on, the kernel keeps account of single files outside the " +
			"upperdir: reset the whole client, without --path"}, nil
	}
	pristine = true
	for _, p := range paths {
		there, problem, err := h.lookAtPath(c, p)
		if err != nil {
			return false, nil, fmt.Errorf("cannot look at what the client did to %s: %w", p, err)
		}
		if problem == "" && !there && !h.inLower(c, p) {
			problem = nothingAt(p, mountpoint)
		}
		if problem != "" {
			problems = append(problems, problem)
		}
		pristine = pristine && !there && problem == ""
	}
	return pristine, problems, nil
}

// nothingAt says that a path is neither of the client nor of the lowerdirs, and what is meant perhaps.
func nothingAt(p, mountpoint string) string {
	text := "there is nothing at " + p + ", neither of the client nor in the lowerdirs"
	if below, ok := strings.CutPrefix(p, mountpoint+"/"); ok {
		return text + ": write the path as the client sees it, /" + below
	}
	if strings.ContainsAny(p, "*?[") {
		return text + ": patterns are not for paths"
	}
	return text
}

// lookAtPath looks at one path. What is there in the upperdir can be taken out if all directories above it show what
// the lowerdirs have beside it.
func (h *Host) lookAtPath(c overlayfs.Config, p string) (there bool, problem string, err error) {
	upper := h.inRoot(c.Upper)
	opaque := ""
	for _, above := range directoriesAbove(p) {
		o, err := lookBelow(upper, above)
		if errors.Is(err, unix.ENOENT) {
			return false, h.linkInLower(c, p, above), nil
		}
		if err != nil {
			return false, "", err
		}
		defer o.close()
		switch kind := o.st.Mode & unix.S_IFMT; {
		case o.whiteout():
			return false, fmt.Sprintf("the client deleted %s, and %s with it: reset --path %s", above, p, above), nil
		case kind == unix.S_IFLNK:
			return false, throughLink(filepath.Join(upper, above), above), nil
		case kind != unix.S_IFDIR:
			return false, fmt.Sprintf("the client put something else in the place of directory %s: reset --path %s", above,
				above), nil
		}
		moved, err := o.marked(c, "redirect")
		if err != nil {
			return false, "", err
		}
		if moved {
			return false, fmt.Sprintf("the client gave directory %s, which %s is in, another name: reset without --path",
				above, p), nil
		}
		anew, err := o.marked(c, "opaque")
		if err != nil {
			return false, "", err
		}
		if anew {
			opaque = above
		}
	}
	if opaque != "" && h.inLower(c, p) {
		return false, fmt.Sprintf("the client deleted directory %s and made it anew, so that %s of the lowerdirs does "+
			"not show: reset --path %s", opaque, p, opaque), nil
	}
	o, err := lookBelow(upper, p)
	if errors.Is(err, unix.ENOENT) {
		return false, "", nil
	}
	if err == nil {
		o.close()
	}
	return err == nil, "", err
}

// linkInLower says that a path leads through a symlink of the lowerdirs. above is the first directory on its way that
// the client has not touched, so there is nothing to reset by this name; but what is meant is elsewhere.
func (h *Host) linkInLower(c overlayfs.Config, p, above string) string {
	for _, dir := range directoriesAbove(p) {
		if len(dir) < len(above) {
			continue
		}
		for _, l := range c.Lower {
			o, err := lookBelow(h.inRoot(l), dir)
			if err != nil {
				continue
			}
			o.close()
			if o.st.Mode&unix.S_IFMT == unix.S_IFLNK {
				return throughLink(filepath.Join(h.inRoot(l), dir), dir)
			}
			break
		}
	}
	return ""
}

func throughLink(at, seen string) string {
	to, err := os.Readlink(at)
	if err != nil {
		to = "another place"
	}
	return fmt.Sprintf("%s is a symlink to %s: name the path that it leads to", seen, to)
}

// inLower tells whether a lowerdir has something at a path.
func (h *Host) inLower(c overlayfs.Config, p string) bool {
	return slices.ContainsFunc(c.Lower, func(l string) bool {
		o, err := lookBelow(h.inRoot(l), p)
		if err != nil {
			return false
		}
		o.close()
		return !o.whiteout()
	})
}

// directoriesAbove gives the directories above a path but the root, outermost first.
func directoriesAbove(p string) []string {
	var out []string
	for d := filepath.Dir(p); d != "/"; d = filepath.Dir(d) {
		out = append(out, d)
	}
	slices.Reverse(out)
	return out
}

// entry is something in a layer.
type entry struct {
	fd int // O_PATH
	st unix.Stat_t
}

func (e entry) close() { _ = unix.Close(e.fd) }

// lookBelow looks at a path in a layer. A client makes symlinks where it likes: none is followed.
func lookBelow(layer, p string) (entry, error) {
	top, err := unix.Open(layer, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return entry{}, fmt.Errorf("cannot open %s: %w", layer, err)
	}
	defer unix.Close(top)
	fd, err := unix.Openat2(top, strings.TrimPrefix(p, "/"), &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		err = unix.ENOENT // nothing of this layer shows there
	}
	if err != nil {
		return entry{}, err
	}
	e := entry{fd: fd}
	if err := unix.Fstat(fd, &e.st); err != nil {
		e.close()
		return entry{}, err
	}
	return e, nil
}

// whiteout tells what the kernel puts where something was deleted: a character device 0/0.
func (e entry) whiteout() bool { return e.st.Mode&unix.S_IFMT == unix.S_IFCHR && e.st.Rdev == 0 }

// marked tells whether the kernel put a mark on a directory of an upperdir.
func (e entry) marked(c overlayfs.Config, name string) (bool, error) {
	prefix := "trusted.overlay."
	if _, user := c.Options["userxattr"]; user {
		prefix = "user.overlay."
	}
	n, err := unix.Getxattr(fmt.Sprintf("/proc/self/fd/%d", e.fd), prefix+name, nil)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return false, nil
	}
	return n > 0, err
}

// takePaths takes what the client did to some paths out of its upperdir. It looks again, now that nothing is mounted.
func (a *apply) takePaths(c overlayfs.Config, paths []string, mountpoint string, t *taking) error {
	_, problems, err := a.h.lookAtPaths(c, paths, mountpoint)
	if err != nil {
		return err
	}
	if len(problems) > 0 {
		return errors.New(strings.Join(problems, "; "))
	}
	upper := a.h.inRoot(c.Upper)
	var there []string
	for _, p := range paths {
		o, err := lookBelow(upper, p)
		if err == nil {
			o.close()
			there = append(there, p[1:])
		} else if !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	if len(there) == 0 {
		return nil
	}
	err = safedir.MoveInto(upper, there, filepath.Join(filepath.Dir(upper), t.upper))
	if !errors.Is(err, fs.ErrExist) { // else it is somebody else's
		t.taken = []string{filepath.Join(filepath.Dir(c.Upper), t.upper)}
	}
	return err
}

// outermost leaves out paths that lie below others.
func outermost(paths []string) []string {
	paths = slices.Clone(paths)
	slices.Sort(paths)
	var out []string
	for _, p := range paths {
		if !slices.ContainsFunc(out, func(o string) bool { return p == o || strings.HasPrefix(p, o+"/") }) {
			out = append(out, p)
		}
	}
	return out
}
