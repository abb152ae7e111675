package config_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/overlayd/overlayd/internal/config"
)

// seeds hands every spec file of the cases and the examples to add.
func seeds(f *testing.F, add func(text []byte)) {
	f.Helper()
	cases, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range cases {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if file.Name != "want" {
				add(file.Data)
			}
		}
	}
	examples, err := filepath.Glob("../../examples/*.hcl")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range examples {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		add(text)
	}
}

// FuzzLoad: nothing panics, the same input gives the same outcome, and what is
// wrong in a file is said at a place of that file.
func FuzzLoad(f *testing.F) {
	seeds(f, func(text []byte) { f.Add(text, "x=1") })
	f.Add([]byte("variable \"x\" {\n  type = list(string)\n}\n"), "x=[\"a\", 1]")
	f.Fuzz(func(t *testing.T, text []byte, arg string) {
		file := filepath.Join(t.TempDir(), "spec.hcl")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		load := func() string {
			spec, diags := config.Load([]string{file}, config.Inputs{Values: []config.ValueArg{{Arg: arg}}})
			for _, d := range diags {
				if d.Subject == nil {
					t.Errorf("no place: %v", d)
				} else if spec.Sources[d.Subject.Filename] == nil {
					t.Errorf("place without source: %v", d)
				}
			}
			var b bytes.Buffer
			if err := hcl.NewDiagnosticTextWriter(&b, spec.Sources, 80, false).WriteDiagnostics(diags); err != nil {
				t.Error(err)
			}
			if !diags.HasErrors() {
				dump(&b, spec)
			}
			return b.String()
		}
		if diff := cmp.Diff(load(), load()); diff != "" {
			t.Errorf("two loads differ:\n%s", diff)
		}
	})
}

// FuzzFormat: formatting changes blanks only, and nothing the second time.
func FuzzFormat(f *testing.F) {
	seeds(f, func(text []byte) { f.Add(text) })
	f.Fuzz(func(t *testing.T, text []byte) {
		once, diags := config.Format(text, "spec.hcl")
		if diags.HasErrors() {
			return
		}
		if diff := cmp.Diff(words(text), words(once)); diff != "" {
			t.Errorf("the words changed:\n%s", diff)
		}
		twice, diags := config.Format(once, "spec.hcl")
		if diags.HasErrors() {
			t.Fatalf("the result does not parse: %v", diags)
		}
		if diff := cmp.Diff(string(once), string(twice)); diff != "" {
			t.Errorf("formatted twice:\n%s", diff)
		}
	})
}

// words returns the tokens of a text that have a meaning.
func words(text []byte) []string {
	tokens, _ := hclsyntax.LexConfig(text, "spec.hcl", hcl.InitialPos)
	var out []string
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenNewline, hclsyntax.TokenEOF:
		case hclsyntax.TokenComment:
			out = append(out, string(bytes.TrimSpace(t.Bytes)))
		default:
			out = append(out, string(t.Bytes))
		}
	}
	return out
}
