package commit_test

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/overlayd/overlayd/test/scramble"
)

var seeds = flag.Int("seeds", 3, "random overlays to commit, for each kind of overlay")

// kinds are overlays that keep changes in different ways.
var kinds = []struct {
	options string
	o       scramble.Options
}{
	{"redirect_dir=off,index=off,metacopy=off", scramble.Options{Private: "trusted.overlay.", WhiteoutNames: true}},
	{"redirect_dir=on,index=off,metacopy=off", scramble.Options{Private: "trusted.overlay.", OneName: true}},
	{"redirect_dir=on,index=off,metacopy=off", scramble.Options{}},
	{"redirect_dir=on,index=off,metacopy=on", scramble.Options{OneName: true}},
	{"redirect_dir=off,index=on,metacopy=off", scramble.Options{WhiteoutNames: true}},
	{"redirect_dir=on,index=on,metacopy=on", scramble.Options{OneName: true}},
	{"userxattr", scramble.Options{Private: "user.overlay."}},
}

// A layer on top of the lowerdirs gives the client's view: to the nanosecond, the xattr, and the name of a file.
func TestDirectoryGivesTheView(t *testing.T) {
	for i, kind := range kinds {
		for lowers := 1; lowers <= 2; lowers++ {
			for seed := range uint64(*seeds) {
				t.Run(fmt.Sprintf("%d/%s/%d/%d", i, kind.options, lowers, seed), func(t *testing.T) {
					b := newBench(t)
					base := b.lowers(lowers, seed, kind.options, kind.o)
					c := b.config("client", kind.options, base...)
					unmount := b.mount("client", c)
					b.scramble("client", seed, 40, kind.o)
					mounted := b.toDirectory(b.client("client", c, true), "mounted")
					unmount()
					unmounted := b.toDirectory(b.client("client", c, false), "unmounted")
					if fmt.Sprint(mounted) != fmt.Sprint(unmounted) {
						t.Errorf("mounted it gave %+v, and %+v when it was not", mounted, unmounted)
					}
					b.same(b.path("mounted"), b.path("unmounted"), nil)
					b.mount("client", c)
					got := b.view("got", c, append([]string{b.path("mounted")}, base...)...)
					b.same(b.path("client"), got, func(line string) bool {
						// The other names of a file that was moved with its directory stay behind.
						return slices.ContainsFunc(mounted.Warnings, func(w string) bool { return strings.Contains(w, "copies") }) &&
							strings.HasPrefix(line, "only in "+b.path("client")+" one file")
					})
				})
			}
		}
	}
}
