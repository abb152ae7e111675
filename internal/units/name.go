package units

import (
	"fmt"
	"strings"
)

// MaxName is the longest unit name in bytes that systemd takes (UNIT_NAME_MAX less the NUL). For a longer one systemd
// uses a hashed name that no unit file can be written for, so such a mountpoint has to be refused.
const MaxName = 255

// TargetName is the unit that stands for all overlays.
const TargetName = "overlayd.target"

const mountSuffix = ".mount"

const hexDigits = "0123456789abcdef"

// Name gives the name of the .mount unit that systemd ties to a mountpoint, as systemd-escape -p --suffix=mount does.
// It may come out longer than [MaxName]. It is "" for what has no unit: a path that is not absolute or has a ".."
// component or a NUL.
func Name(mountpoint string) string {
	if !strings.HasPrefix(mountpoint, "/") || strings.IndexByte(mountpoint, 0) >= 0 {
		return ""
	}
	out := make([]byte, 0, len(mountpoint)+len(mountSuffix)+16)
	for rest := mountpoint; rest != ""; {
		var component string
		component, rest, _ = strings.Cut(rest, "/")
		switch component {
		case "", ".":
			continue
		case "..":
			return ""
		}
		if len(out) > 0 {
			out = append(out, '-')
		}
		for i := range len(component) {
			c := component[i]
			// A dot is escaped only where it would lead the whole name and so hide the file.
			if plainInName(c) && (c != '.' || len(out) > 0) {
				out = append(out, c)
			} else {
				out = append(out, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
			}
		}
	}
	if len(out) == 0 {
		out = append(out, '-')
	}
	return string(append(out, mountSuffix...))
}

func plainInName(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == ':' || c == '_' || c == '.'
}

// PathOf is the twin of [Name]: the mountpoint of a .mount unit. A name that Name does not give is an error, because
// systemd refuses a unit file of that name too ("Where= setting doesn't match unit name").
func PathOf(unit string) (string, error) {
	escaped, ok := strings.CutSuffix(unit, mountSuffix)
	if !ok {
		return "", fmt.Errorf("cannot tell the mountpoint of unit %q: not a .mount unit", unit)
	}
	if escaped == "-" {
		return "/", nil
	}
	path := make([]byte, 1, len(escaped)+1)
	path[0] = '/'
	for i := 0; i < len(escaped); i++ {
		switch c := escaped[i]; c {
		case '-':
			path = append(path, '/')
		case '\\':
			b, ok := hexEscape(escaped[i:])
			if !ok {
				return "", fmt.Errorf("cannot tell the mountpoint of unit %q: broken \\x escape at byte %d", unit, i)
			}
			path = append(path, b)
			i += 3
		default:
			path = append(path, c)
		}
	}
	if Name(string(path)) != unit {
		return "", fmt.Errorf("cannot tell the mountpoint of unit %q: systemd names no mount so", unit)
	}
	return string(path), nil
}

// hexEscape reads "\xNN" at the beginning of s.
func hexEscape(s string) (byte, bool) {
	if len(s) < 4 || s[1] != 'x' {
		return 0, false
	}
	hi, lo := strings.IndexByte(hexDigits, s[2]), strings.IndexByte(hexDigits, s[3])
	if hi < 0 || lo < 0 {
		return 0, false
	}
	return byte(hi<<4 | lo), true
}
