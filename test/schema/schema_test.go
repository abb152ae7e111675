package schema_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/overlayd/overlayd/test/schema"
)

func open(t *testing.T) *schema.Set {
	t.Helper()
	s, err := schema.Open(schema.Dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// published compiles a schema as everybody gets it: it stands alone, so nothing else is loaded.
func published(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	compiled, err := jsonschema.NewCompiler().Compile(filepath.Join(schema.Dir, name+".schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

func decode(t *testing.T, file string) any {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	v, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return v
}

// Each schema is one by the rules of its draft, and says of everything what it is.
func TestSchemas(t *testing.T) {
	s := open(t)
	meta, err := jsonschema.NewCompiler().Compile("https://json-schema.org/draft/2020-12/schema")
	if err != nil {
		t.Fatal(err)
	}
	// The draft allows any keyword, and so a misspelt one.
	known := strings.Fields(`$schema $id $ref $defs title description type properties required items additionalProperties
		enum const anyOf oneOf pattern format contentEncoding minimum minLength`)
	snake := regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	for _, name := range s.Names() {
		file := name + ".schema.json"
		doc := decode(t, filepath.Join(schema.Dir, file)).(map[string]any)
		if err := meta.Validate(doc); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if doc["$schema"] != "https://json-schema.org/draft/2020-12/schema" ||
			doc["$id"] != "https://overlayd.github.io/schema/1/"+file || doc["title"] == nil {
			t.Errorf("%s: $schema %v, $id %v, title %v", file, doc["$schema"], doc["$id"], doc["title"])
		}
		used := map[string]bool{}
		s.Walk(name, func(place string, part map[string]any) {
			for key := range part {
				if !slices.Contains(known, key) {
					t.Errorf("%s%s: unknown keyword %s", file, place, key)
				}
			}
			if ref, ok := part["$ref"].(string); ok {
				used[strings.TrimPrefix(ref, "#/$defs/")] = true
			} else if part["description"] == nil && part["type"] == nil && part["const"] == nil && part["anyOf"] == nil {
				t.Errorf("%s%s: no description", file, place)
			}
			properties, ok := part["properties"].(map[string]any)
			if !ok {
				return
			}
			for property, of := range properties {
				if !snake.MatchString(property) {
					t.Errorf("%s%s: %s is not in snake_case", file, place, property)
				}
				of := of.(map[string]any)
				if of["description"] == nil && of["$ref"] == nil {
					t.Errorf("%s%s/properties/%s: no description", file, place, property)
				}
			}
			for _, property := range part["required"].([]any) {
				if properties[property.(string)] == nil {
					t.Errorf("%s%s: requires %s, which it does not describe", file, place, property)
				}
			}
		})
		definitions, _ := doc["$defs"].(map[string]any)
		for definition := range definitions {
			if !used[definition] {
				t.Errorf("%s: nothing refers to $defs/%s", file, definition)
			}
		}
	}
}

// Each file stands alone, so that any tool can use it without a net. What several have is the same in all.
func TestDefinitionsAgree(t *testing.T) {
	s := open(t)
	first := map[string]string{}
	text := map[string]any{}
	for _, name := range s.Names() {
		s.Walk(name, func(place string, part map[string]any) {
			definition, ok := strings.CutPrefix(place, "/$defs/")
			if !ok || strings.Contains(definition, "/") {
				return
			}
			if diff := cmp.Diff(text[definition], any(part)); first[definition] != "" && diff != "" {
				t.Errorf("$defs/%s is otherwise in %s (-) than in %s (+):\n%s", definition, first[definition], name, diff)
			}
			first[definition], text[definition] = name, part
		})
	}
}

// Each schema has an example, which overlayd printed. Everybody may ignore what a later version adds to it; the tests
// of overlayd do not.
func TestExamples(t *testing.T) {
	s := open(t)
	examples, err := filepath.Glob(filepath.Join(schema.Dir, "examples", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, file := range examples {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		have = append(have, name)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Fits(name, string(text)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		doc := decode(t, file)
		add(doc)
		if err := published(t, name).Validate(doc); err != nil {
			t.Errorf("%s.schema.json does not allow what a later version may add: %v", name, err)
		}
		more, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Fits(name, string(more)); err == nil {
			t.Errorf("%s.schema.json: the strict form allows what is not described", name)
		}
	}
	slices.Sort(have)
	if diff := cmp.Diff(s.Names(), have); diff != "" {
		t.Errorf("schemas -, examples +:\n%s", diff)
	}
}

// add puts a property of a later version into a document, everywhere but in maps, whose names are data.
func add(v any) {
	switch v := v.(type) {
	case map[string]any:
		for key, inner := range v {
			if key != "options" && key != "defaults" {
				add(inner)
			}
		}
		v["of_a_later_version"] = true
	case []any:
		for _, inner := range v {
			add(inner)
		}
	}
}

// What is wrong with an output is found.
func TestCheck(t *testing.T) {
	const (
		good  = `{"format_version": "1.0", "version": "1.2.3", "go": "go1.26.0", "platform": "linux/amd64"}`
		fails = `{"format_version": "1.0", "error": "cannot", "diagnostics": []}`
		usage = "Error: unknown flag\n\nUsage:\n  overlayd version [flags]\n"
	)
	version := []string{"version", "--json"}
	for name, c := range map[string]struct {
		run  schema.Run
		want string // in the error; none for a run that is right
	}{
		"good":          {run: schema.Run{Args: version, Stdout: []byte(good + "\n")}},
		"for people":    {run: schema.Run{Args: []string{"version"}, Stdout: []byte("overlayd 1.2.3\n")}},
		"not an option": {run: schema.Run{Args: []string{"version", "--", "--json"}}},
		"failure":       {run: schema.Run{Args: version, Code: 1, Stdout: []byte(fails + "\n")}},
		"usage":         {run: schema.Run{Args: version, Code: 1, Stderr: []byte(usage)}},
		"disk full": {
			run: schema.Run{Args: version, Code: 1, Stdout: []byte(`{"for`), Stderr: []byte("cannot write the result: x")},
		},
		"root before":    {run: schema.Run{Args: []string{"--root", "x", "version", "--json"}, Stdout: []byte(good + "\n")}},
		"nothing":        {schema.Run{Args: version, Code: 1, Stderr: []byte("Error: it broke\n")}, "one JSON object"},
		"failure with 0": {schema.Run{Args: version, Stdout: []byte(fails + "\n")}, "not with exit code 1"},
		"no newline":     {schema.Run{Args: version, Stdout: []byte(good)}, "and a newline"},
		"two documents":  {schema.Run{Args: version, Stdout: []byte(good + good + "\n")}, "one JSON value"},
		"a word before":  {schema.Run{Args: version, Stdout: []byte("Warning: x\n" + good + "\n")}, "one JSON object"},
		"not UTF-8": {
			schema.Run{Args: version, Stdout: []byte(strings.Replace(good, "1.2.3", "\xff", 1) + "\n")}, "UTF-8",
		},
		"not described": {
			schema.Run{Args: version, Stdout: []byte(strings.Replace(good, "{", `{"commit": "x", `, 1) + "\n")},
			"'commit' not allowed",
		},
		"missing": {
			schema.Run{Args: version, Stdout: []byte(strings.Replace(good, `"go": "go1.26.0", `, "", 1) + "\n")}, "'go'",
		},
		"null": {
			schema.Run{Args: version, Stdout: []byte(strings.Replace(good, `"go1.26.0"`, "null", 1) + "\n")}, "/go",
		},
		"later major": {
			schema.Run{Args: version, Stdout: []byte(strings.Replace(good, `"1.0"`, `"2.0"`, 1) + "\n")}, "/format_version",
		},
		"another's result":    {schema.Run{Args: []string{"list", "--json"}, Stdout: []byte(good + "\n")}, "'overlays'"},
		"command without one": {schema.Run{Args: []string{"fmt", "--json"}, Stdout: []byte(good + "\n")}, "has a schema"},
	} {
		t.Run(name, func(t *testing.T) {
			err := open(t).Check(c.run)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v; want an error with %q", err, c.want)
			}
		})
	}
}

// What was held against nothing is known.
func TestUnseen(t *testing.T) {
	s := open(t)
	all := s.Names()
	if diff := cmp.Diff(all, s.Unseen()); diff != "" {
		t.Errorf("seen at the start: %s", diff)
	}
	out := []byte(`{"format_version": "1.0", "version": "1", "go": "g", "platform": "linux/arm64"}` + "\n")
	if err := s.Check(schema.Run{Args: []string{"version", "--json"}, Stdout: out}); err != nil {
		t.Error(err)
	}
	if got := s.Unseen(); slices.Contains(got, "version") || len(got) != len(all)-1 {
		t.Errorf("unseen after a version: %v", got)
	}
}

// The schemas are those of the commands, and the table of the README says which is whose.
func TestReadmeNamesEachSchema(t *testing.T) {
	want := map[string][]string{schema.Failure: {}} // schema → commands
	for command, names := range schema.Results {
		for _, name := range names {
			want[name] = append(want[name], command)
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), open(t).Names()); diff != "" {
		t.Errorf("schemas that commands use -, that there are +:\n%s", diff)
	}
	text, err := os.ReadFile(filepath.Join(schema.Dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| (.*) \| \[(\S+)\.schema\.json\]\((\S+)\) \| \[.*\]\(examples/(\S+)\.json\) \|$`)
	got := map[string][]string{}
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		if m[3] != m[2]+".schema.json" || m[4] != m[2] {
			t.Errorf("the links of the row of %s lead elsewhere: %s, %s", m[2], m[3], m[4])
		}
		got[m[2]] = []string{}
		for _, quoted := range regexp.MustCompile("`([a-z]+)[^`]*`").FindAllStringSubmatch(m[1], -1) {
			got[m[2]] = append(got[m[2]], quoted[1])
		}
		slices.Sort(got[m[2]])
	}
	for _, commands := range want {
		slices.Sort(commands)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what commands print -, what the table of the README says +:\n%s", diff)
	}
}
