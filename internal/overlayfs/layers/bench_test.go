package layers_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/overlayd/overlayd/internal/overlayfs/layers"
)

// BenchmarkChanges lists a client with 100,000 changed files, over a base with as many. Allocated memory in use must
// not grow with their number.
func BenchmarkChanges(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("trusted xattrs need root")
	}
	const dirs, files = 500, 200
	top := b.TempDir()
	c, _ := overlay(b, top, 1, nil)
	for d := range dirs {
		for _, layer := range []string{c.Lower[0], c.Upper} {
			dir := filepath.Join(layer, fmt.Sprint(d))
			makeDirs(b, dir)
			for f := range files {
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("file", f)), []byte(layer), 0o644); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	v, err := layers.Open(c, "", kernelDefaults)
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	var before, late runtime.MemStats
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		runtime.GC()
		runtime.ReadMemStats(&before)
		_, err := v.Changes(b.Context(), func(layers.Change) error {
			if n++; n == dirs*files-1 {
				runtime.GC()
				runtime.ReadMemStats(&late)
			}
			return nil
		})
		if err != nil || n != dirs*files {
			b.Fatalf("%d changes, error %v", n, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(dirs*files), "ns/file")
	b.ReportMetric(float64(int64(late.HeapAlloc)-int64(before.HeapAlloc))/1024, "KiB-in-use")
}
