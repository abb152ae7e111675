package schema

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Dir is where the schemas are, seen from the folder of a package whose tests use them.
const Dir = "../../docs/schema"

const suffix = ".schema.json"

// Set is the schemas of a folder, by name: plan is that of plan.schema.json.
type Set struct {
	strict *jsonschema.Compiler
	docs   map[string]map[string]any // as published, by name
	mu     sync.Mutex
	seen   map[string]bool
}

// Open reads the schemas in dir and makes them strict.
func Open(dir string) (*Set, error) {
	s := &Set{strict: newCompiler(), docs: map[string]map[string]any{}, seen: map[string]bool{}}
	files, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("cannot read schemas: there are none in %s", dir)
	}
	for _, file := range files {
		doc, err := read(file)
		if err != nil {
			return nil, err
		}
		s.docs[strings.TrimSuffix(filepath.Base(file), suffix)] = doc
		id, ok := doc["$id"].(string)
		if !ok {
			return nil, fmt.Errorf("cannot use schema %s: it has no $id", file)
		}
		if err := s.strict.AddResource(id, shut(doc)); err != nil {
			return nil, fmt.Errorf("cannot use schema %s: %w", file, err)
		}
	}
	return s, nil
}

// newCompiler asserts formats and encodings, too, which JSON Schema leaves open. It loads nothing by itself.
func newCompiler() *jsonschema.Compiler {
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	c.AssertContent()
	c.UseLoader(jsonschema.SchemeURLLoader{})
	return c
}

func read(file string) (map[string]any, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("cannot read schema %s: %w", file, err)
	}
	doc, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("cannot read schema %s: it is no object", file)
	}
	return doc, nil
}

// shut gives a copy of a schema that forbids what is not described. Each object is described in one place: what is open
// has no properties, but says what is in additionalProperties.
func shut(schema any) any {
	switch schema := schema.(type) {
	case map[string]any:
		out := make(map[string]any, len(schema)+1)
		if _, object := schema["properties"]; object {
			out["additionalProperties"] = false
		}
		for key, part := range schema {
			out[key] = shut(part)
		}
		return out
	case []any:
		out := make([]any, len(schema))
		for i, part := range schema {
			out[i] = shut(part)
		}
		return out
	default:
		return schema
	}
}

// Names lists the schemas.
func (s *Set) Names() []string { return slices.Sorted(maps.Keys(s.docs)) }

// Unseen lists the schemas that no output was held against yet.
func (s *Set) Unseen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(s.Names(), func(name string) bool { return s.seen[name] })
}

// fits holds a document against a schema, or the part of one: status, or status#/$defs/agent.
func (s *Set) fits(name string, doc any) error {
	name, part, _ := strings.Cut(name, "#")
	if s.docs[name] == nil {
		return fmt.Errorf("there is no schema %s%s", name, suffix)
	}
	s.mu.Lock()
	schema, err := s.strict.Compile(s.docs[name]["$id"].(string) + "#" + part)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if err := schema.Validate(doc); err != nil {
		_, places, _ := strings.Cut(err.Error(), "\n") // the first line names the schema
		return fmt.Errorf("it is not as %s%s says:\n%s", name, suffix, places)
	}
	return nil
}

// Walk visits a schema and all in it, each with its place, such as /$defs/change.
func (s *Set) Walk(name string, visit func(place string, schema map[string]any)) {
	var walk func(place string, schema any)
	walk = func(place string, schema any) {
		switch schema := schema.(type) {
		case map[string]any:
			visit(place, schema)
			for key, part := range schema {
				if key == "properties" || key == "$defs" {
					for inner, each := range part.(map[string]any) {
						walk(place+"/"+key+"/"+inner, each)
					}
					continue
				}
				walk(place+"/"+key, part)
			}
		case []any:
			for i, part := range schema {
				walk(fmt.Sprintf("%s/%d", place, i), part)
			}
		}
	}
	walk("", s.docs[name])
}
