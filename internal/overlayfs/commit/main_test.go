package commit_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/commit"
	"github.com/overlayd/overlayd/test/apart"
	"github.com/overlayd/overlayd/test/scramble"
)

// TestMain runs the tests apart, where they can mount.
func TestMain(m *testing.M) { os.Exit(apart.Run(nil, m.Run)) }

// defaults are those of a kernel without wishes. The tests name what they rely on.
var defaults = overlayfs.Defaults{RedirectAlwaysFollow: true}

// bench is a directory with overlays in it.
type bench struct {
	*testing.T
	dir string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t, apart.Dir(t)}
	t.Cleanup(func() {
		if err := os.RemoveAll(b.dir); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bench) check(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// sh runs a shell script in the directory.
func (b *bench) sh(script string) {
	b.Helper()
	cmd := exec.Command("sh", "-euc", script)
	cmd.Dir = b.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// config makes the directories of an overlay called name over lowers. The options are as mount(8) takes them.
func (b *bench) config(name, options string, lowers ...string) overlayfs.Config {
	b.Helper()
	c, err := overlayfs.ParseMountOptions(options)
	b.check(err)
	c.Lower, c.Upper, c.Work = lowers, b.path(name+".upper"), b.path(name+".work")
	for _, dir := range []string{c.Upper, c.Work, b.path(name)} {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			b.Fatal(err)
		}
	}
	return c
}

// mount mounts c at name. It is taken down by the function returned, or at the end.
func (b *bench) mount(name string, c overlayfs.Config) (unmount func()) {
	b.Helper()
	at := b.path(name)
	if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		b.Fatal(err)
	}
	if err := unix.Mount("overlay", at, "overlay", 0, c.KernelData()); err != nil {
		b.Fatalf("cannot mount %s: %v", c.KernelData(), err)
	}
	mounted := true
	unmount = func() {
		if mounted {
			mounted = false
			b.check(unix.Unmount(at, 0))
		}
	}
	b.Cleanup(unmount)
	return unmount
}

// view mounts layers, topmost first, where nothing can be written; what a layer is to others, its root included.
func (b *bench) view(name string, like overlayfs.Config, lowers ...string) string {
	b.Helper()
	empty := b.path("empty")
	if err := os.Mkdir(empty, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		b.Fatal(err)
	}
	c := overlayfs.Config{Lower: append(slices.Clone(lowers), empty), Options: overlayfs.Options{}}
	for _, option := range []string{"userxattr", "redirect_dir", "metacopy"} {
		if value, ok := like.Options[option]; ok {
			c.Options[option] = value
		}
	}
	b.mount(name, c)
	return b.path(name)
}

func (b *bench) client(name string, c overlayfs.Config, mounted bool) commit.Client {
	return commit.Client{
		Address: "overlay." + name, Mountpoint: b.path(name), Mounted: mounted, Config: c, Defaults: defaults,
	}
}

func (b *bench) toDirectory(c commit.Client, name string) commit.Result {
	b.Helper()
	r, err := commit.ToDirectory(context.Background(), c, b.path(name))
	b.check(err)
	return r
}

func (b *bench) toArchive(c commit.Client, name string) commit.Result {
	b.Helper()
	r, err := commit.ToArchive(context.Background(), c, b.path(name))
	b.check(err)
	return r
}

// same fails the test when two views differ, except in lines that ignore knows.
func (b *bench) same(want, got string, ignore func(line string) bool) {
	b.Helper()
	lines, err := scramble.Same(want, got)
	b.check(err)
	lines = slices.DeleteFunc(lines, func(line string) bool { return ignore != nil && ignore(line) })
	if len(lines) > 0 {
		b.Errorf("%s and %s differ:\n%s", want, got, strings.Join(lines, "\n"))
	}
}

func (b *bench) scramble(name string, seed uint64, n int, o scramble.Options) {
	b.Helper()
	log, err := scramble.Run(b.path(name), seed, n, o)
	b.Cleanup(func() {
		if b.Failed() {
			b.Logf("what was done in %s:\n%s", name, strings.Join(log, "\n"))
		}
	})
	b.check(err)
}

// lowers makes n random layers, each but the lowest an upperdir before.
func (b *bench) lowers(n int, seed uint64, options string, o scramble.Options) []string {
	b.Helper()
	bottom := b.path("base")
	b.check(os.Mkdir(bottom, 0o755))
	b.check(scramble.Tree(bottom, seed, o))
	layers := []string{bottom}
	for i := range n - 1 {
		name := fmt.Sprintf("layer%d", i)
		c := b.config(name, options, layers...)
		unmount := b.mount(name, c)
		b.scramble(name, seed+100+uint64(i), 25, o)
		unmount()
		layers = append([]string{c.Upper}, layers...)
	}
	return layers
}
