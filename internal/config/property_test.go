package config_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/hcl/v2"

	"github.com/overlayd/overlayd/internal/config"
)

// TestOrderDoesNotMatter spreads the blocks of one spec over files at random
// and expects the same spec, places aside.
func TestOrderDoesNotMatter(t *testing.T) {
	blocks := []string{
		`settings {
			state_dir = "${local.data}/state"
			agent {
				metrics_file = "${local.data}/overlayd.prom"
				resync       = "${1 + 1}m"
			}
		}`,
		`variable "names" { default = ["b", "a", "c"] }`,
		`locals { data = "/data/${host.name}" }`,
		`locals { all = { for n in var.names : n => "${local.data}/${n}" } }`,
		`lowerdir "base" { path = "${local.data}/base" }`,
		`lowerdir "tools" { path = "/srv/tools" }`,
		`overlay "one" {
			lowerdirs  = [lowerdir.tools, lowerdir.base]
			mountpoint = "/srv/one"
		}`,
		`overlay "many" {
			for_each   = local.all
			lowerdirs  = [overlay.one.mountpoint, lowerdir.tools]
			mountpoint = "/srv/many/${each.key}"
		}`,
		`overlay "all" {
			lowerdirs  = [for o in values(overlay.single) : o.mountpoint]
			mountpoint = "/srv/all"
			read_only  = true
		}`,
		`overlay "single" {
			for_each   = toset(var.names)
			lowerdirs  = [lowerdir.base]
			mountpoint = "/srv/single/${each.key}"
		}`,
	}
	ignore := cmp.Options{
		cmpopts.IgnoreTypes(hcl.Range{}),
		cmpopts.IgnoreFields(config.Spec{}, "Sources", "Files", "Dirs"),
		cmpopts.IgnoreFields(config.Overlay{}, "Source"),
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	var first *config.Spec
	for range 50 {
		dir := t.TempDir()
		rnd.Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
		files := map[string]string{}
		for _, b := range blocks {
			files[fmt.Sprintf("%d.hcl", rnd.IntN(4))] += b + "\n"
		}
		for name, text := range files {
			write(t, filepath.Join(dir, name), []byte(text))
		}
		spec, diags := config.Load([]string{dir}, config.Inputs{HostName: "h"})
		if len(diags) > 0 {
			t.Fatal(diags)
		}
		if first == nil {
			first = spec
			continue
		}
		if diff := cmp.Diff(first, spec, ignore); diff != "" {
			t.Fatalf("the order of blocks matters:\n%s", diff)
		}
	}
}

// layout is an overlay as far as other overlays are concerned.
type layout struct {
	lower       []string
	upper, work string
	mountpoint  string
}

// TestOverlapsAgainstPairs compares the checks with a plain comparison of all
// pairs, on small specs whose paths collide often.
func TestOverlapsAgainstPairs(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	file := filepath.Join(t.TempDir(), "spec.hcl")
	outcomes := map[bool]int{}
	for range 1000 {
		layouts := randomLayouts(rnd)
		text := renderLayouts(layouts)
		write(t, file, []byte(text))
		_, diags := config.Load([]string{file}, config.Inputs{})
		want := compatible(layouts)
		outcomes[want]++
		if got := !diags.HasErrors(); got != want {
			t.Fatalf("valid = %v, want %v\n%s\n%v", got, want, text, diags)
		}
	}
	if outcomes[true] < 50 || outcomes[false] < 50 {
		t.Errorf("one-sided samples: %v", outcomes)
	}
}

func randomLayouts(rnd *rand.Rand) []layout {
	path := func(top string) string {
		p := top
		for range 1 + rnd.IntN(3) {
			p += "/" + string(rune('a'+rnd.IntN(8)))
		}
		return p
	}
	// Mostly apart, so that some specs are valid.
	place := func(top string) string {
		if rnd.IntN(12) == 0 {
			top = "/m"
		}
		return path(top)
	}
	out := make([]layout, 1+rnd.IntN(4))
	for i := range out {
		for range 1 + rnd.IntN(2) {
			out[i].lower = append(out[i].lower, place("/l"))
		}
		out[i].upper, out[i].work, out[i].mountpoint = place("/u"), place("/w"), path("/m")
	}
	return out
}

func renderLayouts(layouts []layout) string {
	var b strings.Builder
	for i, l := range layouts {
		fmt.Fprintf(&b, "overlay \"o%d\" {\n  lowerdirs = [%q", i, l.lower[0])
		for _, p := range l.lower[1:] {
			fmt.Fprintf(&b, ", %q", p)
		}
		fmt.Fprintf(&b, "]\n  upperdir = %q\n  workdir = %q\n  mountpoint = %q\n}\n", l.upper, l.work, l.mountpoint)
	}
	return b.String()
}

// compatible says by comparing everything with everything whether layouts
// leave each other alone.
func compatible(layouts []layout) bool {
	below := func(p, dir string) bool { return strings.HasPrefix(p, dir+"/") }
	overlap := func(a, b string) bool { return a == b || below(a, b) || below(b, a) }
	for i, a := range layouts {
		if overlap(a.upper, a.work) || below(a.upper, a.mountpoint) || below(a.work, a.mountpoint) {
			return false
		}
		for n, p := range a.lower {
			if below(p, a.mountpoint) {
				return false
			}
			for _, q := range a.lower[n+1:] {
				if overlap(p, q) {
					return false
				}
			}
		}
		for j, b := range layouts {
			for _, data := range []string{b.upper, b.work} {
				if a.mountpoint == data || below(a.mountpoint, data) {
					return false
				}
				if i != j && (overlap(a.upper, data) || overlap(a.work, data)) {
					return false
				}
				if slices.ContainsFunc(a.lower, func(p string) bool { return overlap(p, data) }) {
					return false
				}
			}
			if i != j && a.mountpoint == b.mountpoint {
				return false
			}
		}
	}
	for i := range layouts {
		if height(layouts, i, 0) > 2 {
			return false
		}
	}
	return true
}

// height counts the overlays below one another; a circle counts as high.
func height(layouts []layout, i, depth int) int {
	if depth > len(layouts) {
		return depth
	}
	highest := 1
	for _, p := range layouts[i].lower {
		on := -1
		for j, l := range layouts {
			if j == i || p != l.mountpoint && !strings.HasPrefix(p, l.mountpoint+"/") {
				continue
			}
			if on < 0 || len(l.mountpoint) > len(layouts[on].mountpoint) {
				on = j
			}
		}
		if on >= 0 {
			highest = max(highest, 1+height(layouts, on, depth+1))
		}
	}
	return highest
}

// TestDirectoryIsItsFiles loads the same files by directory and one by one.
func TestDirectoryIsItsFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "spec/a.hcl", []byte(`lowerdir "a" { path = var.a }`))
	write(t, "spec/b.hcl", []byte(`variable "a" { default = "/srv/a" }`))
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	byDir, diags := config.Load([]string{"spec/"}, config.Inputs{})
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	byFile, diags := config.Load([]string{"spec/b.hcl", "spec/a.hcl"}, config.Inputs{})
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	if diff := cmp.Diff(byDir.Lowerdirs, byFile.Lowerdirs); diff != "" {
		t.Error(diff)
	}
	if want := []string{filepath.Join(wd, "spec")}; !slices.Equal(byDir.Dirs, want) {
		t.Errorf("Dirs = %v, want %v", byDir.Dirs, want)
	}
	want := []string{filepath.Join(wd, "spec/a.hcl"), filepath.Join(wd, "spec/b.hcl")}
	if !slices.Equal(byDir.Files, want) {
		t.Errorf("Files = %v, want %v", byDir.Files, want)
	}
	if len(byFile.Dirs) != 0 {
		t.Errorf("Dirs = %v, want none", byFile.Dirs)
	}
}

// TestDefaultPath: without a path the spec is read below the root.
func TestDefaultPath(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, config.DefaultPath, "a.hcl"), []byte(`lowerdir "a" { path = "/srv/a" }`))
	spec, diags := config.Load(nil, config.Inputs{Root: root})
	if len(diags) > 0 || len(spec.Lowerdirs) != 1 {
		t.Errorf("%d lowerdirs, %v", len(spec.Lowerdirs), diags)
	}
}
