package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// goFile is a file of the program, not of its tests.
type goFile struct {
	path string // relative to the root of the repository
	fset *token.FileSet
	ast  *ast.File
}

// goFiles are those of the program below a folder, parsed.
func goFiles(t *testing.T, folder string) []goFile {
	t.Helper()
	var out []goFile
	err := filepath.WalkDir(filepath.Join(root, folder), func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == "testdata":
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		f := goFile{path: filepath.ToSlash(rel), fset: token.NewFileSet()}
		f.ast, err = parser.ParseFile(f.fset, name, nil, parser.SkipObjectResolution)
		out = append(out, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 {
		t.Fatalf("no Go files below %s", folder)
	}
	return out
}

func (f goFile) at(n ast.Node) string {
	return f.path + ":" + strconv.Itoa(f.fset.Position(n.Pos()).Line)
}

// text is the value of a string expression. Where a part of it is not written
// out there is a NUL byte.
func text(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			s, err := strconv.Unquote(e.Value)
			return s, err == nil
		}
	case *ast.ParenExpr:
		return text(e.X)
	case *ast.BinaryExpr:
		if e.Op != token.ADD {
			return "", false
		}
		x, okX := text(e.X)
		y, okY := text(e.Y)
		if !okX {
			x = "\x00"
		}
		if !okY {
			y = "\x00"
		}
		return x + y, okX || okY
	}
	return "", false
}
