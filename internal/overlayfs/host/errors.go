package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// MountError is what the kernel said to a mount, remount or unmount.
type MountError struct {
	Op             string // mount, remount, unmount, detach, trial
	Source, Target string
	Data           string   // as handed to mount(2)
	Kernel         []string // what the kernel logged about it
	Err            error

	reason string // Err in words, found when it happened
}

// Error says what could not be done and why, never an errno alone.
func (e *MountError) Error() string {
	what := e.Op + " " + e.Target
	switch e.Op {
	case "mount":
		what = "mount overlay at " + e.Target
	case "detach":
		what = "detach the mount at " + e.Target
	case "trial":
		what = "mount these layers, tried out with an empty upperdir"
	}
	text := fmt.Sprintf("cannot %s: %v", what, e.Err)
	if e.reason != "" {
		text = fmt.Sprintf("cannot %s: %s (%v)", what, e.reason, e.Err)
	}
	if len(e.Kernel) > 0 {
		text += " (kernel: " + strings.Join(e.Kernel, "; ") + ")"
	}
	return text
}

// Unwrap returns the errno.
func (e *MountError) Unwrap() error { return e.Err }

func (e *MountError) because(err error, reason string) *MountError {
	e.Err, e.reason = err, reason
	return e
}

// targetReason says why a path could not be opened without following symlinks.
func targetReason(target string, err error) string {
	switch {
	case errors.Is(err, unix.ENOENT):
		return "the directory does not exist"
	case errors.Is(err, unix.ENOTDIR):
		return "it is not a directory"
	case errors.Is(err, unix.ELOOP):
		if link, to := firstSymlink(target); link != "" {
			return fmt.Sprintf("%s is a symlink to %s; name the real path", link, to)
		}
		return "a component of the path is a symlink; name the real path"
	}
	return ""
}

// firstSymlink returns the topmost component of path that is a symlink, and where it leads.
func firstSymlink(path string) (link, to string) {
	for at := filepath.Clean(path); ; at = filepath.Dir(at) {
		if text, err := os.Readlink(at); err == nil {
			link, to = at, text
		}
		if at == "/" || at == "." {
			return link, to
		}
	}
}

func remountReason(err error) string {
	if errors.Is(err, unix.EINVAL) {
		return "nothing is mounted there"
	}
	return notPermitted(err)
}

func unmountReason(err error) string {
	switch {
	case errors.Is(err, unix.EBUSY):
		return "a process uses it, or something is mounted below it"
	case errors.Is(err, unix.EINVAL):
		return "nothing is mounted there"
	case errors.Is(err, unix.ENOENT):
		return "the directory does not exist"
	}
	return notPermitted(err)
}

func notPermitted(err error) string {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return "root with CAP_SYS_ADMIN in this mount namespace is needed"
	}
	return ""
}

// diagnose finds words for what mount(2) returned when the kernel log is silent: first what can be seen of the
// layers, then what the errno means for an overlay.
func diagnose(err error, c overlayfs.Config) string {
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR),
		errors.Is(err, unix.ENOMEM):
		if seen := inspect(c); seen != "" {
			return seen
		}
	}
	switch {
	case errors.Is(err, unix.EINVAL):
		return "the kernel refuses these layers or options"
	case errors.Is(err, unix.ELOOP):
		return "two layers are the same directory, or one lies inside another"
	case errors.Is(err, unix.ESTALE):
		return "index is on, and the upperdir was made over other lowerdirs or is a copy; put those back, or reset the client"
	case errors.Is(err, unix.EBUSY):
		return "the upperdir or workdir is in use by another overlay, maybe in another mount namespace"
	case errors.Is(err, unix.ENOENT):
		return "a layer does not exist"
	case errors.Is(err, unix.EROFS):
		return "the upperdir is on a read-only filesystem"
	case errors.Is(err, unix.ENODEV):
		return "this kernel has no overlay filesystem; is the module there (modprobe overlay)?"
	case errors.Is(err, unix.ENOSPC):
		return "the number of mounts is at its limit (sysctl fs.mount-max), or the upperdir's filesystem is full"
	}
	return notPermitted(err)
}

// inspect looks for the causes that hide behind EINVAL, and on kernels before 6.5 behind ENOMEM.
func inspect(c overlayfs.Config) string {
	layers := slices.Concat(c.Lower, c.Data)
	switch {
	case len(layers) > overlayfs.MaxLayers:
		return fmt.Sprintf("%d layers, the kernel takes %d", len(layers), overlayfs.MaxLayers)
	case c.Upper != "" && c.Work == "":
		return "there is an upperdir but no workdir"
	case c.Upper == "" && len(layers) < 2:
		return "without an upperdir two lowerdirs at least are needed"
	}
	for _, path := range append(layers, c.Upper, c.Work) {
		if path == "" {
			continue
		}
		switch st, err := os.Stat(path); {
		case errors.Is(err, os.ErrNotExist):
			return path + " does not exist"
		case err != nil:
			return fmt.Sprintf("%s cannot be reached: %v", path, err)
		case !st.IsDir():
			return path + " is not a directory"
		}
	}
	if c.Upper == "" {
		return ""
	}
	return inspectUpper(c)
}

func inspectUpper(c overlayfs.Config) string {
	var upper, work unix.Statx_t
	var fs unix.Statfs_t
	if unix.Statx(unix.AT_FDCWD, c.Upper, 0, unix.STATX_MNT_ID|unix.STATX_INO, &upper) != nil ||
		unix.Statx(unix.AT_FDCWD, c.Work, 0, unix.STATX_MNT_ID|unix.STATX_INO, &work) != nil ||
		unix.Statfs(c.Upper, &fs) != nil {
		return ""
	}
	switch {
	case upper.Mnt_id != work.Mnt_id:
		return "upperdir and workdir must be on one mount"
	case upper.Ino == work.Ino, within(c.Upper, c.Work), within(c.Work, c.Upper):
		return "upperdir and workdir must be two directories, neither inside the other"
	case fs.Flags&unix.ST_RDONLY != 0:
		return "the filesystem of the upperdir is read-only"
	case fs.Type == unix.OVERLAYFS_SUPER_MAGIC:
		return "the upperdir is on an overlay itself, which cannot hold one"
	}
	return ""
}

// within reports that path lies strictly below dir.
func within(path, dir string) bool {
	return strings.HasPrefix(filepath.Clean(path), strings.TrimSuffix(filepath.Clean(dir), "/")+"/")
}
