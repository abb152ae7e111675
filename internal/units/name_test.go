package units_test

import (
	"bytes"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/overlayd/overlayd/internal/units"
)

// Made with systemd-escape -p --suffix=mount of systemd 252.
var nameTable = []struct{ path, name string }{
	{"/", "-.mount"},
	{"/a", "a.mount"},
	{"/srv/client_1", "srv-client_1.mount"},
	{"/a-b/c", `a\x2db-c.mount`},
	{"/.hidden", `\x2ehidden.mount`},
	{"/a/.b", "a-.b.mount"},
	{"/a b", `a\x20b.mount`},
	{"/a\tb", `a\x09b.mount`},
	{`/a\b`, `a\x5cb.mount`},
	{"/a:b", "a:b.mount"},
	{"/a@b", `a\x40b.mount`},
	{"/a,b", `a\x2cb.mount`},
	{"/a%b", `a\x25b.mount`},
	{`/a"b`, `a\x22b.mount`},
	{"/a'b", `a\x27b.mount`},
	{"/é", `\xc3\xa9.mount`},
	{"/日本/x", `\xe6\x97\xa5\xe6\x9c\xac-x.mount`},
	{"/a\x01b", `a\x01b.mount`},
	{"/\x7f", `\x7f.mount`},
	{"/a#b;c", `a\x23b\x3bc.mount`},
	{"/-", `\x2d.mount`},
	{"/--", `\x2d\x2d.mount`},
	{"/a/-/b", `a-\x2d-b.mount`},
	{`/\x2d`, `\x5cx2d.mount`},
	{"/...", `\x2e...mount`},
	{"/..a", `\x2e.a.mount`},
	{"/x\nb", `x\x0ab.mount`},
	{"/a+b=c~d", `a\x2bb\x3dc\x7ed.mount`},
}

func TestNameAndPathOf(t *testing.T) {
	t.Parallel()
	for _, c := range nameTable {
		if got := units.Name(c.path); got != c.name {
			t.Errorf("Name(%q) = %q, want %q", c.path, got, c.name)
		}
		if got, err := units.PathOf(c.name); err != nil || got != c.path {
			t.Errorf("PathOf(%q) = %q, %v; want %q", c.name, got, err, c.path)
		}
	}
}

func TestNameOfUncleanPath(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"//a///b//": "a-b.mount",
		"/a/./b":    "a-b.mount",
		"/./a":      "a.mount",
		"/a/.":      "a.mount",
		"/.":        "-.mount",
		"":          "",
		"a/b":       "",
		"/a/../b":   "",
		"/..":       "",
		"/a\x00b":   "",
	} {
		if got := units.Name(path); got != want {
			t.Errorf("Name(%q) = %q, want %q", path, got, want)
		}
	}
}

func TestNameIsNotCut(t *testing.T) {
	t.Parallel()
	if got := len(units.Name("/" + strings.Repeat("é", 40))); got != 40*8+len(".mount") || got <= units.MaxName {
		t.Errorf("length %d", got)
	}
}

func TestPathOfRefuses(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"", "a", "a.service", ".mount", "-a.mount", "a-.mount", "a--b.mount", `a\x2.mount`, `a\xzz.mount`, `a\.mount`,
		`\x61.mount`, `a\x2D.mount`, "a b.mount", "a@b.mount", ".a.mount", "a/b.mount", `a-\x2e-b.mount`, "a\x00.mount",
	} {
		if path, err := units.PathOf(name); err == nil {
			t.Errorf("PathOf(%q) = %q, want an error", name, path)
		}
	}
}

func FuzzNameAndPathOf(f *testing.F) {
	for _, c := range nameTable {
		f.Add(c.path)
		f.Add(c.name)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if path, err := units.PathOf(s); err == nil && units.Name(path) != s {
			t.Errorf("Name(PathOf(%q)) = %q", s, units.Name(path))
		}
		name := units.Name(s)
		if name == "" {
			return
		}
		path, err := units.PathOf(name)
		if err != nil || units.Name(path) != name {
			t.Errorf("PathOf(Name(%q)) = %q, %v", s, path, err)
		}
	})
}

func TestNameAgainstSystemdEscape(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("systemd-escape")
	if err != nil {
		t.Skip("systemd-escape is not installed")
	}
	random := rand.New(rand.NewPCG(1, 2))
	alphabet := []string{"/", "//", "/./", ".", "-", "_", "\\", ":", "@", "é", "x", "\x01", "\xff", " ", "\t", "\n", "%"}
	var paths []string
	for range 2000 {
		var b strings.Builder
		b.WriteByte('/')
		for range random.IntN(12) {
			if random.IntN(4) == 0 {
				b.WriteByte(byte(1 + random.IntN(255)))
			} else {
				b.WriteString(alphabet[random.IntN(len(alphabet))])
			}
		}
		// The tool fails as a whole for one path that has no name.
		if units.Name(b.String()) != "" {
			paths = append(paths, b.String())
		}
	}
	out, err := exec.Command(tool, append([]string{"-p", "--suffix=mount", "--"}, paths...)...).Output()
	if err != nil {
		t.Fatalf("systemd-escape: %v", err)
	}
	names := bytes.Fields(out)
	if len(names) != len(paths) {
		t.Fatalf("%d names for %d paths", len(names), len(paths))
	}
	for i, path := range paths {
		if got := units.Name(path); got != string(names[i]) {
			t.Errorf("Name(%q) = %q, systemd-escape says %q", path, got, names[i])
		}
	}
}
