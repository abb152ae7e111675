package overlayfs

import (
	"slices"
	"strings"
)

// Class says who an option is for.
type Class int

// The classes of options.
const (
	ClassUnknown    Class = iota // not known here; mount(8) would hand it to the kernel
	ClassFilesystem              // part of the data argument of mount(2)
	ClassPerMount                // a flag of the one mount, changed by a bind remount
	ClassUserspace               // read by mount(8) or systemd, or the default anyway; the kernel never sees it
)

// OptionKind says what values an option takes.
type OptionKind int

// The kinds of options.
const (
	KindBool OptionKind = iota // NAME=on or NAME=off
	KindFlag                   // a bare NAME
	KindEnum                   // NAME=one of Values
)

// OptionInfo describes one option that a spec may name.
type OptionInfo struct {
	Name   string
	Kind   OptionKind
	Values []string // of KindBool and KindEnum
	Class  Class
}

// SpecOptions lists the options that a spec may name, in the order in which they are written.
// volatile is not among them: after any unmount the kernel refuses the next mount.
func SpecOptions() []OptionInfo {
	onOff := []string{"on", "off"}
	flag := func(name string, class Class) OptionInfo {
		return OptionInfo{Name: name, Kind: KindFlag, Class: class}
	}
	boolean := func(name string) OptionInfo {
		return OptionInfo{Name: name, Kind: KindBool, Values: slices.Clone(onOff), Class: ClassFilesystem}
	}
	enum := func(name string, values ...string) OptionInfo {
		return OptionInfo{Name: name, Kind: KindEnum, Values: values, Class: ClassFilesystem}
	}
	return []OptionInfo{
		enum("redirect_dir", "on", "off", "follow", "nofollow"),
		boolean("index"),
		boolean("metacopy"),
		boolean("nfs_export"),
		enum("xino", "on", "off", "auto"),
		enum("uuid", "on", "off", "auto", "null"),
		enum("verity", "off", "on", "require"),
		flag("userxattr", ClassFilesystem),
		flag("default_permissions", ClassFilesystem),
		flag("ro", ClassPerMount),
		flag("nosuid", ClassPerMount),
		flag("nodev", ClassPerMount),
		flag("noexec", ClassPerMount),
		flag("noatime", ClassPerMount),
		flag("nodiratime", ClassPerMount),
		flag("strictatime", ClassPerMount),
	}
}

// ClassOf tells who the option of that name (without "=value") is for.
func ClassOf(name string) Class {
	switch name {
	case "redirect_dir", "index", "metacopy", "nfs_export", "xino", "uuid", "verity", "userxattr",
		"default_permissions", "volatile", "fsync", "override_creds", "nooverride_creds",
		"lowerdir", "lowerdir+", "datadir+", "upperdir", "workdir":
		return ClassFilesystem
	case "ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "strictatime", "relatime", "nosymfollow":
		return ClassPerMount
	case "nofail", "_netdev", "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "comment",
		"rw", "suid", "dev", "exec", "atime", "diratime", "norelatime", "nostrictatime", "symfollow", "async":
		return ClassUserspace
	}
	if strings.HasPrefix(name, "x-") || strings.HasPrefix(name, "X-") {
		return ClassUserspace
	}
	return ClassUnknown
}

// rank orders option names as they are written: kernel data in the order of SpecOptions, then unknown ones, then
// per-mount flags in their order, then those for user space with nofail and _netdev last. Ties go by name.
func rank(name string) int {
	const perClass = 100
	place, ok := places[name]
	if !ok {
		place = perClass - 1
	}
	switch ClassOf(name) {
	case ClassFilesystem:
		return place
	case ClassPerMount:
		return 2*perClass + place
	case ClassUserspace:
		switch name {
		case "nofail":
			return 4*perClass + 1
		case "_netdev":
			return 4*perClass + 2
		}
		return 4 * perClass
	case ClassUnknown:
	}
	return perClass
}

// places holds the place of each name in SpecOptions; it is never changed.
var places = func() map[string]int {
	m := make(map[string]int)
	for i, o := range SpecOptions() {
		m[o.Name] = i
	}
	return m
}()

// names returns the names in o in the order in which they are written.
func (o Options) names() []string {
	names := make([]string, 0, len(o))
	for name := range o {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return names
}
