package config_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/overlayd/overlayd/internal/config"
)

func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../examples/*.hcl")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			canonical, diags := config.Format(text, file)
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			if !bytes.Equal(text, canonical) {
				t.Errorf("not in canonical format, which is:\n%s", canonical)
			}
			if strings.HasSuffix(name, ".vars.hcl") {
				return // used below
			}
			spec, diags := config.Load([]string{file}, config.Inputs{HostName: "example"})
			if len(diags) > 0 {
				t.Errorf("diagnostics: %v", diags)
			}
			if len(spec.Overlays) == 0 {
				t.Error("no overlays")
			}
		})
	}
}

func TestExampleWithValues(t *testing.T) {
	spec, diags := config.Load([]string{"../../examples/classroom.hcl"}, config.Inputs{
		Values: []config.ValueArg{{File: true, Arg: "../../examples/lab.vars.hcl"}},
	})
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	var got []string
	for _, o := range spec.Overlays {
		got = append(got, o.Address.String()+" "+o.Group+" "+o.Lowerdirs[0].Path)
	}
	want := `overlay.student["ada"] students /srv/courses/2026-autumn/databases
overlay.student["grace"] tutors /srv/courses/2026-autumn/compilers`
	if s := strings.Join(got, "\n"); s != want {
		t.Errorf("got:\n%s\nwant:\n%s", s, want)
	}
}
