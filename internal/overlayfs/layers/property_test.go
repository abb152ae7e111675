package layers_test

import (
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/test/apart"
	"github.com/overlayd/overlayd/test/scramble"
)

var seeds = flag.Int("seeds", 8, "random overlays to compare with a full walk, for each kind of overlay")

// What is read from the upperdir is what a full comparison of base and merged says, mounted and not: whatever the
// client did, with all options that change what an upperdir says, and with lowerdirs that were upperdirs.
func TestDiffIsAFullComparison(t *testing.T) {
	for _, k := range []struct {
		name    string
		lowers  int
		options overlayfs.Options
	}{
		{"plain", 1, nil},
		{"redirect", 1, overlayfs.Options{"redirect_dir": "on"}},
		{"metacopy", 1, overlayfs.Options{"metacopy": "on"}},
		{"index", 1, overlayfs.Options{"index": "on"}},
		{"index and metacopy", 1, overlayfs.Options{"index": "on", "metacopy": "on"}},
		{"nfs_export", 1, overlayfs.Options{"nfs_export": "on"}},
		{"nfs_export and redirect", 1, overlayfs.Options{"nfs_export": "on", "redirect_dir": "on"}},
		{"userxattr", 1, overlayfs.Options{"userxattr": ""}},
		{"three lowers", 3, nil},
		{"three lowers, redirect", 3, overlayfs.Options{"redirect_dir": "on"}},
		{"three lowers, metacopy", 3, overlayfs.Options{"metacopy": "on"}},
		{"three lowers, index and metacopy", 3, overlayfs.Options{"index": "on", "metacopy": "on"}},
		{"three lowers, userxattr", 3, overlayfs.Options{"userxattr": ""}},
	} {
		t.Run(k.name, func(t *testing.T) {
			for seed := range uint64(*seeds) {
				t.Run(fmt.Sprint(seed), func(t *testing.T) { compareWithWalk(t, seed, k.lowers, k.options) })
			}
		})
	}
}

func compareWithWalk(t *testing.T, seed uint64, lowers int, options overlayfs.Options) {
	top := apart.Dir(t)
	c, mountpoint := overlay(t, top, lowers, options)
	o := scramble.Options{SameTimes: true, Private: "trusted.overlay."}
	if _, ok := options["userxattr"]; ok {
		o.Private = "user.overlay."
	}
	if err := scramble.Tree(c.Lower[lowers-1], seed, o); err != nil {
		t.Fatal(err)
	}
	// The lowerdirs above are what is left of clients.
	for i := lowers - 2; i >= 0; i-- {
		below := c
		below.Lower, below.Upper, below.Work = c.Lower[i+1:], c.Lower[i], c.Work+fmt.Sprint(i)
		below.Options = c.Options.Clone()
		below.Options["index"] = "off" // a lowerdir's index is not there for those above
		makeDirs(t, below.Work)
		unmount := mount(t, below, mountpoint)
		if _, err := scramble.Run(mountpoint, seed+uint64(100*i)+100, 8, o); err != nil {
			t.Fatal(err)
		}
		unmount()
	}
	base := c.Lower[0]
	if lowers > 1 {
		base = filepath.Join(top, "base")
		makeDirs(t, base)
		mount(t, overlayfs.Config{Lower: c.Lower, Options: readOnly(c.Options)}, base)
	}
	unmount := mount(t, c, mountpoint)
	// Random trees shrink: where much is done, little of the base is left to see.
	log, err := scramble.Run(mountpoint, seed, 5+int(seed%4)*12, o)
	if err != nil {
		t.Fatal(err)
	}
	want, err := scramble.Diff(base, mountpoint)
	if err != nil {
		t.Fatal(err)
	}
	want = slices.DeleteFunc(want, func(line string) bool { return line == "C /" })
	mounted, notes := changes(t, c, mountpoint)
	if notes.Moved {
		t.Error("something moved, says Changes; nothing did")
	}
	unmount()
	unmounted, _ := changes(t, c, "")
	for _, got := range []struct {
		state string
		lines []string
	}{{"mounted", mounted}, {"not mounted", unmounted}} {
		if !slices.Equal(got.lines, want) {
			t.Errorf("%s:\n%s\nafter\n%s", got.state, difference(got.lines, want), strings.Join(log, "\n"))
		}
	}
}

// readOnly gives the options of a read-only view of lowerdirs that were written with o.
func readOnly(o overlayfs.Options) overlayfs.Options {
	out := overlayfs.Options{"redirect_dir": "follow", "metacopy": o["metacopy"]}
	if o["metacopy"] == "on" {
		out["redirect_dir"] = "on"
	}
	if _, ok := o["userxattr"]; ok {
		return overlayfs.Options{"userxattr": ""}
	}
	return out
}

// difference shows what is missing and what is too much.
func difference(got, want []string) string {
	var out []string
	for _, line := range want {
		if !slices.Contains(got, line) {
			out = append(out, fmt.Sprintf("missing: %q", line))
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			out = append(out, fmt.Sprintf("too much: %q", line))
		}
	}
	if out == nil {
		out = []string{fmt.Sprintf("another order: got %q, want %q", got, want)}
	}
	return strings.Join(out, "\n")
}
