package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/test/apart"
	"github.com/overlayd/overlayd/test/schema"
)

// schemas are those of all that the tests see of --json. They are read before a test changes the working directory.
var schemas *schema.Set

// held runs the tests of this package, and then asks that each schema saw an output of theirs.
type held struct{ m *testing.M }

func (h held) Run() int {
	var err error
	if schemas, err = schema.Open(schema.Dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := h.m.Run()
	if code != 0 || !allRan() {
		return code
	}
	for _, name := range schemas.Unseen() {
		fmt.Fprintf(os.Stderr, "no test of this package prints what %s.schema.json in %s describes\n", name, schema.Dir)
		code = 1
	}
	return code
}

// allRan tells whether all tests ran, scripts included.
func allRan() bool {
	for _, name := range []string{"test.run", "test.skip", "test.list"} {
		if flag.Lookup(name).Value.String() != "" {
			return false
		}
	}
	return os.Geteuid() == 0
}

// runs names the folder that takes what each overlayd of a script was asked and gave, whoever started it.
const runs = "OVERLAYD_TEST_RUNS"

// record has the outputs of a script held against their schemas when it ends.
func record(env *testscript.Env) {
	t := env.T().(testing.TB)
	dir, err := os.MkdirTemp(apart.Scratch, "runs-") // where a script starts overlayd as another user, too
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	env.Setenv(runs, dir)
	env.Defer(func() {
		all, err := schema.Read(dir)
		if err != nil {
			t.Error(err)
		}
		for _, r := range all {
			if err := schemas.Check(r); err != nil {
				t.Error(err)
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
}

// recorded is overlayd in a script: main, and where it is asked for JSON, a file that tells what it gave.
func recorded() {
	dir := os.Getenv(runs)
	if dir == "" || !schema.Asked(os.Args[1:]) {
		main()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	context.AfterFunc(ctx, stop)
	var out, stderr bytes.Buffer
	code := run(ctx, os.Args[1:], streams{
		in: os.Stdin, out: io.MultiWriter(os.Stdout, &out), err: io.MultiWriter(os.Stderr, &stderr), environ: os.Environ(),
	})
	r := schema.Run{Args: os.Args[1:], Code: code, Stdout: out.Bytes(), Stderr: stderr.Bytes()}
	if err := r.Write(dir); err != nil {
		panic(err)
	}
	os.Exit(code)
}

// A command has --json if and only if it has a schema.
func TestJSONCommandsHaveSchemas(t *testing.T) {
	var got []string
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Flags().Lookup("json") != nil {
			got = append(got, cmd.Name())
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk((&app{}).command())
	slices.Sort(got)
	if diff := cmp.Diff(schema.Commands(), got); diff != "" {
		t.Errorf("commands with a schema -, with --json +:\n%s", diff)
	}
}

// The values that schemas list are those that the code has, and none is listed that is not held against it here.
func TestSchemaValues(t *testing.T) {
	const internal = "../../internal/"
	allKinds := constants(t, internal+"reconcile/plan", "Kind")
	var kinds, severities []string
	for _, k := range plan.Kinds() {
		kinds = append(kinds, string(k))
	}
	for _, d := range diagnosticsJSON(hcl.Diagnostics{{Severity: hcl.DiagError}, {Severity: hcl.DiagWarning}}) {
		severities = append(severities, d.Severity)
	}
	statuses := slices.DeleteFunc(constants(t, internal+"reconcile", "Status"), func(s string) bool {
		return s == string(reconcile.Held) // no command applies unattended
	})
	want := map[string][]string{
		"$defs/change":                         kinds,
		"$defs/planned/properties/via":         constants(t, internal+"reconcile/plan", "Via"),
		"$defs/result/properties/change":       allKinds,
		"$defs/result/properties/status":       statuses,
		"$defs/state":                          constants(t, internal+"reconcile", "State"),
		"$defs/owner":                          constants(t, internal+"overlayfs", "Owner"),
		"$defs/difference/properties/kind":     constants(t, internal+"overlayfs/layers", "Kind"),
		"$defs/diagnostic/properties/severity": severities,
		"$defs/finding/properties/area":        constants(t, internal+"doctor", "Area"),
		"$defs/finding/properties/level":       constants(t, internal+"doctor", "Level"),
		"$defs/filesystem/properties/use":      constants(t, internal+"doctor", "Use"),
		"plan properties/summary":              kinds,
		"report properties/summary":            allKinds,
		"doctor properties/summary":            constants(t, internal+"doctor", "Level"),
	}
	used := map[string]bool{}
	for _, name := range schemas.Names() {
		schemas.Walk(name, func(place string, s map[string]any) {
			place = strings.TrimPrefix(place, "/")
			got := listed(s)
			if place == "properties/summary" {
				place = name + " " + place
				got = slices.Collect(maps.Keys(s["properties"].(map[string]any)))
			}
			if len(got) == 0 {
				return
			}
			used[place] = true
			if diff := cmp.Diff(slices.Sorted(slices.Values(want[place])), slices.Sorted(slices.Values(got))); diff != "" {
				t.Errorf("%s.schema.json, %s: what the code has -, what the schema lists +:\n%s", name, place, diff)
			}
		})
	}
	for place := range want {
		if !used[place] {
			t.Errorf("no schema lists values at %s", place)
		}
	}
}

// listed gives the values that a schema lists, in one way or the other; null is "".
func listed(schema map[string]any) []string {
	values, _ := schema["enum"].([]any)
	options, _ := schema["oneOf"].([]any)
	for _, each := range options {
		values = append(values, each.(map[string]any)["const"])
	}
	var out []string
	for _, v := range values {
		text, _ := v.(string)
		out = append(out, text)
	}
	return out
}

// constants gives the values of the constants of a type in a package, of which code has no list.
func constants(t *testing.T, dir, name string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if of, ok := spec.Type.(*ast.Ident); !ok || of.Name != name {
				return true
			}
			for _, v := range spec.Values {
				literal, ok := v.(*ast.BasicLit)
				if !ok {
					continue
				}
				value, err := strconv.Unquote(literal.Value)
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, value)
			}
			return true
		})
	}
	return out
}
