package arch_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/overlayd/overlayd"

// may lists what each package may import of this module. A package that is not
// here may import nothing of it, and is not to be imported.
var may = map[string][]string{
	"internal/overlayfs":      nil,
	"internal/units":          nil,
	"internal/safedir":        nil,
	"internal/suggest":        nil,
	"internal/hostlock":       nil,
	"internal/watch":          nil,
	"internal/config":         {"internal/overlayfs", "internal/suggest"},
	"internal/units/systemd":  {"internal/units"},
	"internal/overlayfs/host": {"internal/overlayfs"},
	"internal/reconcile/plan": {"internal/overlayfs", "internal/units"},
	"internal/reconcile": {
		"internal/reconcile/plan", "internal/units/systemd", "internal/overlayfs/host", "internal/safedir",
		"internal/config", "internal/overlayfs", "internal/units", "internal/hostlock",
	},
	"internal/agent/state":   nil,
	"internal/agent/metrics": {"internal/usage"},
	"internal/agent": {
		"internal/agent/state", "internal/agent/metrics", "internal/reconcile", "internal/reconcile/plan", "internal/watch",
		"internal/hostlock", "internal/units/systemd", "internal/overlayfs/host", "internal/config", "internal/overlayfs",
		"internal/units",
	},
	"internal/overlayfs/layers": {"internal/overlayfs"},
	"internal/overlayfs/commit": {"internal/overlayfs/layers", "internal/overlayfs", "internal/safedir"},
	"internal/usage":            {"internal/overlayfs/layers", "internal/overlayfs"},
	"internal/importer":         {"internal/overlayfs"},
	"internal/doctor":           {"internal/overlayfs/host", "internal/units/systemd", "internal/overlayfs"},
	"internal/inventory": {
		"internal/reconcile", "internal/reconcile/plan", "internal/overlayfs/host", "internal/overlayfs", "internal/units",
		"internal/units/systemd", "internal/suggest",
	},
	"internal/manpage": nil,
	"cmd/overlayd": {
		"internal/agent", "internal/agent/state", "internal/watch", "internal/hostlock", "internal/inventory",
		"internal/reconcile", "internal/reconcile/plan", "internal/units/systemd", "internal/manpage",
		"internal/overlayfs/host", "internal/overlayfs/layers", "internal/overlayfs/commit", "internal/usage",
		"internal/importer", "internal/doctor", "internal/suggest", "internal/safedir", "internal/config", "internal/overlayfs",
		"internal/units",
	},
	"test/apart":    nil, // for the tests of every package
	"test/scramble": nil, // likewise
	"test/schema":   nil, // likewise
	"test/machine":  nil,
	"test/docs":     {"internal/agent", "internal/config", "internal/overlayfs", "internal/reconcile"},
	"test/e2e":      {"test/machine"},
	"test/fleet":    {"test/machine"},
	"test/demo":     {"test/machine"},
	"test/bench":    {"test/machine", "test/bench/report", "test/bench/probe", "test/bench/scale"},
	"test/arch":     nil,

	"test/bench/report":       nil,
	"test/bench/report/chart": nil,
	"test/bench/scale":        {"test/bench/report", "test/bench/report/chart"},
	"test/bench/probe":        nil, // runs inside of the machine

	"packaging/deb/licences": nil,
}

// forTests are the packages that the tests of every package may import.
var forTests = map[string]bool{"test/apart": true, "test/scramble": true, "test/schema": true}

// pure packages get values and give values. These imports would let them look
// at the machine, the clock or a log.
var (
	pure   = []string{"internal/overlayfs", "internal/units", "internal/reconcile/plan", "internal/config", "internal/importer", "internal/suggest"}
	impure = map[string]string{
		"os": "files", "os/exec": "programs", "os/user": "files", "io/ioutil": "files", "path/filepath": "files",
		"time": "the clock", "math/rand": "chance", "math/rand/v2": "chance", "crypto/rand": "chance",
		"syscall": "the kernel", "golang.org/x/sys/unix": "the kernel",
		"net": "the network", "net/http": "the network",
		"log": "a log", "log/slog": "a log", "github.com/sirupsen/logrus": "a log",
		"github.com/coreos/go-systemd/v22/dbus": "systemd", "github.com/godbus/dbus/v5": "systemd",
	}
	// The one file of a pure package that reads, and hands on what it read.
	reader = "internal/config/load.go"
)

// logs are the packages that may log: the edges.
var logs = []string{"cmd/overlayd", "internal/reconcile", "internal/agent"}

type file struct {
	pkg  string // folder, relative to the module
	path string
	test bool
	ast  *ast.File
	fset *token.FileSet
}

// source parses all Go files of the module, whatever their build tags.
func source(t *testing.T) []file {
	t.Helper()
	const root = "../.."
	var files []file
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			hidden := strings.HasPrefix(entry.Name(), ".") && rel != "."
			if hidden || entry.Name() == "testdata" || rel == "tools" || rel == "bin" {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		files = append(files, file{
			pkg: filepath.ToSlash(filepath.Dir(rel)), path: filepath.ToSlash(rel),
			test: strings.HasSuffix(name, "_test.go"), ast: parsed, fset: fset,
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("only %d Go files found: looking in the wrong place", len(files))
	}
	return files
}

func (f file) imports() []string {
	var all []string
	for _, spec := range f.ast.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err == nil {
			all = append(all, name)
		}
	}
	return all
}

// Tests may import what they like, but for packages above: that would be a cycle
// of ideas, if not of the compiler.
func TestImportsRunDownwards(t *testing.T) {
	for _, f := range source(t) {
		allowed, known := may[f.pkg]
		if !known {
			t.Errorf("%s: package %s is not in the import rule; add it to this test and to ARCHITECTURE.md", f.path, f.pkg)
			continue
		}
		for _, name := range f.imports() {
			inner, ours := strings.CutPrefix(name, module+"/")
			if !ours || slices.Contains(allowed, inner) || f.test && (inner == f.pkg || forTests[inner]) {
				continue
			}
			t.Errorf("%s: package %s must not import %s", f.path, f.pkg, inner)
		}
	}
}

// The rule itself has no way round in a circle.
func TestImportRuleIsAcyclic(t *testing.T) {
	done := make(map[string]bool)
	var visit func(pkg string, above []string)
	visit = func(pkg string, above []string) {
		if slices.Contains(above, pkg) {
			t.Fatalf("a cycle: %v", append(above, pkg))
		}
		if done[pkg] {
			return
		}
		for _, next := range may[pkg] {
			if _, known := may[next]; !known {
				t.Errorf("%s may import %s, which the rule does not know", pkg, next)
			}
			visit(next, append(slices.Clone(above), pkg))
		}
		done[pkg] = true
	}
	for _, pkg := range slices.Sorted(maps.Keys(may)) {
		visit(pkg, nil)
	}
}

func TestPurePackagesAreDeaf(t *testing.T) {
	for _, f := range source(t) {
		if f.test || f.path == reader || !slices.Contains(pure, f.pkg) {
			continue
		}
		for _, name := range f.imports() {
			if what, bad := impure[name]; bad {
				t.Errorf("%s: package %s is pure and must not see %s: import %q", f.path, f.pkg, what, name)
			}
		}
	}
}

func TestLoggingStaysAtTheEdges(t *testing.T) {
	for _, f := range source(t) {
		if f.test || slices.Contains(logs, f.pkg) {
			continue
		}
		for _, name := range f.imports() {
			if name == "log" || name == "log/slog" || name == "github.com/sirupsen/logrus" {
				t.Errorf("%s: package %s must not log; return what there is to say: import %q", f.path, f.pkg, name)
			}
		}
	}
}

// Below cmd nothing prints and nothing ends the program: the caller decides.
func TestNothingBelowCmdPrintsOrExits(t *testing.T) {
	banned := map[string][]string{
		"fmt": {"Print", "Printf", "Println"},
		"os":  {"Exit", "Stdout", "Stderr", "Stdin", "Args"},
		"log": {"Fatal", "Fatalf", "Fatalln", "Panic", "Panicf", "Panicln"},
	}
	for _, f := range source(t) {
		if f.test || !strings.HasPrefix(f.pkg, "internal/") {
			continue
		}
		imported := make(map[string]bool)
		for _, name := range f.imports() {
			imported[path.Base(name)] = true
		}
		ast.Inspect(f.ast, func(node ast.Node) bool {
			switch node := node.(type) {
			case *ast.SelectorExpr:
				pkg, ok := node.X.(*ast.Ident)
				if ok && pkg.Obj == nil && imported[pkg.Name] && slices.Contains(banned[pkg.Name], node.Sel.Name) {
					t.Errorf("%s: %s.%s belongs to cmd", f.fset.Position(node.Pos()), pkg.Name, node.Sel.Name)
				}
			case *ast.CallExpr:
				if name, ok := node.Fun.(*ast.Ident); ok && (name.Name == "print" || name.Name == "println") {
					t.Errorf("%s: %s is for debugging", f.fset.Position(node.Pos()), name.Name)
				}
			}
			return true
		})
	}
}

// A package says what it is, in one place.
func TestEachPackageHasOneDoc(t *testing.T) {
	docs := make(map[string][]string)
	for _, f := range source(t) {
		if f.test {
			continue
		}
		docs[f.pkg] = append(docs[f.pkg], nil...)
		if f.ast.Doc != nil {
			docs[f.pkg] = append(docs[f.pkg], f.path)
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(docs)) {
		if n := len(docs[pkg]); n != 1 {
			t.Errorf("package %s has %d package comments, not one: %v", pkg, n, docs[pkg])
		}
	}
}
