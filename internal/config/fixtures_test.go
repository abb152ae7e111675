package config_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/overlayd/overlayd/internal/config"
)

var update = flag.Bool("update", false, "rewrite what the cases in testdata expect")

// TestCases runs testdata/*.txtar. Each is one spec and, in its last file,
// "want", the diagnostics as a user sees them, followed by the overlays if
// there was no error. Lines of the comment that begin with "load:", "var:",
// "var-file:" or "env:" say how it is loaded; without load: it is the directory.
func TestCases(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		abs, err := filepath.Abs(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(abs)
			if err != nil {
				t.Fatal(err)
			}
			var want *txtar.File
			t.Chdir(t.TempDir())
			for i := range archive.Files {
				f := &archive.Files[i]
				if f.Name == "want" {
					want = f
					continue
				}
				write(t, f.Name, f.Data)
			}
			paths, in := directives(t, string(archive.Comment))
			got := outcome(t, paths, in)
			if *update {
				if want == nil {
					archive.Files = append(archive.Files, txtar.File{Name: "want"})
					want = &archive.Files[len(archive.Files)-1]
				}
				want.Data = []byte(got)
				if err := os.WriteFile(abs, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want == nil {
				t.Fatal("the case expects nothing: run with -update and look at it")
			}
			if diff := cmp.Diff(string(want.Data), got); diff != "" {
				t.Errorf("unexpected outcome (-want +got):\n%s", diff)
			}
		})
	}
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func directives(t *testing.T, comment string) ([]string, config.Inputs) {
	t.Helper()
	in := config.Inputs{HostName: "pihost"}
	var paths []string
	for line := range strings.Lines(comment) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch word {
		case "load":
			paths = append(paths, strings.Fields(rest)...)
		case "var", "var-file":
			in.Values = append(in.Values, config.ValueArg{File: word == "var-file", Arg: rest})
		case "env":
			in.Environ = append(in.Environ, rest)
		}
	}
	if paths == nil {
		paths = []string{"."}
	}
	return paths, in
}

// outcome is everything about a load that a case compares.
func outcome(t *testing.T, paths []string, in config.Inputs) string {
	t.Helper()
	spec, diags := config.Load(paths, in)
	var b bytes.Buffer
	if err := hcl.NewDiagnosticTextWriter(&b, spec.Sources, 80, false).WriteDiagnostics(diags); err != nil {
		t.Fatal(err)
	}
	if !diags.HasErrors() {
		dump(&b, spec)
	}
	return b.String()
}

// dump writes what differs from the defaults.
func dump(b *bytes.Buffer, spec *config.Spec) {
	if spec.StateDir != config.DefaultStateDir {
		fmt.Fprintf(b, "state_dir %s\n", spec.StateDir)
	}
	if a := spec.Agent; a != (config.Agent{}) {
		fmt.Fprintf(b, "agent policy=%q resync=%s metrics_file=%q\n", a.Policy, a.Resync, a.MetricsFile)
	}
	for _, l := range spec.Lowerdirs {
		fmt.Fprintf(b, "lowerdir.%s %q\n", l.Name, l.Path)
	}
	for _, o := range spec.Overlays {
		fmt.Fprintf(b, "%s %s:%d\n", o.Address, filepath.Base(o.Source), o.Range.Start.Line)
		field := func(name string, value any, shown bool) {
			if shown {
				fmt.Fprintf(b, "  %s %v\n", name, value)
			}
		}
		for _, l := range o.Lowerdirs {
			s := fmt.Sprintf("%q", l.Path)
			if l.Ref != "" {
				s += " " + l.Ref
			}
			if l.Overlay != nil {
				s += " on " + l.Overlay.String()
			}
			field("lowerdir", s, true)
		}
		field("upperdir", fmt.Sprintf("%q", o.Upperdir), o.Upperdir != "")
		field("workdir", fmt.Sprintf("%q", o.Workdir), o.Workdir != "")
		field("mountpoint", fmt.Sprintf("%q", o.Mountpoint), true)
		field("data", fmt.Sprintf("%q %v %v", o.DataDir, o.DefaultUpper, o.DefaultWork), o.DefaultUpper || o.DefaultWork)
		field("read_only", "", o.ReadOnly)
		field("allow_unsafe_parent", "", o.AllowUnsafeParent)
		field("owner", o.Owner, o.Owner != "")
		field("group", o.Group, o.Group != "")
		if o.Mode != nil {
			field("mode", fmt.Sprintf("%04o", *o.Mode), true)
		}
		field("options", o.Options, len(o.Options) > 0)
		field("off", o.OffFlags, len(o.OffFlags) > 0)
		field("description", fmt.Sprintf("%q", o.Unit.Description), o.Unit.Description != "")
		field("wanted_by", o.Unit.WantedBy, !slices.Equal(o.Unit.WantedBy, []string{"overlayd.target"}))
		field("after", o.Unit.After, len(o.Unit.After) > 0)
		field("requires", o.Unit.Requires, len(o.Unit.Requires) > 0)
		field("network", "", o.Unit.Network)
		field("prevent_destroy", "", o.Lifecycle.PreventDestroy)
		field("on_busy", o.Lifecycle.OnBusy, o.Lifecycle.OnBusy != config.OnBusyFail)
	}
}

func writeFile(name, text string) error {
	return os.WriteFile(name, []byte(text), 0o644)
}
