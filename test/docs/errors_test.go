package docs_test

import (
	"go/ast"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const troublePage = "docs/troubleshooting.md"

// summary is what a diagnostic of the program has as its first line. One that
// ends in a NUL byte goes on with something that is not written out.
type summary struct {
	at      string
	text    string
	warning bool
}

func (s summary) matches(documented string) bool {
	if start, open := strings.CutSuffix(s.text, "\x00"); open {
		return strings.HasPrefix(documented, start)
	}
	return s.text == documented
}

// speakers are the packages that make diagnostics.
var speakers = []string{"internal/config", "internal/reconcile", "cmd/overlayd"}

// summaries finds every summary of a diagnostic: those in hcl.Diagnostic values
// and those handed to functions with a parameter of that name.
func summaries(t *testing.T) []summary {
	t.Helper()
	var out []summary
	for _, pkg := range speakers {
		files := goFiles(t, pkg)
		takes := summaryParameters(files)
		for _, f := range files {
			add := func(e ast.Expr, warning bool) {
				if passedOn(e) {
					return
				}
				s, ok := text(e)
				if !ok {
					t.Errorf("%s: cannot see which summary this is; write it out as a string", f.at(e))
					return
				}
				out = append(out, summary{f.at(e), s, warning})
			}
			ast.Inspect(f.ast, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CompositeLit:
					if e := field(n, "Summary"); e != nil && isDiagnostic(n) {
						sev, _ := field(n, "Severity").(*ast.SelectorExpr)
						add(e, sev != nil && sev.Sel.Name == "DiagWarning")
					}
					if name, ok := n.Type.(*ast.Ident); ok && name.Name == "flaw" && len(n.Elts) > 0 {
						add(n.Elts[0], false)
					}
				case *ast.AssignStmt:
					if to, ok := n.Lhs[0].(*ast.SelectorExpr); ok && to.Sel.Name == "Summary" {
						add(n.Rhs[0], false)
					}
				case *ast.CallExpr:
					if i, ok := takes[called(n)]; ok && i < len(n.Args) {
						add(n.Args[i], called(n) == "warning")
					}
				}
				return true
			})
		}
	}
	if len(out) < 50 {
		t.Fatalf("only %d summaries found: the source is not read right", len(out))
	}
	return out
}

// passedOn tells whether the summary is one that is found elsewhere: a
// parameter, or the kind of a flaw.
func passedOn(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == "summary"
	case *ast.SelectorExpr:
		return e.Sel.Name == "kind" || e.Sel.Name == "Summary"
	}
	return false
}

// summaryParameters says of the functions of a package which argument is a
// summary.
func summaryParameters(files []goFile) map[string]int {
	out := map[string]int{}
	for _, f := range files {
		for _, decl := range f.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			i := 0
			for _, p := range fn.Type.Params.List {
				for _, name := range p.Names {
					if typ, ok := p.Type.(*ast.Ident); ok && typ.Name == "string" && name.Name == "summary" {
						out[fn.Name.Name] = i
					}
					i++
				}
			}
		}
	}
	return out
}

func isDiagnostic(lit *ast.CompositeLit) bool {
	typ, ok := lit.Type.(*ast.SelectorExpr)
	return ok && typ.Sel.Name == "Diagnostic"
}

func called(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

func field(lit *ast.CompositeLit, name string) ast.Expr {
	for _, e := range lit.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if key, ok := kv.Key.(*ast.Ident); ok && key.Name == name {
				return kv.Value
			}
		}
	}
	return nil
}

var (
	errorItem = regexp.MustCompile(`^((?:\*\*[^*]+\*\*(?:, )?)+)( \(warning\))?: .`)
	bold      = regexp.MustCompile(`\*\*([^*]+)\*\*`)
)

// documented is a summary that the page explains.
type documented struct {
	line    int
	text    string
	warning bool
	foreign bool // of the HCL library
}

func errorsOf(t *testing.T, d *document) []documented {
	t.Helper()
	from, to := d.section(t, 2, "Errors")
	foreignFrom, foreignTo := d.section(t, 3, "From HCL itself")
	var out []documented
	for _, item := range d.items(from, to) {
		m := errorItem.FindStringSubmatch(item.text)
		if m == nil {
			t.Errorf("%s: write it as - **Summary**, **Summary** (warning): cause and remedy", d.at(item.line))
			continue
		}
		for _, name := range bold.FindAllStringSubmatch(m[1], -1) {
			out = append(out, documented{
				line: item.line, text: name[1], warning: m[2] != "",
				foreign: item.line > foreignFrom && item.line < foreignTo,
			})
		}
	}
	return out
}

// TestErrorsOfTheLanguage: each summary that a diagnostic can have is explained,
// and no other.
func TestErrorsOfTheLanguage(t *testing.T) {
	d := document1(t, languagePage)
	items := errorsOf(t, d)
	real := summaries(t)
	for _, s := range real {
		explained := slices.ContainsFunc(items, func(i documented) bool { return !i.foreign && s.matches(i.text) })
		if !explained {
			t.Errorf("%s: %q is not explained; add an item - **%s**: ... to Errors in %s",
				s.at, s.text, strings.Replace(s.text, "\x00", "NAME", 1), d.path)
		}
	}
	library := hclSource(t)
	for _, i := range items {
		if i.foreign {
			if !strings.Contains(library, `"`+i.text+`"`) {
				t.Errorf("%s: the HCL library does not say %q", d.at(i.line), i.text)
			}
			continue
		}
		found, asWarning, asError := false, false, false
		for _, s := range real {
			if s.matches(i.text) {
				found = true
				asWarning, asError = asWarning || s.warning, asError || !s.warning
			}
		}
		switch {
		case !found:
			t.Errorf("%s: no diagnostic says %q; take it out", d.at(i.line), i.text)
		case i.warning && !asWarning, !i.warning && !asError:
			t.Errorf("%s: whether %q is a warning is told wrong", d.at(i.line), i.text)
		}
	}
}

// hclSource is the source of the HCL library, in one text.
func hclSource(t *testing.T) string {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/hashicorp/hcl/v2").Output()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, folder := range []string{".", "hclsyntax", "ext/typeexpr"} {
		files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), folder, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			b.Write(text)
		}
	}
	return b.String()
}

var (
	message = regexp.MustCompile("^`([^`]+)`(?: \\(([^)]+)\\))?")
	varying = regexp.MustCompile(`…|\b[A-Z][A-Z0-9_-]+\b`)
	verb    = regexp.MustCompile(`%[-+# 0]*[0-9.*]*[a-zA-Z%]|\x00`)
)

// TestMessagesOfTheHost: what troubleshooting.md has as a message of overlayd is
// one.
func TestMessagesOfTheHost(t *testing.T) {
	d := document1(t, troublePage)
	pieces := messagePieces(t)
	summaries := errorsOf(t, document1(t, languagePage))
	checked := 0
	for _, h := range d.headings {
		m := message.FindStringSubmatch(h.text)
		if m == nil {
			continue
		}
		if slices.ContainsFunc(summaries, func(s documented) bool { return s.text == m[1] }) {
			t.Errorf("%s: %s explains %q already; link to it", d.at(h.line), languagePage, m[1])
		}
		if m[2] != "" {
			continue // somebody else's
		}
		checked++
		said := false
		for _, piece := range varying.Split(m[1], -1) {
			piece = strings.Trim(piece, " :;,.()\"'")
			if piece == "" {
				continue
			}
			said = said || strings.Contains(piece, " ")
			if !slices.ContainsFunc(pieces, func(s string) bool { return strings.Contains(s, piece) }) {
				t.Errorf("%s: the program says %q nowhere; write what varies in CAPITALS or as …, and (systemd) or the like "+
					"behind a message of somebody else", d.at(h.line), piece)
			}
		}
		if !said {
			t.Errorf("%s: too little of the message is there to find it by", d.at(h.line))
		}
	}
	if checked < 5 {
		t.Errorf("%s: only %d messages found; each is a heading: ### `message`", d.path, checked)
	}
}

// messagePieces are the texts of the program between what it fills in.
func messagePieces(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, f := range append(goFiles(t, "internal"), goFiles(t, "cmd")...) {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			e, ok := n.(ast.Expr)
			if !ok {
				return true
			}
			s, ok := text(e)
			if ok {
				out = append(out, verb.Split(s, -1)...)
			}
			return !ok
		})
	}
	return out
}

var (
	exitInProse = regexp.MustCompile(`(?i)\bexit(?:s|ed)?(?:\s+with)?(?:\s+(?:status|code))?\s+([0-9]+)\b`)
	exitRow     = regexp.MustCompile(`^\| *([0-9]+) *\|`)
)

// TestExitCodes: the program has every exit code that a document names.
func TestExitCodes(t *testing.T) {
	var codes []string
	for _, f := range goFiles(t, "cmd/overlayd") {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			for i, name := range spec.Names {
				if strings.HasPrefix(name.Name, "exit") && i < len(spec.Values) {
					if lit, ok := spec.Values[i].(*ast.BasicLit); ok {
						codes = append(codes, lit.Value)
					}
				}
			}
			return true
		})
	}
	checked := 0
	check := func(at, code string) {
		checked++
		if !slices.Contains(codes, code) {
			t.Errorf("%s: overlayd has no exit code %s, only %s; of other programs say that they return it",
				at, code, strings.Join(codes, ", "))
		}
	}
	for _, d := range documents(t) {
		prose := strings.Join(d.prose, "\n")
		for _, at := range exitInProse.FindAllStringSubmatchIndex(prose, -1) {
			check(d.at(lineAt(prose, at[0])), prose[at[2]:at[3]])
		}
		inTable := false
		for i, line := range d.prose {
			if strings.HasPrefix(strings.ToLower(line), "| exit") {
				inTable = true
			}
			inTable = inTable && strings.HasPrefix(line, "|")
			if m := exitRow.FindStringSubmatch(line); inTable && m != nil {
				check(d.at(i+1), m[1])
			}
		}
	}
	if checked < 3 {
		t.Errorf("only %d exit codes found: the documents are not read right", checked)
	}
}
