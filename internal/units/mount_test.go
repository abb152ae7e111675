package units_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/overlayd/overlayd/internal/units"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func simpleMount() units.Mount {
	return units.Mount{
		Description: `overlay.client["client_1"]`,
		RequiresMountsFor: []string{
			"/overlaytest/lowerdir", "/overlaytest/client_1/upperdir", "/overlaytest/client_1/workdir",
		},
		What:  "overlayd",
		Where: "/overlaytest/merged/client_1",
		Options: "lowerdir=/overlaytest/lowerdir,upperdir=/overlaytest/client_1/upperdir," +
			"workdir=/overlaytest/client_1/workdir,redirect_dir=off,index=off,metacopy=off,nofail",
		WantedBy:       []string{"overlayd.target"},
		Address:        `overlay.client["client_1"]`,
		Source:         "/etc/overlayd/quickstart.hcl",
		OnBusy:         "fail",
		MadeMountpoint: true,
		MadeData:       true,
	}
}

// nastyMount has everything that config lets through; Options as package overlayfs escapes them for mount(8).
func nastyMount() units.Mount {
	return units.Mount{
		Description:       `50% of "a\b", # é`,
		RequiresMountsFor: []string{`/l/a b`, `/l/a"b`, `/l/a\b`, `/l/a%nb`, `/l/a'b`, "/l/é", `/l/a\x20b`},
		After:             []string{"network.target", `dev-disk\x2dby\x2dlabel.device`},
		Requires:          []string{`srv-a\x2db.mount`},
		Wants:             []string{"network-online.target"},
		What:              "overlayd",
		Where:             `/m/a b\c%d"e'f,g:h#é`,
		Options: `lowerdir=/l/a\,b:/l/a\:b:/l/a\\b:/l/a\\\,b:/l/a%nb:/l/a b,upperdir=/u/a:b\\,workdir=/w/%%,` +
			`index=off,nosuid,nofail,_netdev`,
		WantedBy:       []string{"multi-user.target", "overlayd.target"},
		Address:        `overlay.client["a\nb %41 % \\"]`,
		Source:         "/srv/100%/ä #;.hcl",
		OnBusy:         "detach",
		PreventDestroy: true,
	}
}

func TestRenderGolden(t *testing.T) {
	t.Parallel()
	for name, text := range map[string][]byte{
		"simple.mount":    simpleMount().Render(),
		"nasty.mount":     nastyMount().Render(),
		"empty.mount":     units.Mount{}.Render(),
		"overlayd.target": units.RenderTarget(),
	} {
		golden := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(golden, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(text)); diff != "" {
			t.Errorf("%s (-golden +rendered; -update rewrites it):\n%s", name, diff)
		}
	}
}

func TestParseGolden(t *testing.T) {
	t.Parallel()
	for _, m := range []units.Mount{simpleMount(), nastyMount()} {
		f, err := units.Parse(m.Render())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, f.Mount); diff != "" {
			t.Errorf("(-rendered +parsed):\n%s", diff)
		}
		if !f.Ours || !f.HashOK || f.Version != units.Version || f.Type != "overlay" {
			t.Errorf("Ours %v, HashOK %v, Version %d, Type %q", f.Ours, f.HashOK, f.Version, f.Type)
		}
	}
}

func TestFileName(t *testing.T) {
	t.Parallel()
	if got, want := simpleMount().FileName(), "overlaytest-merged-client_1.mount"; got != want {
		t.Errorf("FileName() = %q, want %q", got, want)
	}
}

// keyLine is every line that a rendered unit may have.
var keyLine = regexp.MustCompile(`(?s)^(Description|Documentation|PartOf|RequiresMountsFor|After|Requires|Wants|` +
	`StartLimitIntervalSec|What|Type|Where|Options|Environment|TimeoutSec|WantedBy|Version|Address|Source|Hash|OnBusy|` +
	`PreventDestroy|MadeMountpoint|MadeData)=`)

// checkForm fails unless the text has the sections and keys of a unit of ours, each key once, and nothing else.
func checkForm(t *testing.T, text []byte) {
	t.Helper()
	seen := map[string]bool{}
	var sections []string
	lines := strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' || r == '\r' || r == 0 })
	for i, line := range lines {
		switch {
		case i == 0 && line[0] == '#':
		case line[0] == '[':
			sections = append(sections, line)
		case keyLine.MatchString(line):
			key, _, _ := strings.Cut(line, "=")
			if seen[key] {
				t.Errorf("%s= twice in\n%s", key, text)
			}
			seen[key] = true
		default:
			t.Errorf("foreign line %q in\n%s", line, text)
		}
		if run := len(line) - len(strings.TrimRight(line, `\`)); run%2 == 1 {
			t.Errorf("line %q takes in the next one", line)
		}
	}
	if diff := cmp.Diff([]string{"[Unit]", "[Mount]", "[Install]", "[X-Overlayd]"}, sections); diff != "" {
		t.Errorf("sections:\n%s\nin\n%q", diff, text)
	}
	for _, key := range []string{
		"Description", "PartOf", "StartLimitIntervalSec", "What", "Type", "Where", "Options", "Environment", "TimeoutSec",
		"Version", "Address", "Source", "Hash", "OnBusy", "PreventDestroy", "MadeMountpoint", "MadeData",
	} {
		if !seen[key] {
			t.Errorf("no %s= in\n%s", key, text)
		}
	}
}

// FuzzRenderForm puts the same bytes into every field.
func FuzzRenderForm(f *testing.F) {
	for _, seed := range []string{
		"", "/a", "a\n[Service]\nExecStart=/bin/sh", "a\r[Mount]", "a\x00[X-Overlayd]\x00Hash=1", `a\`, `a\\\`, "a\\\n[Unit]",
		"\\\n", "%", "%n", "%%", "\xff", "\xe2\x80", " ", "\t", "\"", "'", "a \\", "]", "[Unit]", "#", ";\n#", "\u2028[Unit]",
		"a\\\r\n[Unit]", "\xef\xbb\xbf[Unit]", "é\\", "a,\\",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list := []string{s, "x", s}
		m := units.Mount{
			Description: s, RequiresMountsFor: list, After: list, Requires: list, Wants: list, What: s, Where: s, Options: s,
			WantedBy: list, Address: s, Source: s, OnBusy: s,
		}
		text := m.Render()
		checkForm(t, text)
		parsed, err := units.Parse(text)
		if parsed.Where != "" && err != nil {
			t.Errorf("Parse(Render): %v\n%q", err, text)
		}
		if !parsed.Ours || !parsed.HashOK || parsed.Address != s || parsed.Source != s || parsed.OnBusy != s {
			t.Errorf("Ours %v, HashOK %v, Address %q, Source %q, OnBusy %q; want %q everywhere", parsed.Ours, parsed.HashOK,
				parsed.Address, parsed.Source, parsed.OnBusy, s)
		}
		if !units.SameText(text, string(text)) || !units.IsOurs(text) {
			t.Error("not the same as itself, or not ours")
		}
	})
}

// FuzzTwins: what config lets through is read back as it was.
func FuzzTwins(f *testing.F) {
	f.Add("50% of a", `/l/a"b`, `srv-a\x2db.mount`, `/m/a b`, `lowerdir=/a\,b:/c\\,nofail`, "addr", true, false)
	f.Add("", "/", "a", `/m/x\`, `a\\\\\,b`, "a\n%0A%", false, true)
	f.Add("é", "/ ", "%n", "/m/x ", "%%n", "\xff", true, true)
	f.Fuzz(func(t *testing.T, description, path, unit, where, options, note string, made, prevent bool) {
		for _, s := range []*string{&description, &path, &unit, &where, &options} {
			*s = strings.Map(func(r rune) rune {
				if r < 0x20 || r == 0x7f {
					return -1
				}
				return r
			}, strings.ToValidUTF8(*s, "?"))
		}
		carried := func(s string) string { return strings.TrimRight(strings.TrimSpace(s), "\\ ") }
		unit = carried(strings.NewReplacer(" ", "", `"`, "", "'", "").Replace(unit))
		m := units.Mount{
			Description:       carried(description),
			RequiresMountsFor: []string{filepath.Join("/", path), "/fixed"},
			What:              carried(unit),
			Where:             filepath.Join("/", where),
			Options:           carried(options),
			Address:           note,
			Source:            note,
			OnBusy:            "fail",
			PreventDestroy:    prevent,
			MadeMountpoint:    made,
			MadeData:          !made,
		}
		if unit != "" {
			m.After, m.Requires, m.WantedBy = []string{unit}, []string{"a.service", unit}, []string{unit, unit}
		}
		text := m.Render()
		checkForm(t, text)
		parsed, err := units.Parse(text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if diff := cmp.Diff(m, parsed.Mount); diff != "" {
			t.Errorf("(-rendered +parsed):\n%s\n%s", diff, text)
		}
		if !parsed.HashOK {
			t.Error("HashOK is false")
		}
		if again := parsed.Render(); !bytes.Equal(again, text) {
			t.Errorf("rendered again:\n%s", again)
		}
	})
}

func BenchmarkRender(b *testing.B) {
	m := simpleMount()
	for b.Loop() {
		m.Render()
	}
}

func BenchmarkParse(b *testing.B) {
	text := simpleMount().Render()
	for b.Loop() {
		if _, err := units.Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSameText(b *testing.B) {
	m := nastyMount()
	text := m.Render()
	m.MadeData = !m.MadeData
	other := m.Render()
	for b.Loop() {
		if !units.SameText(text, string(other)) {
			b.Fatal("not the same")
		}
	}
}
