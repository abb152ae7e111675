package doctor

import (
	"fmt"
	"strconv"
	"strings"
)

// version is the part of a version that matters here.
type version struct{ major, minor int }

func (v version) String() string { return fmt.Sprintf("%d.%d", v.major, v.minor) }

func (v version) before(w version) bool {
	return v.major < w.major || v.major == w.major && v.minor < w.minor
}

// parseVersion reads what a version begins with: "6.1.0-18-amd64", "2.38.1", "2.40-rc1".
func parseVersion(text string) (version, bool) {
	major, rest, ok := strings.Cut(text, ".")
	if !ok {
		return version{}, false
	}
	end := 0
	for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	a, errA := strconv.Atoi(major)
	b, errB := strconv.Atoi(rest[:end])
	return version{a, b}, errA == nil && errB == nil && a >= 0
}

// parseMountVersion reads what mount --version says: "mount from util-linux 2.38.1 (libmount 2.38.1: selinux, …)".
// Another program than that of util-linux says something else, or refuses the option.
func parseMountVersion(output string) Mount {
	text, _, _ := strings.Cut(strings.TrimSpace(output), "\n")
	m := Mount{Found: true, Text: text}
	_, after, ok := strings.Cut(text, " from util-linux ")
	if !ok {
		return m
	}
	v, _, _ := strings.Cut(after, " ")
	if _, ok := parseVersion(v); ok {
		m.UtilLinux, m.Version = true, v
	}
	return m
}

// parseSystemdVersion reads the first line of systemctl --version: "systemd 252 (252.39-1~deb12u1)"; 0 if there is
// no version in it. A version of git reads "systemd 258~rc1 (…)".
func parseSystemdVersion(output string) int {
	fields := strings.Fields(output)
	if len(fields) < 2 || fields[0] != "systemd" {
		return 0
	}
	digits, _, _ := strings.Cut(fields[1], "~")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 {
		return 0
	}
	return n
}
