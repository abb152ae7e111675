package overlayfs

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Mount is one line of the mount table, with the kernel's octal escapes taken away.
// What its maps and slices hold may be shared with other mounts of the table: change none of it.
type Mount struct {
	ID, Parent int
	Dev        string // major:minor of the super block, "0:45"
	Root       string // what part of the filesystem is mounted
	Mountpoint string
	FSType     string
	Source     string
	// Flags are those of the mount itself, without rw and relatime, which are the default. strictatime, which the
	// kernel shows by showing nothing, is there in words.
	Flags Options
	Super string // the super block's options as the kernel shows them, escapes included
	// Overlay is there for an overlay only. Its Options hold the filesystem options and the per-mount flags.
	Overlay *Config
	// SuperReadOnly is the super block's state; the mount's own is the flag "ro".
	SuperReadOnly bool
	// Shared and Master are the peer groups that the mount sends to and receives from, 0 for none
	// (mount_namespaces(7)).
	Shared, Master int
}

// ParseMounts reads a mount table, /proc/PID/mountinfo, in its order. Use [ParseTable] unless the order is all you need.
func ParseMounts(r io.Reader) ([]Mount, error) {
	// One string for the whole table, of which nearly all fields are parts. No bufio.Scanner: a line has no
	// greatest length, 500 layers make it longer than 64 KiB.
	var whole strings.Builder
	if sized, ok := r.(interface{ Len() int }); ok {
		whole.Grow(sized.Len())
	}
	if _, err := io.Copy(&whole, r); err != nil {
		return nil, fmt.Errorf("cannot read the mount table: %w", err)
	}
	text := whole.String()
	mounts := make([]Mount, 0, strings.Count(text, "\n")+1)
	p := parser{flags: make(map[string]Options), options: make(map[optionText]Options)}
	for number := 1; text != ""; number++ {
		var line string
		line, text, _ = strings.Cut(text, "\n")
		if line == "" {
			continue
		}
		m, err := p.line(line)
		if err != nil {
			return nil, fmt.Errorf("cannot read line %d of the mount table: %w", number, err)
		}
		mounts = append(mounts, m)
	}
	return mounts, nil
}

// parser remembers the few sets of flags, and of options of overlays, that all mounts of a host share.
type parser struct {
	flags   map[string]Options
	options map[optionText]Options
}

// optionText is what the kernel shows of an overlay's options: the flags of the mount, and what follows the layers.
type optionText struct{ flags, super string }

// line reads one line:
//
//	36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue
//	(1)(2)(3)  (4)   (5)   (6)        (7)               (8)(9) (10)      (11)
//
// (7) are any number of fields, also none. Every separator is one blank: an empty source shows as two of them.
func (p parser) line(line string) (Mount, error) {
	fields, tail, ok := strings.Cut(line, " - ")
	if !ok {
		return Mount{}, errors.New(`there is no " - "`)
	}
	var f [6]string
	rest := fields
	for i := range f {
		var more bool
		f[i], rest, more = strings.Cut(rest, " ")
		if !more && i < len(f)-1 {
			return Mount{}, fmt.Errorf(`%d fields before the " - ", want 6 at least`, i+1)
		}
	}
	t := strings.SplitN(tail, " ", 3)
	if len(t) < 3 {
		return Mount{}, fmt.Errorf(`%d fields behind the " - ", want 3`, len(t))
	}
	m := Mount{
		Dev: f[2], Root: DecodeOctal(f[3]), Mountpoint: DecodeOctal(f[4]),
		FSType: DecodeOctal(t[0]), Source: DecodeOctal(t[1]), Super: t[2], Flags: p.perMount(f[5]),
	}
	var err error
	if m.ID, err = strconv.Atoi(f[0]); err != nil {
		return Mount{}, fmt.Errorf("the mount ID %q is not a number", f[0])
	}
	if m.Parent, err = strconv.Atoi(f[1]); err != nil {
		return Mount{}, fmt.Errorf("the parent ID %q is not a number", f[1])
	}
	for field := range strings.FieldsSeq(rest) {
		if group, ok := strings.CutPrefix(field, "shared:"); ok {
			m.Shared, _ = strconv.Atoi(group)
		} else if group, ok := strings.CutPrefix(field, "master:"); ok {
			m.Master, _ = strconv.Atoi(group)
		}
	}
	state, _, _ := strings.Cut(m.Super, ",")
	m.SuperReadOnly = state == "ro"
	if m.FSType == "overlay" {
		if m.Overlay, err = p.overlay(m.Super, f[5], m.Flags); err != nil {
			return Mount{}, err
		}
	}
	return m, nil
}

func (p parser) perMount(field string) Options {
	if o, ok := p.flags[field]; ok {
		return o
	}
	o := Options{}
	atime := false
	for flag := range strings.SplitSeq(field, ",") {
		switch flag {
		case "", "rw":
			continue
		case "relatime":
			atime = true
			continue
		case "noatime":
			atime = true
		}
		o[flag] = ""
	}
	if !atime {
		o["strictatime"] = ""
	}
	p.flags[field] = o
	return o
}

// overlay reads an overlay's super block options. The order of steps matters: commas that belong to a value are shown as
// \054, so the split comes before the octal decoding, and only then follows the overlay's own escaping. Kernels show the
// layers first; what follows is the same for most.
func (p parser) overlay(super, flagText string, flags Options) (*Config, error) {
	c := &Config{}
	rest := super
	for rest != "" {
		option, behind, _ := strings.Cut(rest, ",")
		name, value, _ := strings.Cut(option, "=")
		state := len(rest) == len(super) && (option == "rw" || option == "ro")
		if option != "" && !state {
			if !isLayer(name) {
				break
			}
			if err := c.set(name, DecodeOctal(value)); err != nil {
				return nil, err
			}
		}
		rest = behind
	}
	text := optionText{flagText, rest}
	if known, ok := p.options[text]; ok {
		c.Options = known
		return c, nil
	}
	c.Options = flags.Clone()
	shared := true
	for option := range strings.SplitSeq(rest, ",") {
		if option == "" {
			continue
		}
		name, value, _ := strings.Cut(option, "=")
		shared = shared && !isLayer(name)
		if err := c.set(name, DecodeOctal(value)); err != nil {
			return nil, err
		}
	}
	if shared {
		p.options[text] = c.Options
	}
	return c, nil
}

func isLayer(name string) bool {
	switch name {
	case "lowerdir", "lowerdir+", "datadir+", "upperdir", "workdir":
		return true
	}
	return false
}

// DecodeOctal takes the escapes of the kernel's mangle and seq_escape away, byte by byte: names need not be UTF-8.
// A backslash that begins no escape stays. fstab(5) has the same escapes.
func DecodeOctal(s string) string {
	start := strings.IndexByte(s, '\\')
	if start < 0 {
		return s
	}
	out := make([]byte, start, len(s))
	copy(out, s)
	for i := start; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && s[i+1] <= '3' && octal(s[i+1]) && octal(s[i+2]) && octal(s[i+3]) {
			out = append(out, (s[i+1]-'0')<<6|(s[i+2]-'0')<<3|(s[i+3]-'0'))
			i += 3
			continue
		}
		out = append(out, s[i])
	}
	return string(out)
}

func octal(c byte) bool { return '0' <= c && c <= '7' }
