package config_test

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/config"
)

const manyInstances = `
variable "n" {
  type = number
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

const manyObjects = `
variable "n" {
  type = number
}

overlay "client" {
  for_each   = { for i in range(var.n) : format("%05d", i) => { home = "/srv/data/${i}", layer = "/srv/layers/${i}" } }
  lowerdirs  = [each.value.layer, "/srv/base"]
  upperdir   = "${each.value.home}/upper"
  workdir    = "${each.value.home}/work"
  mountpoint = "/srv/merged/${each.key}"
}
`

// The steps between the numbers show whether something grows faster than they do.
func BenchmarkLoad1000(b *testing.B)  { loadAll(b, 1000, manyInstances, "n=1000") }
func BenchmarkLoad2000(b *testing.B)  { loadAll(b, 2000, manyInstances, "n=2000") }
func BenchmarkLoad4000(b *testing.B)  { loadAll(b, 4000, manyInstances, "n=4000") }
func BenchmarkLoad10000(b *testing.B) { loadAll(b, 10000, manyInstances, "n=10000") }

// BenchmarkSet10000 has for_each take a variable that is a set.
func BenchmarkSet10000(b *testing.B) {
	names := make([]string, 10000)
	for i := range names {
		names[i] = strconv.Quote(fmt.Sprintf("client_%d", i))
	}
	text := strings.NewReplacer("variable \"n\" {\n  type = number", "variable \"names\" {\n  type = set(string)",
		`toset([for i in range(var.n) : format("%05d", i)])`, "var.names").Replace(manyInstances)
	loadAll(b, 10000, text, "names=["+strings.Join(names, ",")+"]")
}

// BenchmarkObjects10000 has instances that differ by more than their key.
func BenchmarkObjects10000(b *testing.B) { loadAll(b, 10000, manyObjects, "n=10000") }

// manyBlocks has as many blocks as instances, each with a lowerdir of its own.
func manyBlocks(n int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "lowerdir \"l%d\" {\n  path = \"/srv/base/%d\"\n}\n", i, i)
		fmt.Fprintf(&text, "overlay \"o%d\" {\n  lowerdirs = [lowerdir.l%d]\n  mountpoint = \"/srv/merged/%d\"\n}\n", i, i, i)
	}
	return text.String()
}

func BenchmarkValidate1000(b *testing.B)  { loadAll(b, 1000, manyBlocks(1000)) }
func BenchmarkValidate4000(b *testing.B)  { loadAll(b, 4000, manyBlocks(4000)) }
func BenchmarkValidate10000(b *testing.B) { loadAll(b, 10000, manyBlocks(10000)) }

func BenchmarkMistakes1000(b *testing.B)  { loadMistakes(b, 1000) }
func BenchmarkMistakes10000(b *testing.B) { loadMistakes(b, 10000) }

// loadMistakes has a mistake in every block.
func loadMistakes(b *testing.B, n int) {
	b.Helper()
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "overlay \"o%d\" {\n  lowerdirs = [lowerdir.l%d]\n  mountpoint = \"/srv/m/%d/\"\n}\n", i, i, i)
		fmt.Fprintf(&text, "lowerdir \"m%d\" {\n  path = \"/srv/base/%d\"\n}\n", i, i)
	}
	measure(b, text.String(), config.Inputs{}, func(_ *config.Spec, found int) bool { return found == 2*n })
}

// loadAll measures the loading of a spec of n overlays without a mistake.
func loadAll(b *testing.B, n int, text string, vars ...string) {
	b.Helper()
	var in config.Inputs
	for _, v := range vars {
		in.Values = append(in.Values, config.ValueArg{Arg: v})
	}
	measure(b, text, in, func(spec *config.Spec, found int) bool { return found == 0 && len(spec.Overlays) == n })
}

func measure(b *testing.B, text string, in config.Inputs, fine func(spec *config.Spec, found int) bool) {
	b.Helper()
	b.Chdir(b.TempDir())
	if err := writeFile("many.hcl", text); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	before := cpuTime(b)
	var spec *config.Spec
	for b.Loop() {
		s, diags := config.Load([]string{"many.hcl"}, in)
		if spec = s; !fine(spec, len(diags)) {
			b.Fatal(len(spec.Overlays), diags)
		}
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(kept(spec)), "kept-B")
}

// kept is how much memory stays in use for what was loaded.
func kept(spec *config.Spec) uint64 {
	var with, without runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&with)
	runtime.KeepAlive(spec)
	runtime.GC()
	runtime.ReadMemStats(&without)
	return with.HeapAlloc - without.HeapAlloc
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
