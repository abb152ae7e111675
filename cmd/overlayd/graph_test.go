package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/overlayd/overlayd/internal/config"
)

// graphOf is what overlayd graph prints.
func graphOf(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(t.Context(), append([]string{"graph"}, args...), streams{out: &out, err: &errs}); code != exitOK {
		t.Fatalf("overlayd graph %v: exit code %d\n%s", args, code, &errs)
	}
	return out.String()
}

// draw has Graphviz read a graph, and gives the texts in its nodes as the picture shows them.
func draw(t *testing.T, dot string) []string {
	t.Helper()
	if _, err := exec.LookPath("dot"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("Graphviz is missing, and CI=true says that this test must run: test/setup.sh installs it")
		}
		t.Skip("Graphviz is missing: test/setup.sh installs it")
	}
	cmd := exec.Command("dot", "-Tsvg")
	cmd.Stdin = strings.NewReader(dot)
	var svg, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &svg, &errs
	if err := cmd.Run(); err != nil || errs.Len() > 0 {
		t.Fatalf("dot refuses this: %v\n%s\n%s", err, &errs, dot)
	}
	return nodeTexts(t, &svg)
}

// nodeTexts gives the texts in the nodes of an SVG picture, sorted.
func nodeTexts(t *testing.T, svg io.Reader) []string {
	t.Helper()
	var out []string
	inNode, inText := false, false
	for d := xml.NewDecoder(svg); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			slices.Sort(out)
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if token.Name.Local == "g" {
				inNode = slices.ContainsFunc(token.Attr, func(a xml.Attr) bool { return a.Value == "node" })
			}
			inText = token.Name.Local == "text"
		case xml.EndElement:
			inText = false
		case xml.CharData:
			if inNode && inText {
				out = append(out, strings.ReplaceAll(string(token), "\u00a0", " ")) // so that it shows several blanks
			}
		}
	}
}

// wantTexts is what a picture of a spec has to show: every overlay and every directory once, and a number for each of
// several layers.
func wantTexts(spec *config.Spec) []string {
	var out []string
	done := map[string]bool{}
	for _, l := range spec.Lowerdirs {
		out = append(out, "lowerdir."+l.Name, l.Path)
		done[l.Path] = true
	}
	for _, o := range spec.Overlays {
		out = append(out, o.Address.String(), o.Mountpoint)
		if o.ReadOnly {
			out = append(out, "read-only")
		}
		for i, l := range o.Lowerdirs {
			if len(o.Lowerdirs) > 1 {
				out = append(out, strconv.Itoa(i+1))
			}
			if l.Overlay == nil && !done[l.Path] {
				out = append(out, l.Path)
				done[l.Path] = true
			}
		}
	}
	slices.Sort(out)
	return out
}

func TestGraphOfExamples(t *testing.T) {
	files, err := filepath.Glob("../../examples/*.hcl")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, ".vars.hcl") {
			continue
		}
		name := strings.TrimSuffix(filepath.Base(file), ".hcl")
		t.Run(name, func(t *testing.T) {
			dot := graphOf(t, file)
			golden(t, "graph_"+name, func(w io.Writer) { _, _ = io.WriteString(w, dot) })
			spec, diags := config.Load([]string{file}, config.Inputs{HostName: "somehost"})
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			if diff := cmp.Diff(wantTexts(spec), draw(t, dot)); diff != "" {
				t.Errorf("the picture shows: want -, got +\n%s", diff)
			}
		})
	}
}

// Names that mean something to Graphviz.
const oddSpec = `
lowerdir "unused" {
  path = "/srv/un used"
}

overlay "odd" {
  for_each   = toset(["a|b{c}<d>", "x  y\"z\\w", "&amp;", "Zo\u00eb", "\\N\\lx"])
  lowerdirs  = ["/srv/a  b{|}\\c", "/srv/&lt;<b>", "/srv/it's"]
  mountpoint = "/srv/m/${each.key}"
}

overlay "inside" {
  lowerdirs  = ["${overlay.odd["&amp;"].mountpoint}/usr/share", "/srv/\\\\x"]
  mountpoint = "/srv/inside"
  read_only  = true
}

overlay "itself" {
  lowerdirs  = ["/srv/itself"]
  mountpoint = "/srv/itself"
}
`

func TestGraphQuoting(t *testing.T) {
	file := filepath.Join(t.TempDir(), "odd.hcl")
	if err := os.WriteFile(file, []byte(oddSpec), 0o644); err != nil {
		t.Fatal(err)
	}
	dot := graphOf(t, file)
	golden(t, "graph_odd", func(w io.Writer) { _, _ = io.WriteString(w, dot) })
	spec, diags := config.Load([]string{file}, config.Inputs{})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if diff := cmp.Diff(wantTexts(spec), draw(t, dot)); diff != "" {
		t.Errorf("the picture shows: want -, got +\n%s", diff)
	}
}

// The picture in the README is of the examples as they are.
func TestPictureIsUpToDate(t *testing.T) {
	dot, err := os.ReadFile("../../docs/examples.dot")
	if err != nil {
		t.Fatal(err)
	}
	got := graphOf(t, "--var", "slots=3", "../../examples")
	if diff := cmp.Diff(string(dot), got); diff != "" {
		t.Errorf("docs/examples.dot is otherwise (make picture writes it): want -, got +\n%s", diff)
	}
	svg, err := os.Open("../../docs/examples.svg")
	if err != nil {
		t.Fatal(err)
	}
	defer svg.Close()
	spec, diags := config.Load([]string{"../../examples"}, config.Inputs{
		HostName: "somehost", Values: []config.ValueArg{{Arg: "slots=3"}},
	})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if diff := cmp.Diff(wantTexts(spec), nodeTexts(t, svg)); diff != "" {
		t.Errorf("docs/examples.svg shows something else (make picture draws it): want -, got +\n%s", diff)
	}
}
