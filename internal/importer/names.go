package importer

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// nameAll gives every path a name: its last element, with as many of those before as it takes to tell it from the
// others, and a number where they differ in nothing that a name can hold. kind is what a name begins with that could
// not stand alone.
func nameAll(paths []string, kind string, taken map[string]bool) map[string]string {
	paths = slices.Clone(paths)
	slices.Sort(paths)
	paths = slices.Compact(paths)
	elements := make(map[string][]string, len(paths))
	whole := make(map[string]string, len(paths)) // what a name can hold of the path
	depth := make(map[string]int, len(paths))
	for _, p := range paths {
		elements[p], depth[p] = strings.Split(strings.Trim(p, "/"), "/"), 1
		whole[p] = identifier(elements[p], kind)
	}
	names := make(map[string]string, len(paths))
	for again := true; again; {
		again = false
		first := map[string]string{} // name → whole of the first path that has it
		clash := map[string]bool{}
		for _, p := range paths {
			name := identifier(elements[p][len(elements[p])-depth[p]:], kind)
			if other, ok := first[name]; ok && other != whole[p] {
				clash[name] = true
			}
			names[p], first[name] = name, whole[p]
		}
		for _, p := range paths {
			if (clash[names[p]] || taken[names[p]]) && depth[p] < len(elements[p]) {
				depth[p]++
				again = true
			}
		}
	}
	used := map[string]bool{}
	for _, p := range paths {
		name := names[p]
		for n := 2; used[name] || taken[name]; n++ {
			name = fmt.Sprintf("%s_%d", names[p], n)
		}
		used[name] = true
		names[p] = name
	}
	return names
}

// identifier joins elements of a path to a name of HCL. What a name cannot hold becomes "_".
func identifier(elements []string, kind string) string {
	var b strings.Builder
	for _, r := range strings.Join(elements, "_") {
		if hclsyntax.ValidIdentifier("a" + string(r)) {
			b.WriteRune(r)
		} else if !strings.HasSuffix(b.String(), "_") {
			b.WriteByte('_')
		}
	}
	name := strings.Trim(b.String(), "_-")
	switch {
	case name == "":
		return kind
	case !hclsyntax.ValidIdentifier(name):
		return kind + "_" + name
	}
	return name
}
