package chart_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/overlayd/overlayd/test/bench/report/chart"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func plain(v float64) string { return strconv.FormatFloat(v, 'g', 3, 64) }

func example() chart.Chart {
	return chart.Chart{
		Title: "How long <it> takes", Desc: "Time & number, on two systems.",
		X: chart.Axis{Name: "number of overlays", Text: plain}, Y: chart.Axis{Name: "seconds", Text: plain},
		Panels: []chart.Panel{
			{Title: "Debian 12", Lines: []chart.Line{
				{Name: "overlayd", Points: []chart.Point{{4000, 4}, {100, 0.1}, {1000, 1}}},
				{Name: "a \"loop\"", Points: []chart.Point{{100, 0.05}, {1000, 0.5}, {2000, 0}, {4000, 2.5}}},
			}},
			{Title: "Debian 13", Lines: []chart.Line{
				{Name: "another", Points: []chart.Point{{1000, 30}}},
				{Name: "overlayd", Points: []chart.Point{{100, 0.2}, {1000, 2}}},
				{Name: "nobody"},
			}},
		},
	}
}

func draw(t *testing.T, c chart.Chart) string {
	t.Helper()
	var b bytes.Buffer
	if err := c.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	got := draw(t, example())
	file := filepath.Join("testdata", "example.svg")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; run the test with -update and look at it:\n%s", file, got)
	}
}

// words are the texts of the elements of one name.
func words(t *testing.T, svg, element string) []string {
	t.Helper()
	var out []string
	inside := false
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if inside = token.Name.Local == element; inside {
				out = append(out, "")
			}
		case xml.EndElement:
			inside = false
		case xml.CharData:
			if inside {
				out[len(out)-1] += string(token)
			}
		}
	}
}

// Everything that is drawn is also said.
func TestWords(t *testing.T) {
	svg := draw(t, example())
	if got := words(t, svg, "desc"); len(got) != 1 || got[0] != "Time & number, on two systems." {
		t.Errorf("described as %q", got)
	}
	titles := strings.Join(words(t, svg, "title"), "\n")
	for _, want := range []string{
		"How long <it> takes", "overlayd, 100: 0.1", "another, 1e+03: 30", `a "loop", 4e+03: 2.5`,
	} {
		if !strings.Contains(titles, want) {
			t.Errorf("nothing is titled %q:\n%s", want, titles)
		}
	}
	if strings.Contains(titles, ": 0\n") {
		t.Errorf("zero is on a logarithmic axis:\n%s", titles)
	}
	texts := strings.Join(words(t, svg, "text"), "\n")
	for _, want := range []string{
		"How long <it> takes", "Debian 12", "Debian 13", "seconds", "number of overlays", "nobody",
	} {
		if !strings.Contains(texts, want) {
			t.Errorf("%q is not written anywhere:\n%s", want, texts)
		}
	}
}

// Whatever it is given, it draws something well-formed within the page.
func TestOdd(t *testing.T) {
	axis := chart.Axis{Text: plain}
	for name, panels := range map[string][]chart.Panel{
		"nothing":    nil,
		"no line":    {{}},
		"one point":  {{Lines: []chart.Line{{Points: []chart.Point{{1, 1}}}}}},
		"no number":  {{Lines: []chart.Line{{Points: []chart.Point{{0, 0}, {-1, 5}}}}}},
		"far apart":  {{Lines: []chart.Line{{Points: []chart.Point{{1, 1e-9}, {1e6, 1e9}}}}}},
		"many lines": {{Lines: make([]chart.Line, 20)}},
	} {
		svg := draw(t, chart.Chart{X: axis, Y: axis, Panels: panels})
		words(t, svg, "text")
		if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
			t.Errorf("%s: drawn at no place:\n%s", name, svg)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestWriteError(t *testing.T) {
	if err := example().Write(full{}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a drawing that could not be written: %v", err)
	}
}
