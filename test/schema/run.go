package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Results names the schemas of the results of each command that has --json. A command that fails before it has a
// result has [Failure] instead.
var Results = map[string][]string{
	"apply":    {"report"},
	"destroy":  {"report"},
	"diff":     {"diff", "diff-shadowed"},
	"doctor":   {"doctor"},
	"drift":    {"plan"},
	"du":       {"du"},
	"inspect":  {"inspect"},
	"list":     {"list"},
	"plan":     {"plan"},
	"prune":    {"prune"},
	"reset":    {"report"},
	"status":   {"status"},
	"validate": {"validate"},
	"version":  {"version"},
}

// Commands lists the commands that have --json.
func Commands() []string { return slices.Sorted(maps.Keys(Results)) }

// Failure is the schema of every command that fails before it has a result.
const Failure = "failure"

// Asked tells whether a command line of overlayd, without the program, asks for JSON.
func Asked(args []string) bool {
	if end := slices.Index(args, "--"); end >= 0 {
		args = args[:end]
	}
	return slices.Contains(args, "--json") || slices.Contains(args, "--json=true")
}

// Run is what one run of overlayd gave.
type Run struct {
	Args   []string // without the program
	Code   int
	Stdout []byte
	Stderr []byte
}

// Write keeps a run in a folder, in a file of its own that [Read] reads.
func (r Run) Write(dir string) error {
	f, err := os.CreateTemp(dir, "run-*.json")
	if err != nil {
		return err
	}
	return errors.Join(json.NewEncoder(f).Encode(r), f.Close())
}

// Read gives the runs in a folder.
func Read(dir string) ([]Run, error) {
	files, err := filepath.Glob(filepath.Join(dir, "run-*.json"))
	if err != nil {
		return nil, err
	}
	out := make([]Run, len(files))
	for i, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, &out[i]); err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", file, err)
		}
	}
	return out, nil
}

// Check holds a run against the schema of its command. One that does not ask for JSON passes.
func (s *Set) Check(r Run) error {
	if !Asked(r.Args) {
		return nil
	}
	if err := s.check(r); err != nil {
		return fmt.Errorf("overlayd %s (exit code %d): %w\nstdout:\n%s", strings.Join(r.Args, " "), r.Code, err, r.Stdout)
	}
	return nil
}

func (s *Set) check(r Run) error {
	switch {
	case bytes.Contains(r.Stderr, []byte("cannot write the result: ")):
		return nil // stdout is full or closed: what is there ends anywhere
	case len(r.Stdout) == 0 && r.Code == 1 && bytes.Contains(r.Stderr, []byte("\nUsage:")):
		return nil // a usage error is for people
	}
	doc, err := document(r.Stdout)
	if err != nil {
		return err
	}
	if failed(doc) {
		if r.Code != 1 {
			return errors.New("it failed, but not with exit code 1")
		}
		return s.saw(Failure, doc)
	}
	name, err := resultOf(r.Args)
	if err != nil {
		return err
	}
	return s.saw(name, doc)
}

func (s *Set) saw(name string, doc any) error {
	s.mu.Lock()
	s.seen[name] = true
	s.mu.Unlock()
	return s.fits(name, doc)
}

// resultOf gives the schema of the result that a command line asks for.
func resultOf(args []string) (string, error) {
	i := slices.IndexFunc(args, func(arg string) bool { return Results[arg] != nil })
	if i < 0 {
		return "", errors.New("none of its arguments is a command that has a schema")
	}
	names := Results[args[i]]
	if len(names) > 1 && slices.Contains(args, "--shadowed") {
		return names[1], nil
	}
	return names[0], nil
}

// failed tells a failure from a result.
func failed(doc any) bool {
	object, ok := doc.(map[string]any)
	if !ok {
		return false
	}
	_, hasError := object["error"]
	_, hasDiagnostics := object["diagnostics"]
	return hasError && hasDiagnostics
}

// document reads stdout, which is one JSON value in UTF-8, and a newline.
func document(stdout []byte) (any, error) {
	switch {
	case !utf8.Valid(stdout):
		return nil, errors.New("stdout is not UTF-8")
	case !bytes.HasPrefix(stdout, []byte("{")) || !bytes.HasSuffix(stdout, []byte("}\n")):
		return nil, errors.New("stdout is not one JSON object and a newline")
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(stdout))
	if err != nil {
		return nil, fmt.Errorf("stdout is not one JSON value: %w", err)
	}
	return doc, nil
}

// Fits holds each value of a text against a schema, or the part of one: status, or status#/properties/agent. It is for
// tests of what prints a result; only what a whole run printed counts for [Set.Unseen].
func (s *Set) Fits(name, text string) error {
	values := json.NewDecoder(strings.NewReader(text))
	values.UseNumber()
	for {
		var v any
		if err := values.Decode(&v); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := s.fits(name, v); err != nil {
			return fmt.Errorf("%w\nin:\n%s", err, text)
		}
	}
}
