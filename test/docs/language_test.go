package docs_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/zclconf/go-cty/cty/function"

	"github.com/overlayd/overlayd/internal/agent"
	"github.com/overlayd/overlayd/internal/config"
	"github.com/overlayd/overlayd/internal/overlayfs"
)

const languagePage = "docs/language.md"

// attribute is an item "- **name** (type, default value): what it is".
type attribute struct {
	line       int
	name       string
	kind       string
	required   bool
	fallback   string // in backticks or in words
	hasDefault bool
}

var (
	attributeItem = regexp.MustCompile(`^\*\*([a-z_]+)\*\* \(([^)]*(?:\([^)]*\)[^)]*)*)\): .`)
	refusedItem   = regexp.MustCompile("^(`[a-z_]+`(?:, `[a-z_]+`)*): .")
	defaultPart   = regexp.MustCompile("^(.*), default (.*)$")
)

// blockPage is what the page says about one kind of block.
type blockPage struct {
	line    int
	attrs   []attribute
	refused map[string]int // name → line
}

func blocksOf(t *testing.T, d *document) map[string]blockPage {
	t.Helper()
	from, to := d.section(t, 2, "Blocks")
	out := map[string]blockPage{}
	for _, h := range d.subsections(3, from, to) {
		page := blockPage{line: h.line, refused: map[string]int{}}
		first, last := d.section(t, 3, h.text)
		for _, item := range d.items(first, last) {
			if m := refusedItem.FindStringSubmatch(item.text); m != nil {
				for name := range strings.SplitSeq(m[1], ", ") {
					page.refused[strings.Trim(name, "`")] = item.line
				}
				continue
			}
			m := attributeItem.FindStringSubmatch(item.text)
			if m == nil {
				t.Errorf("%s: write it as - **name** (type, default `value`): text, or - `name`: text for what is refused",
					d.at(item.line))
				continue
			}
			a := attribute{line: item.line, name: m[1], kind: m[2]}
			if kind, ok := strings.CutSuffix(m[2], ", required"); ok {
				a.kind, a.required = kind, true
			} else if p := defaultPart.FindStringSubmatch(m[2]); p != nil {
				a.kind, a.fallback, a.hasDefault = p[1], p[2], true
			}
			page.attrs = append(page.attrs, a)
		}
		out[h.text] = page
	}
	return out
}

// TestLanguageBlocks: the page has each block and attribute that the parser
// knows, and none besides.
func TestLanguageBlocks(t *testing.T) {
	d := document1(t, languagePage)
	pages := blocksOf(t, d)
	for _, block := range config.Language() {
		if block.Path == "" {
			continue
		}
		page, ok := pages[block.Path]
		if !ok {
			t.Errorf("%s: the block %s is missing; describe it below Blocks under a heading ### %s",
				d.path, block.Path, block.Path)
			continue
		}
		delete(pages, block.Path)
		documented := map[string]bool{}
		for _, a := range page.attrs {
			if documented[a.name] {
				t.Errorf("%s: %s is described twice", d.at(a.line), a.name)
			}
			documented[a.name] = true
			switch {
			case !slices.Contains(block.Attributes, a.name):
				t.Errorf("%s: the block %s has no attribute %s; take it out", d.at(a.line), block.Path, a.name)
			case a.required != slices.Contains(block.Required, a.name):
				t.Errorf("%s: whether %s is required is told wrong", d.at(a.line), a.name)
			case !a.required && !a.hasDefault:
				t.Errorf("%s: say what %s is by default: (type, default ...)", d.at(a.line), a.name)
			}
		}
		for _, name := range block.Attributes {
			if !documented[name] {
				t.Errorf("%s: the attribute %s of %s is missing; add an item - **%s** (...): ...",
					d.at(page.line), name, block.Path, name)
			}
		}
		for _, name := range block.Refused {
			if page.refused[name] == 0 {
				t.Errorf("%s: %s is refused in %s; say so in an item - `%s`: ...", d.at(page.line), name, block.Path, name)
			}
			delete(page.refused, name)
		}
		for name, line := range page.refused {
			t.Errorf("%s: %s has no answer of its own in the block %s; take it out", d.at(line), name, block.Path)
		}
	}
	for name, page := range pages {
		t.Errorf("%s: there is no block %s; take it out", d.at(page.line), name)
	}
}

// TestLanguageDefaults: the defaults in the page are the program's.
func TestLanguageDefaults(t *testing.T) {
	d := document1(t, languagePage)
	spec := load(t, map[string]string{"site.hcl": `overlay "a" {
  lowerdirs  = ["/srv/base"]
  mountpoint = "/srv/a"
}`})
	o := spec.Overlays[0]
	settings := agent.DefaultSettings()
	pinned := overlayfs.Pin(overlayfs.Options{})
	real := map[string]any{
		"settings.state_dir":                spec.StateDir,
		"settings.agent.policy":             string(settings.Policy),
		"settings.agent.resync":             strings.TrimSuffix(settings.Resync.String(), "0s"),
		"settings.agent.metrics_file":       none(settings.MetricsFile == ""),
		"overlay.read_only":                 o.ReadOnly,
		"overlay.allow_unsafe_parent":       o.AllowUnsafeParent,
		"overlay.for_each":                  none(!o.Address.Keyed),
		"overlay.unit.wanted_by":            o.Unit.WantedBy,
		"overlay.unit.after":                emptied(o.Unit.After),
		"overlay.unit.requires":             emptied(o.Unit.Requires),
		"overlay.unit.network":              o.Unit.Network,
		"overlay.lifecycle.prevent_destroy": o.Lifecycle.PreventDestroy,
		"overlay.lifecycle.on_busy":         o.Lifecycle.OnBusy,
	}
	for _, option := range overlayfs.SpecOptions() {
		value, ok := pinned[option.Name]
		if ok && option.Kind == overlayfs.KindBool {
			real["overlay.options."+option.Name] = value == "on"
		} else if ok {
			real["overlay.options."+option.Name] = value
		}
	}
	asked := 0
	for block, page := range blocksOf(t, d) {
		for _, a := range page.attrs {
			want, ok := real[block+"."+a.name]
			if !ok {
				continue
			}
			asked++
			wanted, inWords := want.(words)
			switch {
			case inWords && a.fallback != string(wanted):
				t.Errorf("%s: %s has the default %q here, and is %q", d.at(a.line), a.name, a.fallback, wanted)
			case !inWords && !equal(t, strings.Trim(a.fallback, "`"), want):
				t.Errorf("%s: %s has the default %s here, and is %#v", d.at(a.line), a.name, a.fallback, want)
			}
		}
	}
	if asked != len(real) {
		t.Errorf("%s: of %d defaults only %d are there", d.path, len(real), asked)
	}
}

// words are a default that is no value.
type words string

func none(holds bool) words {
	if holds {
		return "none"
	}
	return "something"
}

func emptied(list []string) []string { return append([]string{}, list...) }

var quoted = regexp.MustCompile("`\"([^`]*)\"`")

// TestLanguageValues: where the page lists values, the program takes these, and
// names the same ones when it gets another.
func TestLanguageValues(t *testing.T) {
	d := document1(t, languagePage)
	listed := 0
	for block, page := range blocksOf(t, d) {
		for _, a := range page.attrs {
			var values []string
			for _, m := range quoted.FindAllStringSubmatch(a.kind, -1) {
				values = append(values, m[1])
			}
			if len(values) == 0 {
				continue
			}
			listed++
			_, diags := tryLoad(t, map[string]string{"site.hcl": within(block, a.name+` = "nonsense"`)})
			if len(diags) != 1 {
				t.Errorf("%s: a wrong %s gives %d errors: %v", d.at(a.line), a.name, len(diags), diags)
				continue
			}
			_, takes, _ := strings.Cut(diags[0].Detail, " takes ")
			takes, _, _ = strings.Cut(takes, ", not ")
			var taken []string
			for _, m := range regexp.MustCompile(`"([^"]*)"`).FindAllStringSubmatch(takes, -1) {
				taken = append(taken, m[1])
			}
			if !slices.Equal(taken, values) {
				t.Errorf("%s: %s takes %q, not %q", d.at(a.line), a.name, taken, values)
			}
		}
	}
	if listed < 5 {
		t.Errorf("only %d attributes list their values: the page is not read right", listed)
	}
}

// within puts a line into a block of the language.
func within(block, line string) string {
	parts := strings.Split(block, ".")
	text := line
	for i := len(parts) - 1; i > 0; i-- {
		text = parts[i] + " {\n" + text + "\n}"
	}
	if parts[0] == "settings" {
		return "settings {\n" + text + "\n}"
	}
	return "overlay \"a\" {\nlowerdirs = [\"/srv/base\"]\nmountpoint = \"/srv/a\"\n" + text + "\n}"
}

var (
	functionItem = regexp.MustCompile(`^\*\*([a-z0-9]+)\*\*\(([^)]*)\): .`)
	example      = regexp.MustCompile("`([^`]+)` is\\s+`([^`]+)`")
)

// TestLanguageFunctions: each function is there, with as many arguments as it
// takes, and its examples are true.
func TestLanguageFunctions(t *testing.T) {
	d := document1(t, languagePage)
	from, to := d.section(t, 2, "Functions")
	real := config.Functions()
	seen := map[string]bool{}
	for _, item := range d.items(from, to) {
		m := functionItem.FindStringSubmatch(item.text)
		if m == nil {
			t.Errorf("%s: write it as - **name**(arguments): text. `EXPRESSION` is `VALUE`.", d.at(item.line))
			continue
		}
		f, ok := real[m[1]]
		if !ok {
			t.Errorf("%s: there is no function %s; take it out", d.at(item.line), m[1])
			continue
		}
		if seen[m[1]] {
			t.Errorf("%s: %s is there twice", d.at(item.line), m[1])
		}
		seen[m[1]] = true
		checkArguments(t, d.at(item.line), m[1], m[2], f)
		examples := example.FindAllStringSubmatch(item.text, -1)
		if len(examples) == 0 {
			t.Errorf("%s: %s has no example `EXPRESSION` is `VALUE`", d.at(item.line), m[1])
		}
		for _, ex := range examples {
			if !strings.Contains(ex[1], m[1]+"(") {
				t.Errorf("%s: the example of %s does not call it", d.at(item.line), m[1])
			}
			checkExample(t, d.at(item.line), ex[1], ex[2])
		}
	}
	for name := range real {
		if !seen[name] {
			t.Errorf("%s: the function %s is missing; add an item - **%s**(...): ... below Functions", d.path, name, name)
		}
	}
}

var optional = regexp.MustCompile(`\[[^\]]*\]`)

func checkArguments(t *testing.T, at, name, documented string, f function.Function) {
	t.Helper()
	fixed, open := 0, optional.MatchString(documented)
	for arg := range strings.SplitSeq(optional.ReplaceAllString(documented, ""), ",") {
		switch arg = strings.TrimSpace(arg); {
		case strings.HasSuffix(arg, "..."):
			open = true
		case arg != "":
			fixed++
		}
	}
	switch {
	case open != (f.VarParam() != nil):
		t.Errorf("%s: whether %s takes any number of arguments is told wrong", at, name)
	case !open && fixed != len(f.Params()):
		t.Errorf("%s: %s takes %d arguments, not %d", at, name, len(f.Params()), fixed)
	}
}

// checkExample lets a spec tell whether an expression has a value.
func checkExample(t *testing.T, at, expression, value string) {
	t.Helper()
	spec, diags := tryLoad(t, map[string]string{"site.hcl": `locals {
  got  = jsonencode(` + expression + `)
  want = jsonencode(` + value + `)
}
overlay "a" {
  lowerdirs  = ["/srv/base"]
  mountpoint = "/srv/a"
  unit {
    description = local.got == local.want ? "equal" : "is ${local.got}"
  }
}`})
	switch {
	case diags.HasErrors():
		t.Errorf("%s: `%s` is `%s`: %v", at, expression, value, diags)
	case spec.Overlays[0].Unit.Description != "equal":
		t.Errorf("%s: `%s` is not `%s`, it %s", at, expression, value, spec.Overlays[0].Unit.Description)
	}
}

// equal tells whether an HCL expression of the page is a value of the program.
func equal(t *testing.T, expression string, want any) bool {
	t.Helper()
	if _, ok := want.(string); ok && !strings.HasPrefix(expression, `"`) {
		return false
	}
	spec, diags := tryLoad(t, map[string]string{
		"site.hcl": within("overlay.unit", "description = jsonencode("+expression+")"),
	})
	return !diags.HasErrors() && spec.Overlays[0].Unit.Description == encode(t, want)
}
