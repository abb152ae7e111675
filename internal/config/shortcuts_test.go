package config_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/overlayd/overlayd/internal/config"
)

// What makes large specs cheap must not show in what is read from them. Each of
// these compares a short cut with the long way.

// awkward are texts that make a difference to what is put together of them: é
// is there in both forms, and an accent of its own.
var awkward = []string{"a", "b", "", " ", "/", "é", "e\u0301", "\u0301", "e", "$", `"`, "1", "\n"}

// FuzzPieces: a text parsed in pieces is the text parsed at once.
func FuzzPieces(f *testing.F) {
	seeds(f, func(text []byte) { f.Add(text, 0) })
	f.Add([]byte("a {\n  x = <<EOT\n}\nb {\nEOT\n}\nc {\n}\n"), 0)
	f.Add([]byte("a {\n}\n/*\na {\n}\n*/\nb {\n}\n"), 0)
	f.Add([]byte("a {\n  b {\n}\n}\nc {\n}\n"), 0)
	f.Add([]byte("a {\n}\n\ufeffb {\n}\n"), 0)
	f.Add([]byte("\ufeffa {\n}\nb {\n}\n"), 0)
	f.Add([]byte("a {\n}\n\u0301\nb {\n}\n"), 0)
	f.Add([]byte("a {\n}\r\nb {\r\n}\nc {\n  x = {\n}\n}\n"), 0)
	f.Add([]byte("x = 1\na {\n}\nx = 2\n"), 0)
	f.Fuzz(func(t *testing.T, text []byte, size int) {
		got, ok := config.ParsePieces(text, "spec.hcl", max(0, size))
		if !ok {
			return // parsed at once, whatever it is
		}
		file, diags := hclsyntax.ParseConfig(text, "spec.hcl", hcl.InitialPos)
		if len(diags) > 0 {
			t.Fatalf("there is something to report: %v", diags)
		}
		want := file.Body.(*hclsyntax.Body)
		if len(want.Attributes) > 0 {
			t.Fatal("there are attributes")
		}
		if len(got)+len(want.Blocks) > 0 && !reflect.DeepEqual(got, want.Blocks) {
			t.Fatal("the blocks differ")
		}
		contexts := file.Nav.(interface{ ContextString(offset int) string })
		for at := -1; at <= len(text); at++ {
			if got, want := config.ContextString(got, at), contexts.ContextString(at); got != want {
				t.Fatalf("byte %d is in %q, want %q", at, got, want)
			}
		}
	})
}

// TestPiecesAreTaken: files of blocks, and how they are usually laid out, do
// not fall back to being parsed at once.
func TestPiecesAreTaken(t *testing.T) {
	text := strings.Repeat("# a comment\n\noverlay \"a\" {\n  options {\n  }\n  x = <<-EOT\n    }\n  EOT\n}\n", 100)
	blocks, ok := config.ParsePieces([]byte(text), "spec.hcl", 50)
	if !ok || len(blocks) != 100 {
		t.Fatalf("%d blocks, %v", len(blocks), ok)
	}
}

// TestTemplates: a template gives what evaluation gives.
func TestTemplates(t *testing.T) {
	expressions := []string{
		`each.key`, `each.value`, `"${each.key}"`, `"${each.value}"`, `"/a/${each.key}"`, `"${each.key}/${each.value}/b"`,
		`"/${each.value.p}/x"`, `"/${each.value["p"]}"`, `"/${each.value[0]}"`, `"${each.key.p}"`, `"${each}"`,
		`"e${each.key}"`, `"${each.key}${local.accent}"`, `"${local.s}/${each.key}/${local.n}"`,
		`"${local.none}${each.key}"`, `"${local.later}${each.key}"`, `"${local.list}${each.key}"`,
		`"${local.gone}${each.key}"`, `"${try(each.value.p, "q")}/${each.key}"`, `"${upper(each.key)}"`,
		`"${[for each in ["k"] : each][0]}${each.key}"`, `"%{ if each.key == "a" }y%{ endif }${each.key}"`,
		`"$${each.key}"`, `"plain"`, `["${each.key}"]`, `each.key == "a"`, "<<-EOT\n  /a/${each.key}\n  EOT\n",
	}
	values := []cty.Value{
		cty.NumberIntVal(3), cty.True, cty.NullVal(cty.String), cty.UnknownVal(cty.String), cty.DynamicVal,
		cty.ListVal([]cty.Value{cty.StringVal("l")}), cty.EmptyObjectVal,
		cty.ObjectVal(map[string]cty.Value{"p": cty.StringVal("v")}),
		cty.ObjectVal(map[string]cty.Value{"p": cty.NumberIntVal(1)}),
		cty.MapVal(map[string]cty.Value{"p": cty.NullVal(cty.String)}),
	}
	for _, s := range awkward {
		values = append(values, cty.StringVal(s))
	}
	ctx := &hcl.EvalContext{Functions: config.Functions(), Variables: map[string]cty.Value{
		"local": cty.ObjectVal(map[string]cty.Value{
			"s": cty.StringVal("s"), "n": cty.NumberIntVal(7), "none": cty.NullVal(cty.String),
			"accent": cty.StringVal("\u0301"), "later": cty.UnknownVal(cty.String), "list": cty.EmptyTupleVal,
		}),
	}}
	taken := 0
	for _, text := range expressions {
		expr, diags := hclsyntax.ParseExpression([]byte(text), "x", hcl.InitialPos)
		if diags.HasErrors() {
			t.Fatal(text, diags)
		}
		for _, key := range awkward {
			for _, value := range values {
				key := cty.StringVal(key)
				got := config.Rendered(expr, ctx, key.AsString(), value)
				if got == cty.NilVal {
					continue
				}
				taken++
				child := ctx.NewChild()
				child.Variables = map[string]cty.Value{"each": cty.ObjectVal(map[string]cty.Value{"key": key, "value": value})}
				want, diags := expr.Value(child)
				if len(diags) > 0 || !got.RawEquals(want) {
					t.Errorf("%s with %#v, %#v: %#v, want %#v, %v", text, key, value, got, want, diags)
				}
			}
		}
	}
	if taken < 1000 {
		t.Errorf("%d templates only", taken)
	}
}

// TestElements: the elements of a list that becomes a set are those of the set.
func TestElements(t *testing.T) {
	toset := config.Functions()["toset"]
	rnd := rand.New(rand.NewPCG(5, 6))
	odd := []cty.Value{cty.NullVal(cty.String), cty.UnknownVal(cty.String), cty.NumberIntVal(1), cty.DynamicVal}
	taken := 0
	for range 2000 {
		list := make([]cty.Value, rnd.IntN(6))
		for i := range list {
			if list[i] = cty.StringVal(awkward[rnd.IntN(len(awkward))]); rnd.IntN(20) == 0 {
				list[i] = odd[rnd.IntN(len(odd))]
			}
		}
		v := cty.TupleVal(list)
		if len(list) > 0 && rnd.IntN(2) == 0 && cty.CanListVal(list) {
			v = cty.ListVal(list)
		}
		got := config.ElementsOf(v)
		if got == nil {
			continue
		}
		taken++
		set, err := toset.Call([]cty.Value{v})
		if err != nil {
			t.Fatalf("%#v: %v", v, err)
		}
		var want []string
		for _, el := range set.AsValueSlice() {
			want = append(want, el.AsString())
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%#v: %q, want %q", v, got, want)
		}
	}
	if taken < 1000 {
		t.Errorf("%d lists only", taken)
	}
}

// TestWaysToASet: however for_each comes to its set, and whether the attributes
// are templates or have to be evaluated for each instance, the overlays are the
// same.
func TestWaysToASet(t *testing.T) {
	const spec = `
variable "given" {
  type    = set(string)
  default = ["not", "these"]
}
variable "list" {
  type = list(string)
}
locals {
  from_list = toset(var.list)
  from_set  = var.given
  again     = local.from_list
}
lowerdir "base" { path = "/srv/base" }
overlay "client" {
  for_each            = FOR_EACH
  lowerdirs           = SAME([lowerdir.base, "/srv/tools"])
  mountpoint          = PATH
  allow_unsafe_parent = SAME(true)
  owner               = SAME("www-data")
  mode                = SAME("0700")
  options {
    nosuid = SAME(true)
    nodev  = SAME(false)
    index  = SAME(true)
  }
  unit {
    description = PATH
    after       = SAME(["a.service"])
    network     = SAME(true)
  }
  lifecycle {
    prevent_destroy = SAME(true)
    on_busy         = SAME("detach")
  }
}
`
	const names = `["b", "a", "é", "b", "a.b"]`
	file := filepath.Join(t.TempDir(), "spec.hcl")
	load := func(forEach, path string, same func(v string) string) []*config.Overlay {
		t.Helper()
		text := strings.NewReplacer("FOR_EACH", forEach, "PATH", path).Replace(spec)
		for {
			before, rest, found := strings.Cut(text, "SAME(")
			if !found {
				break
			}
			line, after, _ := strings.Cut(rest, "\n")
			text = before + same(strings.TrimSuffix(line, ")")) + "\n" + after
		}
		write(t, file, []byte(text))
		loaded, diags := config.Load([]string{file}, config.Inputs{Values: []config.ValueArg{
			{Arg: "given=" + names}, {Arg: "list=" + names},
		}})
		if diags.HasErrors() {
			t.Fatalf("%s: %v\n%s", forEach, diags, text)
		}
		return loaded.Overlays
	}
	plain := func(v string) string { return v }
	long := func(v string) string { return fmt.Sprintf("each.key == null ? null : %s", v) }
	want := load("setunion(toset("+names+"))", `format("/srv/merged/%s", each.key)`, long)
	if len(want) != 4 || len(want[3].Lowerdirs) != 2 {
		t.Fatalf("%d overlays", len(want))
	}
	for _, forEach := range []string{
		"toset(" + names + ")", "toset(var.list)", "var.given", "local.from_list", "local.from_set", "local.again",
		"(var.given)",
	} {
		got := load(forEach, `"/srv/merged/${each.key}"`, plain)
		if diff := cmp.Diff(want, got, cmpopts.IgnoreTypes(hcl.Range{})); diff != "" {
			t.Errorf("%s:\n%s", forEach, diff)
		}
	}
}

// TestOrdinary: what passes for an ordinary path at a glance has no flaw.
func TestOrdinary(t *testing.T) {
	parts := []string{
		"/", "/", "/", "a", "B", "0", ".", "..", "-", "_", " ", `\`, "$", "{", `"`, "é", "\n", "\x00", "\xff",
	}
	parts = append(parts, strings.Repeat("x", 255), strings.Repeat("/y", 126))
	rnd := rand.New(rand.NewPCG(7, 8))
	taken := 0
	for range 100_000 {
		p := ""
		for range rnd.IntN(6) {
			p += parts[rnd.IntN(len(parts))]
		}
		if config.Ordinary(p) {
			taken++
			if config.Flawed(p) {
				t.Fatalf("%q", p)
			}
		}
	}
	if taken < 1000 {
		t.Errorf("%d paths only", taken)
	}
}

func TestValidName(t *testing.T) {
	for _, name := range []string{
		"", "a", "_", "-", "0", "a0", "0a", "a-b", "-a", "_-", "é", "aé", "a\u0301", "\u0301", "a b", "a.b", "A_9-z",
		"a\x00", "a\xff",
	} {
		if got, want := config.ValidName(name), hclsyntax.ValidIdentifier(name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}
