package layers

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// settings are the options in force that decide what the layers mean.
type settings struct {
	prefix      string // of the overlay's own xattrs
	follow      bool   // redirects
	metacopy    bool
	index       bool
	verifyLower bool // directories are merged only with what their origin xattr names
}

const (
	trustedPrefix = "trusted.overlay."
	userPrefix    = "user.overlay."
)

// settingsOf concludes what is in force from the options given, as the kernel does for an overlay with an upperdir.
func settingsOf(o overlayfs.Options, d overlayfs.Defaults) settings {
	on := func(name string, standard bool) bool {
		if v, ok := o[name]; ok {
			return v == "on"
		}
		return standard
	}
	s := settings{prefix: trustedPrefix}
	export := on("nfs_export", d.NFSExport)
	s.index = on("index", d.Index || export)
	s.verifyLower = export && s.index
	_, metacopyGiven := o["metacopy"]
	s.metacopy = on("metacopy", d.Metacopy && !export || o["verity"] == "on" || o["verity"] == "require")
	switch mode, given := o["redirect_dir"]; {
	case mode == "on" || mode == "follow" || !given && d.RedirectDir:
		s.follow = true
	case mode == "nofollow":
	case s.metacopy && (metacopyGiven || !given): // implies redirect_dir=on, which 5.10 and 6.1 do not show
		s.follow = true
	default:
		s.follow = d.RedirectAlwaysFollow
	}
	if _, ok := o["userxattr"]; ok {
		s.prefix, s.follow, s.metacopy = userPrefix, false, false
	}
	return s
}

// mayReadTrusted tells whether trusted.* xattrs can be read. To those who may not, the kernel says that there are none.
func mayReadTrusted() bool {
	const initialUserNamespace = 0xEFFFFFFD // PROC_USER_INIT_INO: root of another one has the capability there only
	var ns unix.Stat_t
	if err := unix.Stat("/proc/self/ns/user", &ns); err != nil || ns.Ino != initialUserNamespace {
		return false
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

// own tells what an xattr is to the overlay: one of its own marks, or one of the client's, under which name.
func (s settings) own(name string) (visible string, own bool) {
	rest, ok := strings.CutPrefix(name, s.prefix)
	if !ok {
		return name, false
	}
	// Since 6.7 a client's own trusted.overlay.x is kept as trusted.overlay.overlay.x.
	if escaped, ok := strings.CutPrefix(rest, "overlay."); ok {
		return s.prefix + escaped, false
	}
	return "", true
}
