//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var errNotJSON = errors.New("stdout is not one JSON value")

// lookJSON checks the value at a path, as the json command of the scripts says.
func lookJSON(text []byte, path string, want ...string) error {
	var root any
	if err := json.Unmarshal(text, &root); err != nil {
		return fmt.Errorf("%w: %w\n%s", errNotJSON, err, text)
	}
	value, err := walkJSON(root, path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if len(want) == 0 {
		return nil
	}
	match := func(s string) bool { return s == want[0] }
	if pattern, ok := strings.CutPrefix(want[0], "~"); ok {
		re, err := regexp.Compile(pattern)
		if err != nil {
			return err
		}
		match = re.MatchString
	}
	if list, ok := value.([]any); ok {
		for _, element := range list {
			if match(textJSON(element)) {
				return nil
			}
		}
	}
	if got := textJSON(value); !match(got) {
		return fmt.Errorf("%s is %s, not %s", path, got, want[0])
	}
	return nil
}

// textJSON is a string itself, and everything else as compact JSON.
func textJSON(value any) string {
	if s, ok := value.(string); ok {
		return s
	}
	text, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func walkJSON(value any, path string) (any, error) {
	for path != "" {
		var step string
		step, path = nextStep(path)
		next, err := stepJSON(value, step)
		if err != nil {
			return nil, err
		}
		value = next
	}
	return value, nil
}

// nextStep cuts ".name" or "[…]" off a path. A bracket ends at the first "]"
// with another step, or nothing, behind it: values may have brackets themselves.
func nextStep(path string) (step, rest string) {
	if path[0] == '[' {
		for i := 1; i < len(path); i++ {
			if path[i] == ']' && (i+1 == len(path) || path[i+1] == '.' || path[i+1] == '[') {
				return path[:i+1], path[i+1:]
			}
		}
		return path, ""
	}
	if i := strings.IndexAny(path[1:], ".["); i >= 0 {
		return path[:i+1], path[i+1:]
	}
	return path, ""
}

func stepJSON(value any, step string) (any, error) {
	if inner, ok := strings.CutPrefix(step, "["); ok {
		inner = strings.TrimSuffix(inner, "]")
		list, ok := value.([]any)
		if !ok {
			return nil, fmt.Errorf("%s: not a list: %s", step, textJSON(value))
		}
		if key, want, ok := strings.Cut(inner, "="); ok {
			for _, element := range list {
				if object, ok := element.(map[string]any); ok && textJSON(object[key]) == want {
					return element, nil
				}
			}
			return nil, fmt.Errorf("no element with %s in %s", inner, textJSON(value))
		}
		i, err := strconv.Atoi(inner)
		if err != nil || i < 0 || i >= len(list) {
			return nil, fmt.Errorf("no element %s in %s", step, textJSON(value))
		}
		return list[i], nil
	}
	name := strings.TrimPrefix(step, ".")
	if list, ok := value.([]any); ok && name == "length" {
		return float64(len(list)), nil
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s: not an object: %s", step, textJSON(value))
	}
	field, ok := object[name]
	if !ok {
		return nil, fmt.Errorf("no %s in %s", step, textJSON(value))
	}
	return field, nil
}

func TestLookJSON(t *testing.T) {
	const text = `{"n": 2, "in_sync": true, "via": null, "changes": [
		{"address": "overlay.client[\"a.b\"]", "reasons": ["unmounted by hand", "x"], "impact": {"units": []}},
		{"address": "overlay.one", "error": "cannot mount"}]}`
	for _, c := range []struct {
		path string
		want []string
		ok   bool
	}{
		{".n", []string{"2"}, true},
		{".n", []string{"3"}, false},
		{".in_sync", []string{"true"}, true},
		{".via", []string{"null"}, true},
		{".via", nil, true},
		{".nothing", nil, false},
		{".changes.length", []string{"2"}, true},
		{".changes[0].reasons", []string{"~by hand"}, true},
		{".changes[0].reasons", []string{"unmounted by hand"}, true},
		{".changes[0].reasons", []string{"unmounted"}, false},
		{".changes[2]", nil, false},
		{".changes[0].impact.units", []string{"[]"}, true},
		{`.changes[address=overlay.client["a.b"]].reasons[1]`, []string{"x"}, true},
		{".changes[address=overlay.one].error", []string{"~^cannot"}, true},
		{".changes[address=overlay.two]", nil, false},
		{".n.m", nil, false},
	} {
		if err := lookJSON([]byte(text), c.path, c.want...); (err == nil) != c.ok {
			t.Errorf("%s %q: %v", c.path, c.want, err)
		}
	}
	if err := lookJSON([]byte(text+text), ".n"); !errors.Is(err, errNotJSON) {
		t.Errorf("two values on stdout: %v", err)
	}
}
