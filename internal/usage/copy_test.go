package usage_test

import (
	"flag"
	"fmt"
	"maps"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/usage"
	"github.com/overlayd/overlayd/test/apart"
	"github.com/overlayd/overlayd/test/scramble"
)

var seeds = flag.Int("seeds", 3, "random overlays to make full copies of, for each kind of overlay")

// mount mounts an overlay; the function it gives takes it down again.
func mount(t *testing.T, c overlayfs.Config, at string) (unmount func()) {
	t.Helper()
	if err := unix.Mount("test", mkdir(t, at), "overlay", 0, c.KernelData()); err != nil {
		t.Fatalf("%s: %v", c.KernelData(), err)
	}
	return func() {
		t.Helper()
		if err := unix.Unmount(at, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// measure measures, and fails for what could not be read.
func measure(t *testing.T, clients []usage.Overlay, others ...usage.Overlay) usage.Report {
	t.Helper()
	r, err := usage.Measure(t.Context(), clients, usage.Options{Others: append(others, clients...), Parallel: 4})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Clients {
		if c.StoredErr != nil || c.FullErr != nil {
			t.Error(c.Address, c.StoredErr, c.FullErr)
		}
	}
	for _, b := range r.Bases {
		if b.Err != nil {
			t.Error(b.Err)
		}
	}
	return r
}

// shown gives what the files of a view take, each once, as the kernel shows them.
func shown(t *testing.T, merged string) int64 {
	t.Helper()
	out := sh(t, merged, `find . ! -type d -printf '%D:%i %b\n' | sort -u | awk '{n += $2} END {printf "%d", n*512}'`)
	n, err := strconv.ParseInt(out, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// fullCopy makes a full copy of what is mounted, and gives what it takes. cp(1) makes holes of its own, so there must
// be none before.
func fullCopy(t *testing.T, merged, to string) int64 {
	t.Helper()
	sh(t, merged, `find . -type f -printf '%b %s\0%p\0' |
		while read -rd '' blocks size && IFS= read -rd '' file; do
			if ((blocks * 512 < size)); then cat -- "$file" >../dense && cat ../dense >"$file" || :; fi
		done; rm -f ../dense`)
	sh(t, mkdir(t, to), `cp -a "`+merged+`/." . || :`) // all but what the overlay lists and lets nobody look at
	return du(t, to)
}

// What a full copy would take is what one takes, whatever a client did: with all options that change what an upperdir
// says, with lowerdirs that were upperdirs, mounted and not. Directories take nothing on tmpfs.
func TestFullCopyIsOne(t *testing.T) {
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
		{"userxattr", 1, overlayfs.Options{"userxattr": ""}},
		{"two lowers", 2, nil},
		{"three lowers", 3, nil},
		{"three lowers, redirect", 3, overlayfs.Options{"redirect_dir": "on"}},
		{"three lowers, metacopy", 3, overlayfs.Options{"metacopy": "on"}},
		{"three lowers, userxattr", 3, overlayfs.Options{"userxattr": ""}},
	} {
		t.Run(k.name, func(t *testing.T) {
			for seed := range uint64(*seeds) {
				t.Run(fmt.Sprint(seed), func(t *testing.T) { compareWithCopy(t, seed, k.lowers, k.options) })
			}
		})
	}
}

func compareWithCopy(t *testing.T, seed uint64, lowers int, options overlayfs.Options) {
	top := apart.Dir(t)
	merged := filepath.Join(top, "merged")
	c := overlayfs.Config{
		Upper: mkdir(t, top, "upper"), Work: mkdir(t, top, "work"), Options: overlayfs.Pin(options),
	}
	for i := range lowers {
		c.Lower = append(c.Lower, mkdir(t, top, fmt.Sprint("lower", i)))
	}
	o := scramble.Options{}
	bottom := c.Lower[lowers-1]
	if err := scramble.Tree(bottom, seed, o); err != nil {
		t.Fatal(err)
	}
	// Something larger than a page, to be deleted, changed and renamed, and files with several names.
	sh(t, bottom, `mkdir -p big/a/b big/c
		for f in big/f big/a/g big/a/b/h big/c/i; do head -c 50000 /dev/urandom >$f; done
		truncate -s 1M big/c/holes; ln big/f big/a/f2; ln big/a/b/h big/c/h2; ln big/c/h2 h3`)
	play := func(on string, seed uint64) []string {
		log, err := scramble.Run(on, seed, 40, o)
		if err != nil {
			t.Fatal(err)
		}
		some := []string{
			`rm -rf big/a/b`, `rm -f big/f`, `chmod 600 big/a/g`, `mv big/c big/a/was-c`, `rm -rf big/a; mkdir -p big/a/b`,
			`echo x >>big/a/f2`, `rm -rf big`, `rm -f h3; mkdir h3; echo new >h3/f`, `ln h3 h4`, `rm -rf big/a; echo f >big/a`,
		}
		for i, script := range some {
			if seed>>(i%7)&1 == uint64(i)%2 {
				log = append(log, script)
				sh(t, on, `{ `+script+`; } 2>/dev/null || true`)
			}
		}
		return log
	}
	for i := lowers - 2; i >= 0; i-- {
		below := c
		below.Lower, below.Upper, below.Work = c.Lower[i+1:], c.Lower[i], mkdir(t, fmt.Sprint(c.Work, i))
		below.Options = maps.Clone(c.Options)
		below.Options["index"] = "off" // a lowerdir's index is not there for those above
		unmount := mount(t, below, merged)
		play(merged, 3*seed+uint64(i)+1)
		unmount()
	}
	unmount := mount(t, c, merged)
	log := play(merged, seed)
	client := usage.Overlay{Address: "overlay.x", Mountpoint: merged, Config: c, Mounted: true}
	fullCopyIs := func(r usage.Report, what string, want int64) {
		t.Helper()
		if got := r.Clients[0].FullCopy; got != want {
			t.Errorf("mounted %t: %d bytes, %s has %d\nafter\n%s", client.Mounted, got, what, want, strings.Join(log, "\n"))
		}
	}
	fullCopyIs(measure(t, []usage.Overlay{client}), "the view", shown(t, merged))
	want := fullCopy(t, merged, filepath.Join(top, "copy"))
	for range 2 {
		r := measure(t, []usage.Overlay{client})
		fullCopyIs(r, "a full copy", want)
		if got, want := r.Clients[0].Stored.Bytes, du(t, c.Upper); got != want {
			t.Errorf("stored: %d bytes, du says %d", got, want)
		}
		_, bases, _, complete := r.Total()
		if want := du(t, c.Lower...); bases != want || !complete || len(r.Bases) != lowers {
			t.Errorf("bases: %d bytes, du says %d; complete %t; %+v", bases, want, complete, r.Bases)
		}
		if client.Mounted {
			unmount()
		}
		client.Mounted = false
	}
}
