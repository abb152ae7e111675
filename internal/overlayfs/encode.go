package overlayfs

import (
	"fmt"
	"strings"
)

// The kernel splits mount data at unescaped commas, lowerdir at unescaped colons, and then takes one backslash away
// wherever it stands (ovl_next_opt, ovl_unescape; the same from 5.10 to 6.18).

// escapeLower encodes one layer of lowerdir=.
func escapeLower(path string) string { return escape(path, `\:,`) }

// escapeUpper encodes upperdir= and workdir=. A colon must stay bare: systemd 257 makes these directories itself,
// takes "\," and "\\" back but not "\:", and would make a stray directory with a backslash in its name.
func escapeUpper(path string) string { return escape(path, `\,`) }

func escape(path, special string) string {
	if !strings.ContainsAny(path, special) {
		return path
	}
	var b strings.Builder
	for i := range len(path) {
		if strings.IndexByte(special, path[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(path[i])
	}
	return b.String()
}

// unescape is the kernel's ovl_unescape: every backslash goes, the byte behind it stays.
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// cutUnescaped cuts s at the first sep that no backslash protects.
func cutUnescaped(s string, sep byte) (before, after string, found bool) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case sep:
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// KernelData returns the data argument of mount(2): the layers, then the filesystem options in the order of
// SpecOptions. Options that are unknown here are handed on, as mount(8) does.
func (c Config) KernelData() string {
	return strings.Join(c.encode(func(class Class) bool {
		return class == ClassFilesystem || class == ClassUnknown
	}), ",")
}

// MountOptions returns what mount(8) and a unit's Options= get, before the escaping of the unit file:
// KernelData, the per-mount flags, and last the options for user space.
func (c Config) MountOptions() string {
	return strings.Join(c.encode(func(Class) bool { return true }), ",")
}

func (c Config) encode(wanted func(Class) bool) []string {
	var parts []string
	if len(c.Lower)+len(c.Data) > 0 {
		parts = append(parts, "lowerdir="+joinLayers(c.Lower, c.Data))
	}
	if c.Upper != "" {
		parts = append(parts, "upperdir="+escapeUpper(c.Upper))
	}
	if c.Work != "" {
		parts = append(parts, "workdir="+escapeUpper(c.Work))
	}
	for _, name := range c.Options.names() {
		if !wanted(ClassOf(name)) {
			continue
		}
		if value := c.Options[name]; value != "" {
			name += "=" + value
		}
		parts = append(parts, name)
	}
	return parts
}

func joinLayers(lower, data []string) string {
	var b strings.Builder
	for i, path := range lower {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(escapeLower(path))
	}
	for _, path := range data {
		b.WriteString("::")
		b.WriteString(escapeLower(path))
	}
	return b.String()
}

// splitLayers is the twin of joinLayers.
func splitLayers(value string) (lower, data []string, err error) {
	into := &lower
	for rest, more := value, true; more; {
		var layer string
		layer, rest, more = cutUnescaped(rest, ':')
		if layer == "" {
			return nil, nil, fmt.Errorf("cannot read lowerdir=%s: a layer is empty", value)
		}
		*into = append(*into, unescape(layer))
		if more && strings.HasPrefix(rest, ":") {
			rest, into = rest[1:], &data
		} else if more && into == &data {
			return nil, nil, fmt.Errorf("cannot read lowerdir=%s: a layer follows the data-only layers", value)
		}
	}
	return lower, data, nil
}

// ParseMountOptions is the twin of [Config.MountOptions]. It reads options that others wrote, too: unknown ones are
// kept as they are, and of one given twice the last counts, as in the kernel.
func ParseMountOptions(s string) (Config, error) {
	c := Config{Options: Options{}}
	for rest, more := s, s != ""; more; {
		var option string
		option, rest, more = cutUnescaped(rest, ',')
		if option == "" {
			continue
		}
		name, value, _ := strings.Cut(option, "=")
		if strings.Contains(name, `\`) || !more && endsInEscape(option) {
			return Config{}, fmt.Errorf("cannot read option %s: its backslash protects nothing", option)
		}
		if err := c.set(name, value); err != nil {
			return Config{}, err
		}
	}
	return c, nil
}

// endsInEscape reports a last backslash that is not itself escaped.
func endsInEscape(s string) bool {
	return (len(s)-len(strings.TrimRight(s, `\`)))%2 == 1
}

// set takes one option into c, whose Options are made.
func (c *Config) set(name, value string) (err error) {
	switch name {
	case "":
		return fmt.Errorf("cannot read option =%s: it has no name", value)
	case "lowerdir", "lowerdir+", "datadir+", "upperdir", "workdir":
		if value == "" {
			return fmt.Errorf("cannot read option %s: it names no directory", name)
		}
	}
	switch name {
	case "lowerdir":
		c.Lower, c.Data, err = splitLayers(value)
	case "lowerdir+": // these two are taken as they stand, without any unescaping
		c.Lower = append(c.Lower, value)
	case "datadir+":
		c.Data = append(c.Data, value)
	case "upperdir":
		c.Upper = unescape(value)
	case "workdir":
		c.Work = unescape(value)
	default:
		c.Options[name] = value
	}
	return err
}
