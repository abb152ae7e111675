package overlayfs

// The filesystem options whose effective values are compared.
const (
	redirectDir = iota
	index
	metacopy
	nfsExport
	verity
	fsync
	userxattr
	defaultPermissions
	xino
	effectiveCount
)

var effectiveNames = [effectiveCount]string{
	"redirect_dir", "index", "metacopy", "nfs_export", "verity", "fsync", "userxattr", "default_permissions", "xino",
}

// unknown marks what a kernel decides by its version.
const unknown = "?"

// options compares what the filesystem options amount to, not their text.
func (c *comparison) options(d Defaults, sameFS bool) {
	want := effective(c.want, d, false)
	live := effective(c.live, d, true)
	for i, name := range effectiveNames {
		switch {
		case want[i] == live[i] || want[i] == unknown:
		case i == userxattr || i == defaultPermissions:
			if want[i] == "on" {
				c.add(&c.diff.Options, "%s is missing", name)
			} else {
				c.add(&c.diff.Options, "%s is set", name)
			}
		case i == xino && (sameFS || want[i] == "auto" && live[i] == "off"):
			// Ignored by the kernel on one filesystem, and auto is turned off where handles do not allow it.
		default:
			c.add(&c.diff.Options, "%s is %s, not %s", name, live[i], want[i])
		}
	}
	c.uuid()
	c.unknownOptions()
}

// uuid is decided when an upperdir is mounted for the first time and shown differently ever after, so it counts only
// when the spec asks for it.
func (c *comparison) uuid() {
	want := c.want.Options["uuid"]
	if want == "" {
		return
	}
	live, shown := c.live.Options["uuid"]
	switch {
	case want == live:
	case want == "auto" && live != "off": // on or null, as the upperdir has it
	case want == "on" && !shown: // 6.1 shows off only
	case !shown:
		c.add(&c.diff.Options, "uuid=%s is missing", want)
	default:
		c.add(&c.diff.Options, "uuid is %s, not %s", live, want)
	}
}

// unknownOptions compares the text of options whose meaning is not known here.
func (c *comparison) unknownOptions() {
	known := true
	for name := range c.want.Options {
		known = known && ClassOf(name) != ClassUnknown
	}
	if known {
		return
	}
	for _, name := range c.want.Options.names() {
		if ClassOf(name) != ClassUnknown {
			continue
		}
		switch shown, ok := c.live.Options[name]; {
		case !ok:
			c.add(&c.diff.Options, "%s is missing", name)
		case shown != c.want.Options[name]:
			c.add(&c.diff.Options, "%s is %s, not %s", name, shown, c.want.Options[name])
		}
	}
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// effective concludes the values in force from those given, as the kernel's ovl_fs_params_verify does. An option
// that is not given has the default of the running kernel, unless another one implies it. In a live mount, though,
// what is not shown has its default for sure.
func effective(c Config, d Defaults, live bool) [effectiveCount]string {
	given := func(i int) bool { _, ok := c.Options[effectiveNames[i]]; return ok }
	value := func(i int, standard string) string {
		if v := c.Options[effectiveNames[i]]; v != "" {
			return v
		}
		return standard
	}
	var e [effectiveCount]string
	e[verity] = value(verity, "off")
	e[userxattr] = onOff(given(userxattr))
	e[defaultPermissions] = onOff(given(defaultPermissions))
	e[nfsExport] = value(nfsExport, onOff(d.NFSExport))
	e[metacopy] = value(metacopy, onOff(d.Metacopy))
	e[index] = value(index, onOff(d.Index))
	e[xino] = value(xino, "off")
	if d.XinoAuto {
		e[xino] = value(xino, "auto")
	}
	e[fsync] = value(fsync, "auto")
	if _, ok := c.Options["volatile"]; ok { // its name before 6.12
		e[fsync] = "volatile"
	}
	e[redirectDir] = redirectMode(value(redirectDir, ""), d)
	if c.Upper == "" {
		readOnlyRules(&e)
	} else if e[nfsExport] == "on" {
		if !given(index) {
			e[index] = "on"
		}
		e[nfsExport] = e[index]
	}
	if e[nfsExport] == "on" && !given(metacopy) {
		e[metacopy] = "off"
	}
	if e[metacopy] == "on" {
		if given(metacopy) || !given(redirectDir) {
			e[redirectDir] = "on" // 5.10 and 6.1 do not show it
		} else if e[redirectDir] != "on" {
			e[metacopy] = "off"
		}
	}
	if !live && e[verity] != "off" && !given(metacopy) {
		// 6.6 to 6.12 imply metacopy and with it redirect_dir, 6.18 does not.
		e[metacopy] = unknown
		if !given(redirectDir) {
			e[redirectDir] = unknown
		}
	}
	if given(userxattr) {
		e[redirectDir], e[metacopy] = "nofollow", "off"
	}
	return e
}

func redirectMode(given string, d Defaults) string {
	switch {
	case given == "" && d.RedirectDir:
		return "on"
	case given != "" && given != "off":
		return given
	case d.RedirectAlwaysFollow:
		return "follow"
	}
	return "nofollow"
}

// readOnlyRules: without an upperdir nothing is ever renamed or written, so on and follow are one thing, and
// index, volatile and (unless redirects are off) nfs_export are dropped.
func readOnlyRules(e *[effectiveCount]string) {
	if e[redirectDir] == "follow" {
		e[redirectDir] = "on"
	}
	if e[redirectDir] != "nofollow" {
		e[nfsExport] = "off"
	}
	e[index], e[fsync] = "off", "auto"
}
