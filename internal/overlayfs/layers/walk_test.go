package layers_test

import (
	"errors"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs/layers"
	"github.com/overlayd/overlayd/test/apart"
)

// A tree may be deeper than a process may have files open, and its paths longer than the kernel takes at once.
func TestDeepTrees(t *testing.T) {
	top := apart.Dir(t)
	c, _ := overlay(t, top, 1, nil)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	const depth = 3000
	name := "a directory"
	for _, base := range []string{c.Lower[0], c.Upper} {
		at, err := unix.Open(base, unix.O_PATH|unix.O_DIRECTORY, 0)
		for i := 0; i < depth && err == nil; i++ {
			next := -1
			if err = unix.Mkdirat(at, name, 0o755); err == nil {
				// Something that comes after the directory, when it is closed again.
				if base == c.Upper && i%1000 == 999 {
					err = unix.Symlinkat("x", at, name+"0")
				}
				if err == nil {
					next, err = unix.Openat(at, name, unix.O_PATH|unix.O_DIRECTORY, 0)
				}
			}
			_ = unix.Close(at)
			at = next
		}
		if err == nil && base == c.Upper {
			err = unix.Symlinkat("x", at, "end")
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(at)
	}
	before := openFiles(t)
	v, err := layers.Open(c, "", kernelDefaults)
	if err != nil {
		t.Fatal(err)
	}
	var lengths []int
	most := 0
	_, err = v.Changes(t.Context(), func(c layers.Change) error {
		lengths = append(lengths, len(c.Path))
		most = max(most, openFiles(t))
		return nil
	})
	v.Close()
	if err != nil {
		t.Fatal(err)
	}
	step := len(name) + 1
	if !slices.Equal(lengths, []int{depth*step + 4, 3000*step + 1, 2000*step + 1, 1000*step + 1}) {
		t.Errorf("changes with paths of %d bytes", lengths)
	}
	if most > before+300 {
		t.Errorf("%d descriptors were open", most)
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors are open, %d were", after, before)
	}
}

// What a client does meanwhile is passed over, and said.
func TestALiveClient(t *testing.T) {
	top := apart.Dir(t)
	c, mountpoint := overlay(t, top, 1, nil)
	build(t, top, `file l1/a old; file l1/b old; file l1/c old`)
	mount(t, c, mountpoint)
	at := func(name string) string { return mountpoint + "/" + name }
	for _, test := range []struct {
		name string
		when string // the change that was just told
		do   func() error
		want string
	}{
		{
			"files removed", "C /a", func() error { return errors.Join(os.Remove(at("b")), os.Remove(at("c"))) },
			"C /a, D /b, D /c, A /d, A /d/e, A /d/e/y, A /d/f",
		},
		{
			"a file made", "C /a", func() error { return os.WriteFile(at("a1"), nil, 0o600) },
			"C /a, C /b, C /c, A /d, A /d/e, A /d/e/y, A /d/f",
		},
		{
			"a directory removed", "A /d/e", func() error { return os.RemoveAll(at("d/e")) },
			"C /a, C /b, C /c, A /d, A /d/e, A /d/f",
		},
		{
			"a symlink in its place", "A /d",
			func() error { return errors.Join(os.Rename(at("d"), at("moved")), os.Symlink(top, at("d"))) },
			"C /a, C /b, C /c, A /d",
		},
		{
			"another directory in its place", "A /d",
			func() error { return errors.Join(os.Rename(at("d"), at("moved")), os.MkdirAll(at("d/z"), 0o755)) },
			"C /a, C /b, C /c, A /d",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			build(t, top, `file m/a new; file m/b new; file m/c new; file m/d/e/y; file m/d/f`)
			v, err := layers.Open(c, mountpoint, kernelDefaults)
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			var lines []string
			notes, err := v.Changes(t.Context(), func(c layers.Change) error {
				line := string(c.Kind) + " " + c.Path
				lines = append(lines, line)
				if line != test.when {
					return nil
				}
				awaitTick(t, top)
				return test.do()
			})
			if err != nil {
				t.Fatal(err)
			}
			want(t, lines, test.want)
			if !notes.Moved {
				t.Error("nothing is said")
			}
			notes, err = v.Changes(t.Context(), func(layers.Change) error { return nil })
			if err != nil || notes.Moved {
				t.Errorf("the second time nothing moved, but: notes %+v, error %v", notes, err)
			}
			for _, name := range []string{"a1", "d", "moved"} {
				if err := os.RemoveAll(at(name)); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func openFiles(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
