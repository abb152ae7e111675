package importer

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// setting is a line of an options block; value is HCL.
type setting struct{ name, value string }

// inherited are the flags that overlayd takes over from the mounts of the layers.
var inherited = []string{"nosuid", "nodev", "noexec"}

// options says what an options block has to hold for a mount to be as it is, now and at the next boot, and no more
// than that; or what of it cannot be said. asked tells that its options were given by somebody, not shown by the
// kernel.
func (h Host) options(m overlayfs.Mount, asked bool) (out []setting, reason string) {
	live := *m.Overlay
	if reason := unspeakable(live.Options, m.Flags); reason != "" {
		return nil, reason
	}
	flags, off, derived := h.perMount(m)
	differs := func(o overlayfs.Options) []string {
		want := live
		want.Options = overlayfs.Pin(o)
		maps.Copy(want.Options, flags)
		maps.Copy(want.Options, derived)
		return overlayfs.Compare(want, m, h.Defaults, h.sameFS(live), nil).Reasons
	}
	given := shown(m, asked)
	// What the kernel does without being asked, a spec has to ask for: overlayd pins these options to off.
	for _, name := range h.defaults() {
		more := given.Clone()
		more[name] = "on"
		if len(differs(more)) < len(differs(given)) {
			given = more
		}
	}
	if reasons := differs(given); len(reasons) > 0 {
		return nil, "it cannot be declared as it is: " + strings.Join(reasons, "; ")
	}
	// What the kernel shows of itself, or because of another option, need not be said. No comparison tells that of
	// these two.
	said := map[string]bool{"uuid": true, "xino": !h.sameFS(live)}
	for _, info := range slices.Backward(overlayfs.SpecOptions()) {
		fewer := given.Clone()
		delete(fewer, info.Name)
		clash := len(overlayfs.Conflicts(fewer, live.Upper == "")) > 0
		if !said[info.Name] && !clash && len(differs(fewer)) == 0 {
			given = fewer
		}
	}
	maps.Copy(given, flags)
	for _, info := range overlayfs.SpecOptions() {
		if value, ok := given[info.Name]; ok {
			out = append(out, setting{info.Name, literal(info, value)})
		} else if off[info.Name] {
			out = append(out, setting{info.Name, "false"})
		}
	}
	return out, ""
}

// perMount gives the per-mount flags to set, those to refuse in words, and those that overlayd derives by itself.
func (h Host) perMount(m overlayfs.Mount) (set overlayfs.Options, off map[string]bool, derived overlayfs.Options) {
	set, off, derived = overlayfs.Options{}, map[string]bool{}, overlayfs.Options{}
	for _, p := range layersOf(*m.Overlay) {
		for _, f := range inherited {
			if _, on := h.Paths[p].Flags[f]; !on {
				continue
			}
			if _, live := m.Flags[f]; live {
				derived[f] = ""
			} else {
				off[f] = true
			}
		}
	}
	for _, info := range overlayfs.SpecOptions() {
		_, live := m.Flags[info.Name]
		if _, anyway := derived[info.Name]; live && !anyway && info.Class == overlayfs.ClassPerMount {
			set[info.Name] = ""
		}
	}
	return set, off, derived
}

// shown are the options of the filesystem that the kernel shows, or that were asked for.
func shown(m overlayfs.Mount, asked bool) overlayfs.Options {
	out := overlayfs.Options{}
	for _, info := range overlayfs.SpecOptions() {
		value, ok := m.Overlay.Options[info.Name]
		// The upperdir remembers its uuid, and a mount that does not say gets that again; but for off.
		remembered := info.Name == "uuid" && value != "off" && !asked
		if ok && info.Class == overlayfs.ClassFilesystem && !remembered {
			out[info.Name] = value
		}
	}
	return out
}

// defaults are the options that are on by the kernel's default.
func (h Host) defaults() []string {
	var out []string
	for _, option := range []struct {
		name string
		on   bool
	}{
		{"redirect_dir", h.Defaults.RedirectDir},
		{"index", h.Defaults.Index},
		{"metacopy", h.Defaults.Metacopy},
		{"nfs_export", h.Defaults.NFSExport},
	} {
		if option.on {
			out = append(out, option.name)
		}
	}
	return out
}

// unspeakable says which option of a mount has no place in the language.
func unspeakable(options, flags overlayfs.Options) string {
	known := map[string]bool{
		"relatime": true, // the default
		// Nothing that was given: SELinux is on; and Ubuntu's kernels show what others show by showing nothing.
		"seclabel": true, "nouserxattr": true,
	}
	for _, info := range overlayfs.SpecOptions() {
		known[info.Name] = true
	}
	all := options.Clone()
	maps.Copy(all, flags)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		value := all[name]
		switch {
		case name == "volatile", name == "fsync" && value == "volatile":
			return "it is volatile: after any unmount the kernel refuses to mount it again, so no unit can keep it"
		case known[name], overlayfs.ClassOf(name) == overlayfs.ClassUserspace, name == "fsync" && value == "auto":
		case value != "":
			return fmt.Sprintf("the option %s has no place in the language", show(name+"="+value))
		default:
			return fmt.Sprintf("the option %s has no place in the language", show(name))
		}
	}
	return ""
}

func layersOf(c overlayfs.Config) []string {
	out := slices.Clone(c.Lower)
	if c.Upper != "" {
		out = append(out, c.Upper)
	}
	return out
}

// literal is an option's value as HCL has it. One that the option does not take is for the language to refuse.
func literal(info overlayfs.OptionInfo, value string) string {
	switch {
	case info.Kind == overlayfs.KindFlag:
		return "true"
	case info.Kind == overlayfs.KindBool && value == "on":
		return "true"
	case info.Kind == overlayfs.KindBool && value == "off":
		return "false"
	}
	return quote(value)
}
