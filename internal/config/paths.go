package config

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of the kernel, without the terminating zero of PATH_MAX.
const (
	maxPath      = 4095
	maxComponent = 255
)

// pathRule is what may stand in a path.
type pathRule int

const (
	// anyPath can go into Where= of a unit.
	anyPath pathRule = iota
	// layerPath goes into Options=, too, where mount(8) takes a double quote as
	// the start of a quotation and an odd number of them swallows the rest.
	layerPath
)

// flaw is what is wrong with a text: the kind of mistake, and the rest of a
// sentence that begins with the text. The zero value stands for nothing wrong.
type flaw struct {
	kind   string
	reason string
}

// pathFlaw says what is wrong with a path.
func pathFlaw(p string, rule pathRule) flaw {
	if ordinary(p) {
		return flaw{}
	}
	return closeLook(p, rule)
}

func closeLook(p string, rule pathRule) flaw {
	if p == "" {
		return flaw{"Empty path", "is empty"}
	}
	if reason := textProblem(p); reason != "" {
		return flaw{"Unusable character in a path", reason}
	}
	if !strings.HasPrefix(p, "/") {
		return flaw{"Relative path", "is relative; write it from / on"}
	}
	if len(p) > maxPath {
		return flaw{"Path too long", fmt.Sprintf("has %d bytes; %d are possible", len(p), maxPath)}
	}
	components := strings.Split(p[1:], "/")
	clean := path.Clean(p)
	if slices.Contains(components, "..") {
		return flaw{"Unclean path", "contains ..; it leads to " + quote(clean)}
	}
	if clean != p {
		return flaw{"Unclean path", "is not in its shortest form; write " + quote(clean)}
	}
	for _, c := range components {
		switch {
		case len(c) > maxComponent:
			return flaw{"Path too long", fmt.Sprintf("has a component of %d bytes; %d are possible", len(c), maxComponent)}
		case strings.HasPrefix(c, " "), strings.HasSuffix(c, " "):
			return flaw{"Blank at the edge", "has a component that begins or ends with a blank, " + quote(c) +
				", which a unit file does not keep"}
		case strings.HasSuffix(c, `\`):
			return flaw{"Backslash at the end", "has a component that ends with a backslash, " + quote(c) +
				", which a unit file takes for a continued line"}
		}
	}
	// In a .mount unit nothing escapes it: Where= has to be the path as it is (systemd 252, 257).
	if strings.Contains(p, "${") || strings.Contains(p, "$$") {
		return flaw{"Unusable character in a path", "contains ${ or $$, which systemd takes for a variable when it " +
			"runs mount(8) at boot; choose another name"}
	}
	if rule == layerPath && strings.Contains(p, `"`) {
		return flaw{"Unusable character in a path", "contains a double quote, which mount(8) takes as the start of a " +
			"quoted text; a symlink with another name can lead there"}
	}
	return flaw{}
}

// ordinary tells of nearly every path at one glance that nothing is wrong with
// it. Of the others it says nothing.
func ordinary(p string) bool {
	if len(p) < 2 || len(p) > maxComponent || p[0] != '/' || p[len(p)-1] == '/' {
		return false
	}
	for i := 1; i < len(p); i++ {
		switch c := p[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-':
		case (c == '.' || c == '/') && p[i-1] != '/': // neither "//" nor a name with a dot in front
		default:
			return false
		}
	}
	return true
}

// textProblem says why no line of a unit file can hold s, "" if one can.
func textProblem(s string) string {
	if !utf8.ValidString(s) {
		return "is not valid UTF-8; systemd refuses the whole unit file"
	}
	for _, r := range s {
		switch {
		case r == '\n':
			return "contains a newline, which ends a line of a unit file"
		case r == '\r':
			return "contains a carriage return, which ends a line of a unit file"
		case r == 0:
			return "contains a NUL byte"
		case unicode.IsControl(r):
			return fmt.Sprintf("contains the control character %U", r)
		}
	}
	return ""
}

// lineProblem says why s cannot be the whole of a unit file's value, "" if it can.
func lineProblem(s string) string {
	if p := textProblem(s); p != "" {
		return p
	}
	switch {
	case strings.HasSuffix(s, `\`):
		return "ends with a backslash, which a unit file takes for a continued line"
	case strings.TrimSpace(s) != s:
		return "begins or ends with a blank, which a unit file does not keep"
	case len(s) > maxPath:
		return fmt.Sprintf("has %d bytes; %d are possible", len(s), maxPath)
	}
	return ""
}

// maxUnitName is UNIT_NAME_MAX of systemd without the terminating zero.
const maxUnitName = 255

// unitProblem says why s cannot be the name of a unit that another depends on,
// "" if it can.
func unitProblem(s string) string {
	types := []string{
		".automount", ".device", ".mount", ".path", ".scope", ".service", ".slice", ".socket", ".swap", ".target", ".timer",
	}
	suffix := path.Ext(s)
	stem := strings.TrimSuffix(s, suffix)
	valid := func(r rune) bool {
		return r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune(`:-_.\@`, r))
	}
	switch {
	case !slices.Contains(types, suffix):
		return "does not end with the type of a unit, such as .service or .target"
	case stem == "" || strings.HasPrefix(stem, "@"):
		return "has nothing before its type"
	case strings.HasSuffix(stem, "@"):
		return "is a template; name an instance of it"
	case strings.ContainsFunc(s, func(r rune) bool { return !valid(r) }):
		return `holds more than letters, digits and :-_.\@`
	case len(s) > maxUnitName:
		return fmt.Sprintf("has %d bytes; %d are possible", len(s), maxUnitName)
	}
	return ""
}

// systemPathProblem says why nothing may be mounted at p, "" if something may.
func systemPathProblem(p string) string {
	// Mounting over one of these takes away what the host needs to run.
	exact := []string{
		"/", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/var", "/var/lib",
	}
	whole := []string{"/bin", "/boot", "/dev", "/etc", "/proc", "/run/systemd", "/sbin", "/sys", "/usr"}
	if slices.Contains(exact, p) {
		return "is a directory of the system; choose one below it"
	}
	top := p
	if i := strings.IndexByte(p[1:], '/'); i >= 0 {
		top = p[:i+1]
	}
	if strings.HasPrefix(top, "/lib") && slices.Contains([]string{"/lib", "/lib32", "/lib64", "/libx32", "/libo32"}, top) {
		return "belongs to the system"
	}
	for _, w := range whole {
		if p == w || isBelow(p, w) {
			return "belongs to the system"
		}
	}
	return ""
}

// isBelow tells whether p lies strictly below dir. Both are clean.
func isBelow(p, dir string) bool {
	if dir == "/" {
		return p != "/"
	}
	return len(p) > len(dir) && p[len(dir)] == '/' && strings.HasPrefix(p, dir)
}

// ancestors yields the directories above p, the nearest first, / included.
func ancestors(p string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for p != "/" {
			p = p[:max(1, strings.LastIndexByte(p, '/'))]
			if !yield(p) {
				return
			}
		}
	}
}

// escapeKey makes one component of a path of an instance's key. It is
// injective: % itself is escaped.
func escapeKey(key string) string {
	var b strings.Builder
	b.Grow(len(key))
	for i := range len(key) {
		c := key[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// validPrefix and validSuffix drop what is left of a character that was cut.
func validPrefix(s string) string {
	for len(s) > 0 && !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s
}

func validSuffix(s string) string {
	for len(s) > 0 && !utf8.ValidString(s) {
		s = s[1:]
	}
	return s
}
