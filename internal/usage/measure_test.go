package usage_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/usage"
	"github.com/overlayd/overlayd/test/apart"
)

// newClient makes the directories of a client NAME below top: NAME/upper, NAME/work, mounted at m/NAME. Lowerdirs are
// paths below top.
func newClient(t *testing.T, top, name string, lower ...string) usage.Overlay {
	t.Helper()
	c := overlayfs.Config{
		Upper: mkdir(t, top, name, "upper"), Work: mkdir(t, top, name, "work"), Options: overlayfs.Pin(nil),
	}
	for _, l := range lower {
		c.Lower = append(c.Lower, mkdir(t, top, l))
	}
	return usage.Overlay{Address: "overlay." + name, Mountpoint: mkdir(t, top, "m", name), Config: c}
}

func mounted(t *testing.T, o usage.Overlay) usage.Overlay {
	t.Helper()
	mount(t, o.Config, o.Mountpoint)
	o.Mounted = true
	return o
}

// wantBases asks for these bases, "base 8192", in bytes.
func wantBases(t *testing.T, top string, r usage.Report, want ...string) {
	t.Helper()
	var got []string
	for _, b := range r.Bases {
		got = append(got, fmt.Sprintf("%s %d", strings.TrimPrefix(b.Path, top+"/"), b.Stored.Bytes))
	}
	if !slices.Equal(got, want) {
		t.Errorf("bases %q, want %q", got, want)
	}
}

// wantClient asks for what a client stores and what a full copy of it would take, in bytes.
func wantClient(t *testing.T, r usage.Report, i int, stored, full int64) {
	t.Helper()
	c := r.Clients[i]
	if c.Stored.Bytes != stored || c.FullCopy != full {
		t.Errorf("%s stores %d, a full copy has %d; want %d, %d", c.Address, c.Stored.Bytes, c.FullCopy, stored, full)
	}
}

const (
	page = 4096 // what a small file takes on tmpfs
	data = `head -c 100000 /dev/urandom >`
	size = 25 * page // of a file made with it
)

// A base is counted once, whoever shares it.
func TestBaseIsStoredOnce(t *testing.T) {
	top := apart.Dir(t)
	var clients []usage.Overlay
	for i := range 20 {
		clients = append(clients, mounted(t, newClient(t, top, fmt.Sprint("c", i), "base")))
	}
	if err := unix.Unmount(clients[1].Mountpoint, 0); err != nil {
		t.Fatal(err)
	}
	clients[1].Mounted = false
	sh(t, top, `mkdir -p base/d/e; `+data+`base/f; `+data+`base/d/g; ln base/d/g base/d/e/h
		echo x >m/c0/new; rm m/c2/d/g; rm -r m/c3/d; for i in {4..19}; do rm -r m/c$i/d/e; done`)
	r := measure(t, clients)
	wantBases(t, top, r, fmt.Sprint("base ", 2*size))
	wantClient(t, r, 0, page, 2*size+page)
	wantClient(t, r, 1, 0, 2*size)
	wantClient(t, r, 2, 0, 2*size) // the other name is still there
	wantClient(t, r, 3, 0, size)
	wantClient(t, r, 4, 0, 2*size)
	own, bases, full, complete := r.Total()
	if own != page || bases != 2*size || full != 39*size+page || !complete {
		t.Errorf("total %d, %d, %d, %t", own, bases, full, complete)
	}
}

// Hard links between layers count where they come first.
func TestHardLinksBetweenLayers(t *testing.T) {
	top := apart.Dir(t)
	a, b := newClient(t, top, "a", "base1"), newClient(t, top, "b", "base2")
	sh(t, top, data+`base1/f; ln base1/f base2/f; ln base1/f a/upper/f; echo x >base2/g`)
	r := measure(t, []usage.Overlay{a, b})
	wantBases(t, top, r, fmt.Sprint("base1 ", size), fmt.Sprint("base2 ", page))
	wantClient(t, r, 0, 0, size)
	wantClient(t, r, 1, 0, size+page)
}

// A layer inside another one, or that is some client's upperdir, is not counted twice, and each client sees all of its
// own.
func TestLayersInLayers(t *testing.T) {
	top := apart.Dir(t)
	outer, inner := newClient(t, top, "outer", "base"), newClient(t, top, "inner", "base/inner")
	sh(t, top, data+`base/f; `+data+`base/inner/g`)
	r := measure(t, []usage.Overlay{outer, inner})
	wantBases(t, top, r, fmt.Sprint("base ", size), fmt.Sprint("base/inner ", size))
	wantClient(t, r, 0, 0, 2*size)
	wantClient(t, r, 1, 0, size)

	// an upperdir as a layer
	sh(t, top, data+`outer/upper/h`)
	over := newClient(t, top, "over", "outer/upper")
	r = measure(t, []usage.Overlay{outer, over})
	wantBases(t, top, r, fmt.Sprint("base ", 2*size))
	wantClient(t, r, 0, size, 3*size)
	wantClient(t, r, 1, 0, size)
	r = measure(t, []usage.Overlay{over}, outer)
	wantBases(t, top, r, fmt.Sprint("outer/upper ", size))
}

// One layer by two paths is one.
func TestSameLayerTwice(t *testing.T) {
	top := apart.Dir(t)
	a, b, c := newClient(t, top, "a", "base"), newClient(t, top, "b", "bind"), newClient(t, top, "c")
	sh(t, top, data+`base/f; ln -s base link`)
	if err := unix.Mount(filepath.Join(top, "base"), filepath.Join(top, "bind"), "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	c.Config.Lower = []string{filepath.Join(top, "link")}
	r := measure(t, []usage.Overlay{a, b, c})
	wantBases(t, top, r, fmt.Sprint("base ", size))
	for i := range 3 {
		wantClient(t, r, i, 0, size)
	}
}

// A layer that is another overlay is stored in the layers of that, mounted or not.
func TestStacked(t *testing.T) {
	for _, up := range []bool{true, false} {
		t.Run(fmt.Sprintf("mounted %t", up), func(t *testing.T) {
			top := apart.Dir(t)
			sh(t, top, `mkdir -p base/d base/e; `+data+`base/d/f; `+data+`base/e/g`)
			lower := mounted(t, newClient(t, top, "lower", "base"))
			sh(t, top, `rm m/lower/d/f; `+data+`m/lower/new; `+data+`m/lower/e/new`)
			upper, part := newClient(t, top, "upper", "m/lower"), newClient(t, top, "part", "m/lower/e")
			if up {
				upper, part = mounted(t, upper), mounted(t, part)
				sh(t, top, `rm m/upper/new; echo x >m/part/x`)
			} else {
				sh(t, top, `mknod upper/upper/new c 0 0; echo x >part/upper/x`)
				if err := unix.Unmount(lower.Mountpoint, 0); err != nil {
					t.Fatal(err)
				}
				lower.Mounted = false
			}
			r := measure(t, []usage.Overlay{upper, lower})
			wantBases(t, top, r, fmt.Sprint("base ", 2*size))
			wantClient(t, r, 0, 0, 2*size)
			wantClient(t, r, 1, 2*size, 3*size)

			r = measure(t, []usage.Overlay{upper}, lower)
			wantBases(t, top, r, fmt.Sprint("base ", 2*size), fmt.Sprint("lower/upper ", 2*size))
			wantClient(t, r, 0, 0, 2*size)

			if up { // not mounted, there is no such directory to be a layer
				r = measure(t, []usage.Overlay{part}, lower)
				wantBases(t, top, r, fmt.Sprint("base/e ", size), fmt.Sprint("lower/upper/e ", size))
				wantClient(t, r, 0, page, 2*size+page)
			}
		})
	}
}

// An overlay may be mounted over its own base, which nobody sees then.
func TestMountedOverItsBase(t *testing.T) {
	top := apart.Dir(t)
	c := newClient(t, top, "a", "m/a")
	sh(t, top, data+`m/a/f; `+data+`m/a/g`)
	c = mounted(t, c)
	sh(t, top, `rm m/a/f; echo x >m/a/new`)
	r := measure(t, []usage.Overlay{c})
	wantBases(t, top, r, fmt.Sprint("m/a ", 2*size))
	wantClient(t, r, 0, page, size+page)
}

// What is read-only stores nothing, and still would be copied.
func TestReadOnly(t *testing.T) {
	top := apart.Dir(t)
	sh(t, top, `mkdir one two; `+data+`one/f; `+data+`two/f; `+data+`two/g`)
	r := measure(t, []usage.Overlay{{Config: overlayfs.Config{Lower: []string{top + "/one", top + "/two"}}}})
	wantBases(t, top, r, fmt.Sprint("one ", size), fmt.Sprint("two ", 2*size))
	wantClient(t, r, 0, 0, 2*size)
}

// A middle layer that replaces a directory hides what is below it, also from what the client deletes.
func TestHiddenBelowHidden(t *testing.T) {
	top := apart.Dir(t)
	c := newClient(t, top, "c", "middle", "base")
	sh(t, top, `mkdir -p base/a/b base/z/b; `+data+`base/a/b/f; `+data+`base/z/b/f
		mkdir -p middle/a/b; setfattr -n trusted.overlay.opaque -v y middle/a; echo x >middle/a/b/g; `+data+`middle/k`)
	r := measure(t, []usage.Overlay{c})
	wantClient(t, r, 0, 0, 2*size+page)
	sh(t, top, `mkdir c/upper/a; mknod c/upper/a/b c 0 0; mkdir c/upper/z; mknod c/upper/z/b c 0 0`)
	r = measure(t, []usage.Overlay{c})
	wantClient(t, r, 0, 0, size)
}

// What cannot be read is told in its place, and the others are measured.
func TestUnreadable(t *testing.T) {
	top := apart.Dir(t)
	good, bad := newClient(t, top, "good", "base"), newClient(t, top, "bad", "nowhere")
	gone := newClient(t, top, "gone", "base")
	sh(t, top, data+`base/f; rmdir nowhere gone/upper`)
	r, err := usage.Measure(t.Context(), []usage.Overlay{good, bad, gone}, usage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	wantClient(t, r, 0, 0, size)
	wantClient(t, r, 1, 0, 0)
	if c := r.Clients[1]; c.StoredErr != nil || c.FullErr == nil || !strings.Contains(c.FullErr.Error(), "nowhere") {
		t.Errorf("got %v, %v", c.StoredErr, c.FullErr)
	}
	if c := r.Clients[2]; !errors.Is(c.StoredErr, os.ErrNotExist) || c.FullErr == nil {
		t.Errorf("got %v, %v", c.StoredErr, c.FullErr)
	}
	if b := r.Bases[1]; !errors.Is(b.Err, os.ErrNotExist) || !strings.Contains(b.Err.Error(), b.Path) {
		t.Errorf("got %+v", b)
	}
	if _, _, _, complete := r.Total(); complete {
		t.Error("the total is said to be complete")
	}
}

func TestMeasureProgress(t *testing.T) {
	top := apart.Dir(t)
	a, b := newClient(t, top, "a", "base"), newClient(t, top, "b", "base")
	sh(t, top, `cd base; seq 3000 | xargs touch`)
	var done, steps atomic.Int64
	var entries atomic.Int64
	_, err := usage.Measure(t.Context(), []usage.Overlay{a, b}, usage.Options{
		Parallel: 4, Progress: func(d, s int, e int64) { done.Store(int64(d)); steps.Store(int64(s)); entries.Store(e) },
	})
	if err != nil || done.Load() != steps.Load() || steps.Load() < 5 || entries.Load() < 3000 {
		t.Errorf("%d of %d steps, %d entries, %v", done.Load(), steps.Load(), entries.Load(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = usage.Measure(ctx, []usage.Overlay{a, b}, usage.Options{Progress: func(int, int, int64) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
