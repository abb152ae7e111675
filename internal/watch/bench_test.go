package watch_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/overlayd/overlayd/internal/watch"
)

// BenchmarkFilesSet is what a walk of the unit files of many overlays and their links takes.
func BenchmarkFilesSet(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			units := b.TempDir()
			wants := units + "/overlayd.target.wants"
			if err := os.Mkdir(wants, 0o755); err != nil {
				b.Fatal(err)
			}
			for i := range n {
				name := fmt.Sprintf("/srv-client%05d.mount", i)
				if err := os.WriteFile(units+name, nil, 0o644); err != nil {
					b.Fatal(err)
				}
				if err := os.Symlink(units+name, wants+name); err != nil {
					b.Fatal(err)
				}
			}
			f, err := watch.NewFiles()
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			match := func(name string) bool { return strings.HasSuffix(name, ".mount") }
			for b.Loop() {
				if err := f.Set([]watch.Path{{Path: units, Match: match}, {Path: wants, Match: match}}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
