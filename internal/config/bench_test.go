package config_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/overlayd/overlayd/internal/config"
)

const manyInstances = `
variable "n" {
  type    = number
  default = 10000
}

locals {
  base = "/srv/many"
}

lowerdir "base" {
  path = "${local.base}/base"
}

overlay "client" {
  for_each   = toset([for i in range(var.n) : format("%05d", i)])
  lowerdirs  = [lowerdir.base]
  upperdir   = "${local.base}/data/${each.key}/upper"
  workdir    = "${local.base}/data/${each.key}/work"
  mountpoint = "${local.base}/merged/${each.key}"

  options {
    nosuid = true
    index  = false
  }
  unit {
    description = "client ${each.key}"
  }
}
`

func BenchmarkLoad10000(b *testing.B) {
	b.Chdir(b.TempDir())
	loadAll(b, manyInstances)
}

// BenchmarkValidate10000 has as many blocks as instances, each with a lowerdir
// of its own.
func BenchmarkValidate10000(b *testing.B) {
	b.Chdir(b.TempDir())
	var text strings.Builder
	for i := range 10000 {
		fmt.Fprintf(&text, "lowerdir \"l%d\" {\n  path = \"/srv/base/%d\"\n}\n", i, i)
		fmt.Fprintf(&text, "overlay \"o%d\" {\n  lowerdirs = [lowerdir.l%d]\n  mountpoint = \"/srv/merged/%d\"\n}\n", i, i, i)
	}
	loadAll(b, text.String())
}

// BenchmarkMistakes10000 has a mistake in every block.
func BenchmarkMistakes10000(b *testing.B) {
	b.Chdir(b.TempDir())
	var text strings.Builder
	for i := range 10000 {
		fmt.Fprintf(&text, "overlay \"o%d\" {\n  lowerdirs = [lowerdir.l%d]\n  mountpoint = \"/srv/m/%d/\"\n}\n", i, i, i)
		fmt.Fprintf(&text, "lowerdir \"m%d\" {\n  path = \"/srv/base/%d\"\n}\n", i, i)
	}
	if err := writeFile("many.hcl", text.String()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, diags := config.Load([]string{"many.hcl"}, config.Inputs{}); len(diags) != 20000 {
			b.Fatal(len(diags))
		}
	}
}

// loadAll measures the loading of a spec of ten thousand overlays without a mistake.
func loadAll(b *testing.B, text string) {
	b.Helper()
	if err := writeFile("many.hcl", text); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		spec, diags := config.Load([]string{"many.hcl"}, config.Inputs{})
		if len(diags) > 0 || len(spec.Overlays) != 10000 {
			b.Fatal(len(spec.Overlays), diags)
		}
	}
}
