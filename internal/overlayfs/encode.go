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
	return c.MountOptionsWith(c.Options.text(func(class Class) bool {
		return class == ClassFilesystem || class == ClassUnknown
	}))
}

// KernelDataLen is the length of KernelData. Up to [MaxOptionsLen] it is no more than guessed, from above.
func (c Config) KernelDataLen() int {
	guess := len("upperdir=,workdir=,") + 2*len(c.Upper) + 2*len(c.Work) // each byte escaped
	for _, layers := range [...][]string{c.Lower, c.Data} {
		for _, path := range layers {
			guess += len("lowerdir=") + 2*len(path)
		}
	}
	for name, value := range c.Options {
		guess += len(name) + len("=,") + len(value)
	}
	if guess <= MaxOptionsLen {
		return guess
	}
	return len(c.KernelData())
}

// MountOptions returns what mount(8) and a unit's Options= get, before the escaping of the unit file:
// KernelData, the per-mount flags, and last the options for user space.
func (c Config) MountOptions() string { return c.MountOptionsWith(c.Options.Text()) }

// MountOptionsWith is MountOptions where [Options.Text] is known: thousands of overlays share theirs.
func (c Config) MountOptionsWith(options string) string {
	size := len("lowerdir=,upperdir=,workdir=,") + len(c.Upper) + len(c.Work) + len(options)
	for _, layers := range [...][]string{c.Lower, c.Data} {
		for _, path := range layers {
			size += len("::") + len(path)
		}
	}
	var b strings.Builder
	b.Grow(size) // enough where nothing is escaped
	part := func(name, value string) {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(name)
		b.WriteString(value)
	}
	if len(c.Lower)+len(c.Data) > 0 {
		part("lowerdir=", "")
		writeLayers(&b, c.Lower, c.Data)
	}
	if c.Upper != "" {
		part("upperdir=", escapeUpper(c.Upper))
	}
	if c.Work != "" {
		part("workdir=", escapeUpper(c.Work))
	}
	if options != "" {
		part("", options)
	}
	return b.String()
}

// Text returns the options in the order in which they are written, those for user space last.
func (o Options) Text() string { return o.text(func(Class) bool { return true }) }

func (o Options) text(wanted func(Class) bool) string {
	parts := make([]string, 0, len(o))
	for _, name := range o.names() {
		if !wanted(ClassOf(name)) {
			continue
		}
		if value := o[name]; value != "" {
			name += "=" + value
		}
		parts = append(parts, name)
	}
	return strings.Join(parts, ",")
}

func writeLayers(b *strings.Builder, lower, data []string) {
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
}

// splitLayers is the twin of writeLayers.
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
	switch {
	case name == "":
		return fmt.Errorf("cannot read option =%s: it has no name", value)
	case isLayer(name) && value == "":
		return fmt.Errorf("cannot read option %s: it names no directory", name)
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
