package overlayfs

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Defaults are what the running kernel's overlay module does when an option is not given.
type Defaults struct {
	RedirectDir, Index, Metacopy, NFSExport, XinoAuto, RedirectAlwaysFollow bool
}

// Difference is in what a live overlay differs from the wanted one. The reasons are for people; the flags say which
// part differs: when it is Flags alone, the mount can be remounted in place.
type Difference struct {
	Reasons                []string
	Layers, Options, Flags bool
}

// None reports that live means the same as wanted.
func (d Difference) None() bool { return len(d.Reasons) == 0 }

// FlagsOnly reports a difference that a remount in place mends.
func (d Difference) FlagsOnly() bool { return d.Flags && !d.Layers && !d.Options }

// Compare tells how live differs from want, on meaning: what the kernel adds by itself, leaves out, or writes in
// another way is no difference. d are the running kernel's defaults. sameFS says that all layers are on one
// filesystem, where the kernel ignores xino. same reports whether two different absolute paths are one directory
// (by device and inode); nil means never.
func Compare(want Config, live Mount, d Defaults, sameFS bool, same func(a, b string) bool) Difference {
	if live.Overlay == nil {
		return Difference{Reasons: []string{fmt.Sprintf("%s is mounted, not an overlay", live.FSType)}, Layers: true}
	}
	c := comparison{want: want, live: *live.Overlay, same: same}
	if live.Root != "" && live.Root != "/" {
		c.add(&c.diff.Layers, "only its directory %s is mounted there", live.Root)
	}
	c.layers()
	c.options(d, sameFS)
	c.flags(live)
	return c.diff
}

type comparison struct {
	want, live Config
	same       func(a, b string) bool
	diff       Difference
}

func (c *comparison) add(part *bool, format string, args ...any) {
	*part = true
	c.diff.Reasons = append(c.diff.Reasons, fmt.Sprintf(format, args...))
}

// samePath compares two paths of layers. The text in the mount table is what the mounter wrote: symlinks, "//" and
// even relative paths, which mean nothing once its working directory is forgotten.
func (c *comparison) samePath(a, b string) bool {
	if a == b {
		return true
	}
	if a == "" || b == "" {
		return false
	}
	if clean(a) == clean(b) {
		return true
	}
	return c.same != nil && path.IsAbs(a) && path.IsAbs(b) && c.same(clean(a), clean(b))
}

func (c *comparison) layers() {
	c.layerList("lowerdirs", c.want.Lower, c.live.Lower)
	c.layerList("data-only lowerdirs", c.want.Data, c.live.Data)
	c.dir("upperdir", c.want.Upper, c.live.Upper)
	if c.want.Upper != "" || c.live.Upper != "" { // without an upperdir a workdir does nothing
		c.dir("workdir", c.want.Work, c.live.Work)
	}
}

func (c *comparison) dir(what, want, live string) {
	switch {
	case c.samePath(want, live):
	case want == "":
		c.add(&c.diff.Layers, "%s is %s, none is wanted", what, live)
	case live == "":
		c.add(&c.diff.Layers, "%s is missing, %s is wanted", what, want)
	default:
		c.add(&c.diff.Layers, "%s is %s, not %s", what, live, want)
	}
}

func (c *comparison) layerList(what string, want, live []string) {
	if slices.EqualFunc(want, live, c.samePath) {
		return
	}
	var changes []string
	for _, layer := range c.without(want, live) {
		changes = append(changes, "+ "+layer)
	}
	for _, layer := range c.without(live, want) {
		changes = append(changes, "- "+layer)
	}
	if len(changes) == 0 {
		changes = append(changes, "their order is "+strings.Join(live, ":")+", not "+strings.Join(want, ":"))
	}
	c.add(&c.diff.Layers, "%s changed: %s", what, strings.Join(changes, ", "))
}

// without returns the layers of a that are not in b.
func (c *comparison) without(a, b []string) []string {
	text := make(map[string]bool, len(b))
	for _, layer := range b {
		text[clean(layer)] = true
	}
	var out []string
	for _, layer := range a {
		if !text[clean(layer)] && !slices.ContainsFunc(b, func(other string) bool { return c.samePath(layer, other) }) {
			out = append(out, layer)
		}
	}
	return out
}

// flags compares the flags that want names, and ro in any case. The others are the host's business.
func (c *comparison) flags(live Mount) {
	for _, name := range []string{"nosuid", "nodev", "noexec", "noatime", "nodiratime", "strictatime", "nosymfollow"} {
		_, wanted := c.want.Options[name]
		if _, ok := live.Flags[name]; wanted && !ok {
			c.add(&c.diff.Flags, "%s is missing", name)
		}
	}
	if _, wanted := c.want.Options["relatime"]; wanted {
		// It is the default, so only what stands in its place shows.
		for _, name := range []string{"noatime", "strictatime"} {
			if _, other := live.Flags[name]; other {
				c.add(&c.diff.Flags, "%s is set, not relatime", name)
			}
		}
	}
	_, wantRO := c.want.Options["ro"]
	_, liveRO := live.Flags["ro"]
	switch {
	case wantRO && !liveRO:
		c.add(&c.diff.Flags, "mounted read-write, not read-only")
	case !wantRO && liveRO:
		c.add(&c.diff.Flags, "mounted read-only")
	case !wantRO && live.SuperReadOnly && c.want.Upper != "" && c.live.Upper != "":
		// The mount itself says rw. No remount helps; systemd and mount(8) reported success.
		c.add(&c.diff.Options, "the kernel fell back to read-only: it could not clean the workdir when it mounted")
	}
}
