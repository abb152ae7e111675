package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/overlayd/overlayd/test/schema"
)

// TestBadInput has what a spec alone can get wrong. Each row's spec has its errors at the places in want, in the words
// there; anything else would be an error too many. None of them is applied.
func TestBadInput(t *testing.T) {
	overlay := func(lines ...string) string {
		return "overlay \"c\" {\n" + strings.Join(lines, "\n") + "\n}\n"
	}
	const (
		lower = `lowerdirs = ["/srv/base"]`
		mount = `mountpoint = "/srv/m"`
	)
	for name, c := range map[string]struct {
		spec string
		want []string // line:column, and words of summary and detail
	}{
		"syntax":         {"overlay \"c\" {\nlowerdirs = [\n}\n", []string{"3:1 Invalid expression"}},
		"not HCL at all": {"- name: playbook\n", []string{"1:1 Argument or block definition required"}},
		"unknown block":  {"lowerdri \"b\" {\n}\n", []string{`1:1 Unknown block|Did you mean "lowerdir"?`}},
		"unknown attribute": {
			overlay(lower, mount, `worrkdir = "/w"`),
			[]string{`4:1 Unknown attribute|Did you mean "workdir"?`},
		},
		"unknown option": {
			overlay(lower, mount, "options {\nindx = true\n}"),
			[]string{`5:1 Unknown attribute|Did you mean "index"?`},
		},
		"volatile": {
			overlay(lower, mount, "options {\nvolatile = true\n}"),
			[]string{`5:1 volatile|refuses the next mount`},
		},
		"missing attribute": {overlay(lower), []string{"1:1 mountpoint"}},
		"list, not string": {
			overlay(`lowerdirs = "/srv/base"`, mount),
			[]string{"2:13 lowerdirs|takes a list|Write [...] around it"},
		},
		"string, not bool": {overlay(lower, mount, `allow_unsafe_parent = "yes"`), []string{"4:23 true or false"}},
		"option of no value": {
			overlay(lower, mount, "options {\nredirect_dir = \"maybe\"\n}"),
			[]string{"5:16 redirect_dir|nofollow"},
		},
		"mode": {overlay(lower, mount, `mode = "0999"`), []string{"4:8 mode"}},
		"duplicate names": {
			overlay(lower, mount) + overlay(lower, `mountpoint = "/srv/other"`),
			[]string{"5:1 Duplicate overlay|the first is at spec.hcl:1"},
		},
		"unknown lowerdir": {
			"lowerdir \"base\" { path = \"/b\" }\n" + overlay("lowerdirs = [lowerdir.bsae]", mount),
			[]string{`3:14 Unknown reference|No lowerdir "bsae"|Did you mean "base"?`},
		},
		"unknown variable": {overlay(lower, `mountpoint = "/srv/${var.x}"`), []string{`3:22 No variable "x" is declared`}},
		"cycle of values": {
			"locals {\na = local.b\nb = local.a\n}\n",
			[]string{"2:5 Cycle|local.a (spec.hcl:2) -> local.b (spec.hcl:3) -> local.a"},
		},
		"cycle of layers": {
			overlay("lowerdirs = [overlay.d.mountpoint]", mount) +
				"overlay \"d\" {\nlowerdirs = [overlay.c.mountpoint]\nmountpoint = \"/srv/d\"\n}\n",
			[]string{"2:14 Cycle|layers of each other|overlay.c (spec.hcl:2) -> overlay.d (spec.hcl:6)"},
		},
		"relative path": {overlay(lower, `mountpoint = "srv/m"`), []string{`3:14 Relative path|"srv/m" is relative`}},
		"dots":          {overlay(lower, `mountpoint = "/srv/../etc/x"`), []string{`3:14 Unclean path|contains ..`}},
		"doubled slash": {overlay(lower, `mountpoint = "/srv//m"`), []string{`3:14 Unclean path`}},
		"newline": {
			overlay(lower, `mountpoint = "/srv/a\nOptions=suid"`),
			[]string{`3:14 Unusable character|newline`},
		},
		"carriage return": {overlay(lower, `mountpoint = "/srv/a\rb"`), []string{`3:14 Unusable character`}},
		"NUL":             {overlay(lower, `mountpoint = "/srv/a\u0000b"`), []string{`3:14 Unusable character`}},
		"control":         {overlay(lower, `mountpoint = "/srv/a\u0007b"`), []string{`3:14 Unusable character`}},
		"quote in layer":  {overlay(`lowerdirs = ["/srv/a\"b"]`, mount), []string{`2:14 Unusable character|double quote`}},
		"blank at edge":   {overlay(lower, `mountpoint = "/srv/ m"`), []string{`3:14 Blank at the edge`}},
		"backslash":       {overlay(lower, `mountpoint = "/srv/m\\"`), []string{`3:14 Backslash at the end`}},
		"unit name": {
			overlay(lower, fmt.Sprintf(`mountpoint = "/srv/%s"`, strings.Repeat("é", 70))),
			[]string{"3:14 too long for a unit name|570 bytes|255"},
		},
		"unit name of many": {
			overlay("for_each = toset([\"a\", \"b\", \"c\"])", lower,
				fmt.Sprintf(`mountpoint = "/srv/%s/${each.key}"`, strings.Repeat("é", 70))),
			[]string{"4:14 too long for a unit name|The same goes for 2 more instances."},
		},
		"upper in lower": {
			overlay(lower, mount, `upperdir = "/srv/base/u"`, `workdir = "/srv/w"`),
			[]string{"4:12 inside of a lowerdir"},
		},
		"lower in upper": {
			overlay(`lowerdirs = ["/srv/u/base"]`, mount, `upperdir = "/srv/u"`, `workdir = "/srv/w"`),
			[]string{"2:14 /srv/u/base"},
		},
		"work is upper": {
			overlay(lower, mount, `upperdir = "/srv/u"`, `workdir = "/srv/u"`), []string{"5:11 /srv/u"},
		},
		"work in upper": {
			overlay(lower, mount, `upperdir = "/srv/u"`, `workdir = "/srv/u/w"`), []string{"5:11 Nested directories"},
		},
		"shared upper": {
			overlay(lower, mount, `upperdir = "/srv/u"`, `workdir = "/srv/w"`) +
				"overlay \"d\" {\n" + lower + "\nmountpoint = \"/srv/d\"\nupperdir = \"/srv/u\"\nworkdir = \"/srv/w2\"\n}\n",
			[]string{"10:12 Directory used twice|upperdir of overlay.c"},
		},
		"shared mountpoint": {
			overlay(lower, mount) + "overlay \"d\" {\n" + lower + "\n" + mount + "\n}\n",
			[]string{"7:14 Duplicate mountpoint|overlay.c (spec.hcl:3)"},
		},
		"one mountpoint of many": {
			overlay(`for_each = toset(["a", "b"])`, lower, mount), []string{"4:14 Duplicate mountpoint|each.key"},
		},
		"mountpoint in upper": {
			overlay(lower, mount, `upperdir = "/srv/u"`, `workdir = "/srv/w"`) +
				"overlay \"d\" {\n" + lower + "\nmountpoint = \"/srv/u/m\"\n}\n",
			[]string{"9:14 /srv/u/m"},
		},
		"root":         {overlay(lower, `mountpoint = "/"`), []string{`3:14 directory of the system`}},
		"usr":          {overlay(lower, `mountpoint = "/usr"`), []string{`3:14 belongs to the system`}},
		"etc":          {overlay(lower, `mountpoint = "/etc"`), []string{`3:14 belongs to the system`}},
		"below proc":   {overlay(lower, `mountpoint = "/proc/1"`), []string{`3:14 /proc`}},
		"one lowerdir": {overlay(lower, mount, "read_only = true"), []string{"2:13 at least two lowerdirs|bind mount"}},
		"no lowerdir":  {overlay("lowerdirs = []", mount), []string{"2:13 lowerdirs"}},
		"501 layers": {
			overlay(`lowerdirs = [for i in range(501) : "/${i}"]`, mount), []string{"2:13 at most 500 lowerdirs; these are 501"},
		},
		"long options": {
			overlay(`lowerdirs = [for i in range(90) : "/srv/a-layer-with-a-rather-long-name-of-its-own/${i}"]`, mount),
			[]string{"1:1 Mount options too long|4000"},
		},
		"metacopy without redirect": {
			overlay(lower, mount, "options {\nmetacopy = true\nredirect_dir = \"off\"\n}"),
			[]string{"6:1 exclude each other|metacopy"},
		},
		"a million elements": {
			overlay("for_each = { for p in setproduct(range(1001), range(1000)) : \"${p[0]}-${p[1]}\" => 1 }", lower, mount),
			[]string{"2:34 more than 1000000 elements"},
		},
		"all at once": {
			overlay(`lowerdirs = ["base"]`, `mountpoint = "/etc"`, `worrkdir = "/w"`) + "lowerdri \"b\" {\n}\n",
			[]string{"2:14 Relative path", "3:14 belongs to the system", "4:1 Unknown attribute", "6:1 Unknown block"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			if err := os.WriteFile("spec.hcl", []byte(c.spec), 0o644); err != nil {
				t.Fatal(err)
			}
			checkDiagnostics(t, c.want)
			if err := os.Mkdir("image", 0o755); err != nil {
				t.Fatal(err)
			}
			code, out, _ := cli(t, "apply", "--root", "image", "--auto-approve", "spec.hcl")
			left, err := filepath.Glob("image/*")
			if err != nil {
				t.Fatal(err)
			}
			if code != exitError || out != "" || len(left) > 0 {
				t.Errorf("apply: exit code %d, stdout %q, made %q; want %d and nothing", code, out, left, exitError)
			}
		})
	}
}

// checkDiagnostics validates spec.hcl in the working directory.
func checkDiagnostics(t *testing.T, want []string) {
	t.Helper()
	code, out, stderr := cli(t, "validate", "--json", "spec.hcl")
	type diagnostic struct {
		Severity, Summary, Detail, File string
		Line, Column                    int
	}
	var got struct {
		Valid       bool
		Diagnostics []diagnostic
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if code != exitError || got.Valid {
		t.Errorf("validate: exit code %d, valid %t; want %d, false", code, got.Valid, exitError)
	}
	// Without root there is the warning, too, that the file is not root's.
	got.Diagnostics = slices.DeleteFunc(got.Diagnostics, func(d diagnostic) bool { return d.Severity == "warning" })
	if len(got.Diagnostics) != len(want) {
		t.Fatalf("%d diagnostics, want %d:\n%s%s", len(got.Diagnostics), len(want), out, stderr)
	}
	for i, d := range got.Diagnostics {
		place, words, _ := strings.Cut(want[i], " ")
		if at := fmt.Sprintf("%d:%d", d.Line, d.Column); at != place || d.File != "spec.hcl" {
			t.Errorf("error at %s:%s, want one at %s: %s", d.File, at, place, d.Summary)
		}
		for word := range strings.SplitSeq(words, "|") {
			if !strings.Contains(d.Summary+"\n"+d.Detail, word) {
				t.Errorf("no %q in: %s: %s", word, d.Summary, d.Detail)
			}
		}
	}
}

// cli runs a command line within the test.
func cli(t *testing.T, args ...string) (code int, out, stderr string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, streams{in: strings.NewReader(""), out: &o, err: &e})
	if err := schemas.Check(schema.Run{Args: args, Code: code, Stdout: o.Bytes(), Stderr: e.Bytes()}); err != nil {
		t.Error(err)
	}
	return code, o.String(), e.String()
}
