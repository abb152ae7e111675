package docs_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
)

// TestSpecs loads every HCL block; the package comment says which kinds there are.
func TestSpecs(t *testing.T) {
	checked := 0
	for _, d := range documents(t) {
		for i, f := range d.fences {
			if f.language() != "hcl" {
				continue
			}
			checked++
			switch at := d.at(f.line); {
			case f.is("hcl"):
				files, lines := d.group(i)
				report(t, d, files, lines)
			case f.is("hcl", "more"), f.is("hcl", "values"):
				if !d.follows(i) {
					t.Errorf("%s: there is no ```hcl block before it that it belongs to", at)
				}
			case f.is("hcl", "warns"):
				d.warns(t, i)
			case f.is("hcl", "invalid"):
				d.invalid(t, i)
			case f.is("hcl", "fragment"):
				report(t, d, joined(t, at, f.text), map[string]int{"fragment.hcl": f.line})
			case f.is("hcl", "fragment", "overlay"):
				report(t, d, joined(t, at, wrapped(t, at, f.text)), map[string]int{"fragment.hcl": f.line - 1})
			case f.is("hcl", "fragment", "settings"):
				text := "settings {\n" + f.text + "}\n"
				report(t, d, joined(t, at, text), map[string]int{"fragment.hcl": f.line - 1})
			case f.is("hcl", "ignore"):
			default:
				t.Errorf("%s: ```%s is not known; the comment of package test/docs lists what there is",
					at, strings.Join(f.info, " "))
			}
		}
	}
	if checked < 5 {
		t.Errorf("only %d HCL blocks found: the documents are not read right", checked)
	}
}

// group is the whole spec at fences[i] with the pieces and values that belong to
// it: the files, and where in the document each begins.
func (d *document) group(i int) (files map[string]string, lines map[string]int) {
	files, lines = map[string]string{}, map[string]int{}
	for j, f := range d.fences[i:] {
		name := fmt.Sprintf("block-%02d.hcl", j)
		switch {
		case f.is("hcl", "values"):
			name = fmt.Sprintf("block-%02d.vars.hcl", j)
		case f.is("hcl", "more"), j == 0:
		case f.is("hcl"), f.is("hcl", "warns"):
			return files, lines
		default:
			continue
		}
		files[name], lines[name] = f.text, f.line
	}
	return files, lines
}

func (d *document) follows(i int) bool {
	for _, f := range d.fences[:i] {
		if f.is("hcl") {
			return true
		}
	}
	return false
}

// report loads files and tells each diagnostic with its line in the document.
func report(t *testing.T, d *document, files map[string]string, lines map[string]int) {
	t.Helper()
	if files == nil {
		return
	}
	_, diags := tryLoad(t, files)
	for _, diag := range diags {
		at, where := d.path, diag.Subject
		if where != nil {
			if first, ok := lines[filepath.Base(where.Filename)]; ok {
				at = d.at(first + where.Start.Line - 1)
			}
		}
		t.Errorf("%s: %s: %s (mend it, or say what it is meant to be in the line ```hcl ...)", at, diag.Summary, diag.Detail)
	}
}

func (d *document) warns(t *testing.T, i int) {
	t.Helper()
	files, _ := d.group(i)
	_, diags := tryLoad(t, files)
	if diags.HasErrors() {
		t.Errorf("%s: it has errors: %v", d.at(d.fences[i].line), diags)
	}
	if !hasWarning(diags) {
		t.Errorf("%s: it gives no warning; take \"warns\" out", d.at(d.fences[i].line))
	}
	if shown, ok := d.shownBelow(i); ok {
		d.compare(t, shown, validate(t, d.fences[i].text))
	}
}

func hasWarning(diags hcl.Diagnostics) bool {
	for _, d := range diags {
		if d.Severity == hcl.DiagWarning {
			return true
		}
	}
	return false
}

func (d *document) invalid(t *testing.T, i int) {
	t.Helper()
	at := d.at(d.fences[i].line)
	if _, diags := tryLoad(t, map[string]string{"site.hcl": d.fences[i].text}); !diags.HasErrors() {
		t.Errorf("%s: it is valid; take \"invalid\" out", at)
		return
	}
	shown, ok := d.shownBelow(i)
	if !ok {
		t.Errorf("%s: put what `overlayd validate site.hcl` prints into a ```text block right below it", at)
		return
	}
	d.compare(t, shown, validate(t, d.fences[i].text))
}

// shownBelow is the text block that comes next, with nothing between.
func (d *document) shownBelow(i int) (fence, bool) {
	if i+1 == len(d.fences) || !d.fences[i+1].is("text") {
		return fence{}, false
	}
	between := strings.Join(d.prose[d.fences[i].end:d.fences[i+1].line-2], "")
	return d.fences[i+1], strings.TrimSpace(between) == ""
}

// compare holds a text against what the program printed. Where lines are broken
// depends on the terminal.
func (d *document) compare(t *testing.T, shown fence, printed string) {
	t.Helper()
	words := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	if !strings.Contains(words(printed), words(shown.text)) || words(shown.text) == "" {
		t.Errorf("%s: this is not what the program prints; paste it:\n%s", d.at(shown.line), printed)
	}
}

// validate is what `overlayd validate site.hcl` prints on stderr.
func validate(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "site.hcl"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program(t), "validate", "site.hcl")
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	var failed *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	return stderr.String()
}
