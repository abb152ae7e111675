package docs_test

import (
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// prelude is what a fragment may refer to. What the fragment declares itself is
// left out.
var prelude = []struct{ kind, name, text string }{
	{"variable", "clients", `variable "clients" {
  type    = set(string)
  default = ["ada", "grace"]
}`},
	{"variable", "course", `variable "course" {
  type    = string
  default = "databases"
}`},
	{"locals", "base", `locals { base = "/srv/lab" }`},
	{"lowerdir", "base", `lowerdir "base" { path = "/srv/base" }`},
	{"lowerdir", "tools", `lowerdir "tools" { path = "/srv/tools" }`},
	{"overlay", "client", `overlay "client" {
  for_each   = var.clients
  lowerdirs  = [lowerdir.base]
  mountpoint = "/srv/clients/${each.key}"
}`},
}

// joined makes a spec of a fragment. The fragment keeps its line numbers but for
// the lines that are put before it.
func joined(t *testing.T, at, text string) map[string]string {
	t.Helper()
	file, diags := hclsyntax.ParseConfig([]byte(text), at, hcl.InitialPos)
	if diags.HasErrors() {
		t.Errorf("%s: %v", at, diags)
		return nil
	}
	declared := map[[2]string]bool{}
	for _, b := range file.Body.(*hclsyntax.Body).Blocks {
		if b.Type == "locals" {
			for name := range b.Body.Attributes {
				declared[[2]string{b.Type, name}] = true
			}
		}
		declared[[2]string{b.Type, strings.Join(b.Labels, " ")}] = true
	}
	var rest []string
	for _, p := range prelude {
		if !declared[[2]string{p.kind, p.name}] {
			rest = append(rest, p.text)
		}
	}
	return map[string]string{"fragment.hcl": text, "prelude.hcl": strings.Join(rest, "\n")}
}

// wrapped puts the inside of an overlay into one, on the line before it.
func wrapped(t *testing.T, at, text string) string {
	t.Helper()
	file, diags := hclsyntax.ParseConfig([]byte(text), at, hcl.InitialPos)
	if diags.HasErrors() {
		t.Errorf("%s: %v", at, diags)
		return ""
	}
	given := file.Body.(*hclsyntax.Body).Attributes
	end := "}\n"
	for name, value := range map[string]string{"lowerdirs": "[lowerdir.base]", "mountpoint": `"/srv/merged/piece"`} {
		if given[name] == nil {
			end = name + " = " + value + "\n" + end
		}
	}
	return "overlay \"piece\" {\n" + text + end
}
