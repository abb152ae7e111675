package layers_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/layers"
	"github.com/overlayd/overlayd/test/apart"
)

func want(t *testing.T, got []string, want string) {
	t.Helper()
	if text := strings.Join(got, ", "); text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

// Layers of data only are found by absolute redirects from metacopies, and no other way, whatever redirect_dir says.
func TestDataOnlyLayers(t *testing.T) {
	top := apart.Dir(t)
	c, mountpoint := overlay(t, top, 1, overlayfs.Options{"metacopy": "on"})
	c.Data = []string{filepath.Join(top, "d1"), filepath.Join(top, "d2")}
	build(t, top, `
		dir d1; file d2/objects/1 text; file d2/seen no; file d1/objects/dir/x
		file l1/a; size l1/a 4; mark l1/a metacopy ""; mark l1/a redirect /objects/1; file u/a text
		file l1/b; size l1/b 4; mark l1/b metacopy ""; mark l1/b redirect /objects/1; file u/b next
		file l1/c; size l1/c 4; mark l1/c metacopy ""; mark l1/c redirect /objects/none; file u/c text`)
	mount(t, c, mountpoint)
	got, _ := changes(t, c, mountpoint)
	want(t, got, "C /b, C /c")
}

// With nfs_export a directory is merged only with the very one it was copied up from.
func TestOtherOrigin(t *testing.T) {
	top := apart.Dir(t)
	c, mountpoint := overlay(t, top, 1, overlayfs.Options{"nfs_export": "on"})
	build(t, top, `file l1/d/a; file l1/e/a`)
	unmount := mount(t, c, mountpoint)
	build(t, top, `file m/d/b; file m/e/b`)
	unmount()
	if err := os.Rename(c.Lower[0]+"/d", top+"/elsewhere"); err != nil {
		t.Fatal(err)
	}
	build(t, top, `file l1/d/c`)
	got, _ := changes(t, c, "")
	want(t, got, "A /d/b, D /d/c, A /e/b")
	mount(t, c, mountpoint)
	if seen := slices.Sorted(maps.Keys(lookAround(t, mountpoint))); !slices.Equal(seen,
		[]string{"/d", "/d/b", "/e", "/e/a", "/e/b"}) {
		t.Errorf("the kernel shows %q", seen)
	}
}

// What is mounted below a layer is not part of it, and the overlay may hide its own lowerdir.
func TestLayersAsTheKernelHasThem(t *testing.T) {
	top := apart.Dir(t)
	c, _ := overlay(t, top, 1, nil)
	build(t, top, `file l1/a old; dir l1/sub; dir u/sub; file u/a new`)
	for _, at := range []string{"l1/sub", "u/sub"} {
		target := filepath.Join(top, at)
		if err := unix.Mount("other", target, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(target, 0); err != nil {
				t.Error(err)
			}
		})
	}
	build(t, top, `file l1/sub/mounted; file u/sub/mounted2`)
	got, _ := changes(t, c, "")
	want(t, got, "C /a")
	mount(t, c, c.Lower[0])
	got, _ = changes(t, c, c.Lower[0])
	want(t, got, "C /a")
}

// A layer given as a symlink is what the symlink leads to, as for the kernel; a symlink below is just a symlink.
func TestSymlinks(t *testing.T) {
	top := apart.Dir(t)
	c, _ := overlay(t, top, 1, nil)
	build(t, top, `file l1/d/a; symlink link u; file other/secret`)
	build(t, top, `symlink u/d `+top+`/other`)
	c.Upper = filepath.Join(top, "link")
	got, _ := changes(t, c, "")
	want(t, got, "C /d")
}

func TestOpenRefuses(t *testing.T) {
	top := apart.Dir(t)
	c, _ := overlay(t, top, 2, nil)
	build(t, top, `file file`)
	none := top + "/none"
	for _, test := range []struct {
		name   string
		change func(*overlayfs.Config)
		want   string
		is     error
	}{
		{"no upperdir", func(c *overlayfs.Config) { c.Upper = "" }, "the overlay is read-only", nil},
		{"no lowerdirs", func(c *overlayfs.Config) { c.Lower = nil }, "the overlay has no lowerdirs", nil},
		{
			"missing", func(c *overlayfs.Config) { c.Lower[1] = none },
			"cannot open the lowerdir " + none, os.ErrNotExist,
		},
		{
			"missing upperdir", func(c *overlayfs.Config) { c.Upper = none },
			"cannot open the upperdir " + none, os.ErrNotExist,
		},
		{
			"missing data", func(c *overlayfs.Config) { c.Data = []string{none} },
			"cannot open the data-only lowerdir " + none, os.ErrNotExist,
		},
		{"relative", func(c *overlayfs.Config) { c.Lower[0] = "l/A" }, `the lowerdir "l/A": the path is relative`, nil},
		{
			"no directory", func(c *overlayfs.Config) { c.Lower[0] = top + "/file" },
			"/file: not a directory", unix.ENOTDIR,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			bad := c
			bad.Lower = slices.Clone(c.Lower)
			test.change(&bad)
			v, err := layers.Open(bad, "", kernelDefaults)
			if err == nil {
				v.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), test.want) || test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("error %q, want %q", err, test.want)
			}
		})
	}
	if n := openFiles(t); n > 30 {
		t.Errorf("%d descriptors are open after failures", n)
	}
}

// A hole is not read, so that a file that is all hole costs nothing, and one with little in it little.
func TestHoles(t *testing.T) {
	top := apart.Dir(t)
	c, _ := overlay(t, top, 1, nil)
	const size = 1 << 50
	for _, file := range []struct {
		path string
		at   int64
	}{
		{"l1/same", size - 5},
		{"u/same", size - 5},
		{"l1/other", 1 << 40},
		{"u/other", 1 << 41},
		{"l1/empty", -1},
		{"u/empty", -1},
		{"l1/zeros", -1},
		{"u/zeros", 1 << 30},
	} {
		f, err := os.Create(filepath.Join(top, file.path))
		if err != nil {
			t.Fatal(err)
		}
		if file.at >= 0 {
			text := "data"
			if strings.HasSuffix(file.path, "zeros") {
				text = "\x00\x00"
			}
			if _, err := f.WriteAt([]byte(text), file.at); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	got, _ := changes(t, c, "")
	want(t, got, "C /other")
}

// What each returns ends the walk; so does its context.
func TestTheWalkEnds(t *testing.T) {
	top := apart.Dir(t)
	c, _ := overlay(t, top, 1, nil)
	build(t, top, `file l1/x; file u/a; file u/b`)
	v, err := layers.Open(c, "", kernelDefaults)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	stop, calls := errors.New("stop"), 0
	_, err = v.Changes(t.Context(), func(layers.Change) error { calls++; return stop })
	if calls != 1 || err != stop { //nolint:errorlint // as it is
		t.Errorf("%d calls, error %v", calls, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	calls = 0
	_, err = v.Changes(ctx, func(layers.Change) error { calls++; cancel(); return nil })
	if calls != 1 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d calls, error %v", calls, err)
	}
}

// Walk hands out both sides with all that there is to know of them.
func TestWalk(t *testing.T) {
	top := apart.Dir(t)
	c, _ := overlay(t, top, 2, overlayfs.Options{"metacopy": "on"})
	build(t, top, `
		file l2/file text; xattr l2/file user.base 1; symlink l2/link to; file l2/gone/x
		file u/file; size u/file 4; mark u/file metacopy ""; xattr u/file user.mine 2; mark u/file overlay.opaque y
		symlink u/link from; whiteout u/gone; dir u/dir; device u/device; file u/refused; mark u/refused metacopy ""`)
	v, err := layers.Open(c, "", kernelDefaults)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	var lines []string
	_, err = v.Walk(t.Context(), func(p *layers.Pair) error {
		kind, err := p.Kind()
		line := fmt.Sprintf("%s %s", p.Path, kind)
		for _, e := range []*layers.Entry{p.Base, p.Merged} {
			text, more := describe(e)
			line, err = line+": "+text, errors.Join(err, more)
		}
		lines = append(lines, line)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	wanted := []string{
		"/ : dir: upper dir",
		"/device A: nothing: upper other map[]",
		"/dir A: nothing: upper dir",
		"/file C: file text map[user.base:1]: upper file text map[trusted.overlay.opaque:y user.mine:2]",
		"/gone D: dir: nothing",
		"/link C: symlink to: upper symlink from",
		"/refused A: nothing: refused: " + unix.EIO.Error(),
	}
	if !slices.Equal(lines, wanted) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(wanted, "\n"))
	}
}

func describe(e *layers.Entry) (string, error) {
	switch {
	case e == nil:
		return "nothing", nil
	case e.Refused != nil:
		var errno unix.Errno
		errors.As(e.Refused, &errno)
		return "refused: " + errno.Error(), nil
	}
	out := ""
	if e.Upper {
		out = "upper "
	}
	switch {
	case e.IsDir():
		return out + "dir", nil
	case e.Stat.Mode&unix.S_IFMT == unix.S_IFLNK:
		to, err := e.Target()
		return out + "symlink " + to, err
	}
	all, err := e.Xattrs()
	if err != nil {
		return "", err
	}
	shown := make(map[string]string)
	for name, value := range all {
		shown[name] = string(value)
	}
	f, err := e.Open()
	if err != nil {
		if e.Stat.Mode&unix.S_IFMT != unix.S_IFREG {
			return fmt.Sprintf("%sother %v", out, shown), nil
		}
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	return fmt.Sprintf("%sfile %s %v", out, text, shown), err
}

// To those who may not see trusted xattrs, the layers would seem to say something else.
func TestOthersThanRoot(t *testing.T) {
	apart.NeedRoot(t)
	top := apart.Dir(t)
	c, _ := overlay(t, top, 1, nil)
	build(t, top, `file l1/f; whiteout u/f; file u/g`)
	got := runAsNobody(t, c)
	if !strings.Contains(got, "that needs root") {
		t.Errorf("nobody got %q", got)
	}
	c.Options = overlayfs.Options{"userxattr": ""}
	if got := runAsNobody(t, c); got != "D /f, A /g" {
		t.Errorf("with userxattr nobody got %q", got)
	}
}
