package reconcile

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// rootXattr on a workdir remembers with which owner and mode the upperdir beside it was made: that is how the client's
// root looks, and the client may change it. A reset makes it so again, and has no spec to ask. The upperdir itself
// would show the attribute to the client.
const rootXattr = "trusted.overlayd.merged_root"

// rememberRoot notes owner and mode of an upperdir just made. Where that cannot be noted, as without the privileges for
// trusted attributes when a tree is prepared, a reset takes owner and mode as it finds them.
func rememberRoot(workdir string, root plan.Dir) {
	_ = unix.Lsetxattr(workdir, rootXattr, fmt.Appendf(nil, "%d:%d:%04o", root.UID, root.GID, root.Mode), 0)
}

// mergedRoot gives owner and mode of a fresh upperdir: as overlayd made it, if that is known, else as it is.
func mergedRoot(upper overlayfs.PathInfo, workdir string) (root plan.Dir, known bool) {
	is := plan.Dir{UID: upper.UID, GID: upper.GID, Mode: upper.Mode & 0o7777}
	buf := make([]byte, 64)
	n, err := unix.Lgetxattr(workdir, rootXattr, buf)
	if err != nil {
		return is, false
	}
	var was plan.Dir
	if _, err := fmt.Sscanf(string(buf[:n]), "%d:%d:%o", &was.UID, &was.GID, &was.Mode); err != nil {
		return is, false
	}
	return was, true
}

// pristine tells whether an upperdir is as overlayd made it: empty, and its root unchanged.
func pristine(upper overlayfs.PathInfo, workdir string, userxattr bool) (bool, error) {
	is := plan.Dir{UID: upper.UID, GID: upper.GID, Mode: upper.Mode & 0o7777}
	if root, _ := mergedRoot(upper, workdir); !upper.Empty || is != root {
		return false, nil
	}
	buf := make([]byte, 64<<10) // XATTR_LIST_MAX
	size, err := unix.Llistxattr(upper.Path, buf)
	if err != nil && !errors.Is(err, unix.ENOTSUP) {
		return false, fmt.Errorf("cannot look at the attributes of %s: %w", upper.Path, err)
	}
	own := "trusted.overlay."
	if userxattr {
		own = "user.overlay."
	}
	for name := range strings.SplitSeq(string(buf[:max(size, 0)]), "\x00") {
		// Labels come with the directory, and ACLs may come from the default ones above it. A client's own marks,
		// escaped by the kernel, are trusted.overlay.overlay.*.
		if name == "" {
			continue
		}
		if strings.HasPrefix(name, own+"overlay.") ||
			!strings.HasPrefix(name, own) && !strings.HasPrefix(name, "security.") &&
				!strings.HasPrefix(name, "system.posix_acl_") {
			return false, nil
		}
	}
	return true, nil
}
