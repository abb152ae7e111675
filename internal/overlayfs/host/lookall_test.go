package host_test

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/test/apart"
)

// TestLookAll: many looks at once see what one after the other sees, in the order asked for.
func TestLookAll(t *testing.T) {
	top := apart.Dir(t)
	c, target := overlay(t, top, nil)
	mount(t, target, c)
	paths := []string{top, c.Upper, c.Work, target, "/", top + "/none/below", "relative", top + "/file/x", top + "/link"}
	write(t, top+"/file", "")
	if err := os.Symlink(c.Upper, top+"/link"); err != nil {
		t.Fatal(err)
	}
	for i := range 700 { // more than one goroutine gets
		paths = append(paths, dirs(t, top, fmt.Sprintf("many/%d/d", i))[0])
	}
	p := host.NewProber(table(t))
	var want []overlayfs.PathInfo
	for _, path := range paths {
		want = append(want, p.Look(path))
	}
	if diff := cmp.Diff(want, host.LookAll(table(t), paths, host.Inside)); diff != "" {
		t.Errorf("one after the other -, at once +:\n%s", diff)
	}
	if got := host.LookAll(nil, nil, host.Inside); len(got) != 0 {
		t.Errorf("a look at nothing: %v", got)
	}
	for _, depth := range []host.Depth{host.Layer, host.Outside} {
		less := slices.Clone(want)
		for i := range less {
			less[i].Empty = false
			less[i].CaseFold = less[i].CaseFold && depth == host.Layer
		}
		if diff := cmp.Diff(less, host.LookAll(table(t), paths, depth)); diff != "" {
			t.Errorf("depth %d (-want +got):\n%s", depth, diff)
		}
	}

	// Of the overlay itself Look tells the merged root, and so does Identify; a link counts as where it leads.
	ids := host.Identify(paths)
	for i, path := range paths {
		id := want[i].ID
		if path == top+"/link" {
			id = want[slices.Index(paths, c.Upper)].ID
		}
		if ids[i] != id {
			t.Errorf("%s is %v, want %v", path, ids[i], id)
		}
	}
}
