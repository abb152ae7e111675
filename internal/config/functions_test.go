package config_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/overlayd/overlayd/internal/config"
)

// TestFunctions has at least one case for every function.
func TestFunctions(t *testing.T) {
	cases := []struct{ expr, want string }{
		{`abs(-3)`, `3`},
		{`alltrue([true, false])`, `false`},
		{`alltrue([])`, `true`},
		{`anytrue([true, false])`, `true`},
		{`anytrue([null])`, `false`},
		{`base64decode("w6k=")`, `"é"`},
		{`base64encode("é")`, `"w6k="`},
		{`base64sha256("x")`, `"LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE="`},
		{`basename("/srv/a/b")`, `"b"`},
		{`basename("/")`, `"/"`},
		{`can(tonumber("x"))`, `false`},
		{`ceil(1.2)`, `2`},
		{`chomp("a\n")`, `"a"`},
		{`chunklist(["a", "b", "c"], 2)`, `[["a","b"],["c"]]`},
		{`coalesce(null, "", "a", "b")`, `"a"`},
		{`coalescelist([], ["a"])`, `["a"]`},
		{`compact(["a", "", "b"])`, `["a","b"]`},
		{`concat(["a"], ["b"])`, `["a","b"]`},
		{`contains(["a"], "a")`, `true`},
		{`csvdecode("a,b\n1,2")`, `[{"a":"1","b":"2"}]`},
		{`dirname("/srv/a/b")`, `"/srv/a"`},
		{`distinct(["b", "a", "b"])`, `["b","a"]`},
		{`distinct([1, 2, 1])`, `[1,2]`},
		{`element(["a", "b"], 3)`, `"b"`},
		{`endswith("abc", "bc")`, `true`},
		{`flatten([["a"], [["b"]]])`, `["a","b"]`},
		{`floor(1.8)`, `1`},
		{`format("%03d-%s", 7, "x")`, `"007-x"`},
		{`formatdate("YYYY-MM", "2026-11-23T10:00:00Z")`, `"2026-11"`},
		{`formatlist("pi-%s", ["a", "b"])`, `["pi-a","pi-b"]`},
		{`indent(2, "a\nb")`, `"a\n  b"`},
		{`index(["a", "b"], "b")`, `1`},
		{`join("-", ["a", "b"])`, `"a-b"`},
		{`jsondecode("{\"a\": [1]}")`, `{"a":[1]}`},
		{`jsonencode({ a = null })`, `"{\"a\":null}"`},
		{`keys({ b = 1, a = 2 })`, `["a","b"]`},
		{`length("héé")`, `3`},
		{`length(["a", "b"])`, `2`},
		{`length({ a = 1 })`, `1`},
		{`length(toset(["a", "a"]))`, `1`},
		{`log(8, 2)`, `3`},
		{`lookup({ a = "x" }, "a")`, `"x"`},
		{`lookup({ a = "x" }, "b", "y")`, `"y"`},
		{`lookup(tomap({ a = "x" }), "b", 3)`, `"3"`},
		{`lower("ABC")`, `"abc"`},
		{`matchkeys(["a", "b"], ["x", "y"], ["y"])`, `["b"]`},
		{`max(1, 3, 2)`, `3`},
		{`md5("x")`, `"9dd4e461268c8034f5c8564e155c67a6"`},
		{`merge({ a = 1 }, { a = 2, b = 3 })`, `{"a":2,"b":3}`},
		{`min(2, 1)`, `1`},
		{`one([])`, `null`},
		{`one(toset(["a"]))`, `"a"`},
		{`parseint("ff", 16)`, `255`},
		{`pow(2, 10)`, `1024`},
		{`range(3)`, `[0,1,2]`},
		{`range(1, 4)`, `[1,2,3]`},
		{`range(0, -3)`, `[0,-1,-2]`},
		{`range(-2)`, `[0,-1]`},
		{`range(1, 2, 0.25)`, `[1,1.25,1.5,1.75]`},
		{`range(0)`, `[]`},
		{`length(range(5000))`, `5000`},
		{`regex("[a-z]+", "12ab3")`, `"ab"`},
		{`regexall("[a-z]", "1a2b")`, `["a","b"]`},
		{`replace("a.b.c", ".", "-")`, `"a-b-c"`},
		{`replace("a1b22", "/[0-9]+/", "#")`, `"a#b#"`},
		{`replace("ab", "/(a)(b)/", "$2$1")`, `"ba"`},
		{`replace("a/b", "/", "-")`, `"a-b"`},
		{`reverse(["a", "b"])`, `["b","a"]`},
		{`setintersection(["a", "b"], ["b"])`, `["b"]`},
		{`setproduct(["a", "b"], ["x"])`, `[["a","x"],["b","x"]]`},
		{`setsubtract(["a", "b"], ["b"])`, `["a"]`},
		{`setunion(["a"], ["b"])`, `["a","b"]`},
		{`sha1("x")`, `"11f6ad8ec52a2984abaafd7c3b516503785c2072"`},
		{`sha256("x")`, `"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"`},
		{`substr(sha512("x"), 0, 8)`, `"a4abd444"`},
		{`signum(-5)`, `-1`},
		{`slice(["a", "b", "c"], 1, 2)`, `["b"]`},
		{`sort(["b", "a"])`, `["a","b"]`},
		{`split(",", "a,b")`, `["a","b"]`},
		{`startswith("abc", "ab")`, `true`},
		{`strcontains("abc", "b")`, `true`},
		{`strrev("abc")`, `"cba"`},
		{`substr("hello", 1, 3)`, `"ell"`},
		{`sum([1, 2.5])`, `3.5`},
		{`timeadd("2026-11-23T10:00:00Z", "2h")`, `"2026-11-23T12:00:00Z"`},
		{`title("ab cd")`, `"Ab Cd"`},
		{`tobool("true")`, `true`},
		{`tolist(["a", 1])`, `["a","1"]`},
		{`tolist(toset(["b", "a"]))`, `["a","b"]`},
		{`tomap({ a = "x", b = 1 })`, `{"a":"x","b":"1"}`},
		{`tonumber("3")`, `3`},
		{`toset(["b", "a", "b"])`, `["a","b"]`},
		{`toset([])`, `[]`},
		{`tostring(3)`, `"3"`},
		{`transpose({ a = ["x", "y"], b = ["x"] })`, `{"x":["a","b"],"y":["a"]}`},
		{`trim("--a--", "-")`, `"a"`},
		{`trimprefix("pi-a", "pi-")`, `"a"`},
		{`trimspace(" a ")`, `"a"`},
		{`trimsuffix("a.hcl", ".hcl")`, `"a"`},
		{`try(tonumber("x"), 7)`, `7`},
		{`upper("abc")`, `"ABC"`},
		{`urlencode("a b/c")`, `"a+b%2Fc"`},
		{`values({ b = 1, a = 2 })`, `[2,1]`},
		{`zipmap(["a", "b"], [1, 2])`, `{"a":1,"b":2}`},
	}
	called := regexp.MustCompile(`[a-z0-9]+\(`)
	covered := map[string]bool{}
	for _, c := range cases {
		for _, name := range called.FindAllString(c.expr, -1) {
			covered[strings.TrimSuffix(name, "(")] = true
		}
		if got := evaluate(t, c.expr); got != c.want {
			t.Errorf("%s = %s, want %s", c.expr, got, c.want)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(config.Functions())) {
		if !covered[name] {
			t.Errorf("no case for %s", name)
		}
	}
}

// TestFunctionsRefuse: wrong arguments are diagnostics, not panics.
func TestFunctionsRefuse(t *testing.T) {
	cases := []struct{ expr, want string }{
		{`base64decode("***")`, "not base64"},
		{`base64decode("//8=")`, "not a text in UTF-8"},
		{`coalesce(null, "")`, "null or empty"},
		{`coalesce()`, "at least one argument"},
		{`format("%99999d", 1)`, "more than four digits"},
		{`formatlist("%99999d", [1])`, "more than four digits"},
		{`indent(-1, "a")`, "whole number"},
		{`index(["a"], "b")`, "not in the list"},
		{`index("a", "b")`, "a list is needed"},
		{`length(3)`, "is needed"},
		{`lookup({}, "a")`, "no element"},
		{`lookup("x", "a")`, "a map or an object"},
		{`lookup({}, "a", 1, 2)`, "three arguments"},
		{`matchkeys(["a"], [], ["a"])`, "same length"},
		{`one(["a", "b"])`, "at most one"},
		{`one(toset(["a", "b"]))`, "more than one"},
		{`range(1e7)`, "more than 1000000"},
		{`range(0, 5, -1)`, "leads away"},
		{`range(0, 5, 0)`, "must not be zero"},
		{`range()`, "one, two or three"},
		{`replace("a", "/[/", "b")`, "missing closing"},
		{`setproduct(range(1001), range(1000))`, "more than 1000000"},
		{`sum([])`, "nothing to add"},
		{`sum(["x"])`, "not a number"},
		{`sum("x")`, "a list or set"},
	}
	for _, c := range cases {
		_, err := tryEvaluate(t, c.expr)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.expr, err, c.want)
		}
	}
}

func evaluate(t *testing.T, expr string) string {
	t.Helper()
	got, err := tryEvaluate(t, expr)
	if err != nil {
		t.Errorf("%s: %v", expr, err)
	}
	return got
}

// tryEvaluate returns the JSON of an expression.
func tryEvaluate(t *testing.T, expr string) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "spec.hcl")
	write(t, file, fmt.Appendf(nil, `overlay "x" {
  lowerdirs  = ["/srv/base"]
  mountpoint = "/srv/x"
  unit {
    description = jsonencode(%s)
  }
}
`, expr))
	spec, diags := config.Load([]string{file}, config.Inputs{})
	if diags.HasErrors() {
		return "", diags
	}
	return spec.Overlays[0].Unit.Description, nil
}

func TestAddress(t *testing.T) {
	cases := []struct {
		address config.Address
		want    string
	}{
		{config.Address{Name: "a"}, `overlay.a`},
		{config.Address{Name: "a", Keyed: true}, `overlay.a[""]`},
		{config.Address{Name: "a", Key: `x"y\z`, Keyed: true}, `overlay.a["x\"y\\z"]`},
		{config.Address{Name: "a", Key: "x\ny\t", Keyed: true}, `overlay.a["x\ny\t"]`},
		{config.Address{Name: "a", Key: "${x}%{y}", Keyed: true}, `overlay.a["$${x}%%{y}"]`},
		{config.Address{Name: "a", Key: "é", Keyed: true}, `overlay.a["é"]`},
	}
	for _, c := range cases {
		if got := c.address.String(); got != c.want {
			t.Errorf("%+v = %s, want %s", c.address, got, c.want)
		}
	}
}

func TestEscapeKeyIsInjective(t *testing.T) {
	keys := []string{
		"", ".", "..", "a", "A", "a b", "a%20b", "a%b", "%", "%%", "%25", "é", "\xc3", "a/b", "a\x00b", "~", "-", "_",
	}
	seen := map[string]string{}
	for _, key := range keys {
		got := config.EscapeKey(key)
		if strings.Trim(got, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-%") != "" {
			t.Errorf("%q becomes %q", key, got)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %q both become %q", key, other, got)
		}
		seen[got] = key
	}
}
