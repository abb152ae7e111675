package config_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/overlayd/overlayd/internal/config"
)

// TestDeepNesting: what would overflow the stack of the parser is refused, and
// what is merely long is not.
func TestDeepNesting(t *testing.T) {
	repeat := strings.Repeat
	cases := []struct {
		name, expr string
		deep       bool
	}{
		{"not", repeat("!", 1<<16) + "true", true},
		{"minus", repeat("-", 1<<16) + "1", true},
		{"parentheses", repeat("(", 1<<16), true},
		{"chain", repeat("1+", 1<<16) + "1", true},
		{"conditions", repeat("true ? 1 : ", 1<<15) + "1", true},
		{"strings", repeat(`"${`, 1<<15), true},
		{"traversal", "a" + repeat(".a", 1<<16), true},
		{"index", "a" + repeat("[0]", 1<<16), true},
		{"splat", "[1]" + repeat("[*]", 1<<16), true},
		{"list", "[" + repeat("-1,", 6000) + "]", false},
		{"lists", "[" + repeat("[1],", 6000) + "]", false},
		{"template", `"` + repeat("${1}-", 6000) + `"`, false},
		{"object", "{\n" + repeat("a = -1\n", 6000) + "}", false},
		{"deep enough", repeat("(", 4000) + "1" + repeat(")", 4000), false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "spec.hcl")
			write(t, file, []byte("locals {\n  x = "+c.expr+"\n}\n"))
			_, diags := config.Load([]string{file}, config.Inputs{})
			if got := len(diags) == 1 && diags[0].Summary == "Too deeply nested"; got != c.deep {
				t.Errorf("refused = %v, want %v: %.300s", got, c.deep, diags.Error())
			}
		})
	}
}

func TestNotUTF8(t *testing.T) {
	file := filepath.Join(t.TempDir(), "spec.hcl")
	write(t, file, []byte("# é\n# é\xff\n"))
	_, diags := config.Load([]string{file}, config.Inputs{})
	if len(diags) != 1 {
		t.Fatal(diags)
	}
	if got := diags[0].Subject.Start; got.Line != 2 || got.Column != 4 || got.Byte != 9 {
		t.Errorf("place %v, want line 2, column 4, byte 9", got)
	}

	write(t, file, []byte("variable \"x\" {}\n"))
	_, diags = config.Load([]string{file}, config.Inputs{Environ: []string{"OVERLAYD_VAR_x=\xff"}})
	if len(diags) != 1 || diags[0].Summary != "Not UTF-8" {
		t.Error(diags)
	}
}

func TestFormat(t *testing.T) {
	cases := []struct{ name, text, want string }{
		{"empty", "", ""},
		{"blanks", " \n\t\n", ""},
		{"alignment", "settings{\nstate_dir=\"/x\"\n}", "settings {\n  state_dir = \"/x\"\n}\n"},
		{
			"nested", "settings {\nagent {\npolicy=\"safe\"\nresync = \"10m\"\n}\n}",
			"settings {\n  agent {\n    policy = \"safe\"\n    resync = \"10m\"\n  }\n}\n",
		},
		{"lists", "locals {\n  x=[ 1,2 ]\n  long = 3\n}\n\n\n", "locals {\n  x    = [1, 2]\n  long = 3\n}\n"},
		{"comments", "#  a \nlocals {} # b", "#  a \nlocals {} # b\n"},
		{"heredoc", "locals {\nx=<<EOT\n  kept  \nEOT\n}\n", "locals {\n  x = <<EOT\n  kept  \nEOT\n}\n"},
	}
	for _, c := range cases {
		got, diags := config.Format([]byte(c.text), "spec.hcl")
		if diags.HasErrors() || string(got) != c.want {
			t.Errorf("%s: got %q, want %q, %v", c.name, got, c.want, diags)
		}
	}
	for _, bad := range []string{"x {", "\xff", strings.Repeat("[", 1<<14)} {
		if got, diags := config.Format([]byte(bad), "spec.hcl"); !diags.HasErrors() || got != nil {
			t.Errorf("%.20q: got %.20q, %v", bad, got, diags)
		}
	}
}
