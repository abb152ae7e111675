package layers_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/layers"
	"github.com/overlayd/overlayd/test/apart"
)

func TestShadowed(t *testing.T) {
	top := apart.Dir(t)
	c, _ := overlay(t, top, 1, nil)
	var st unix.Stat_t
	if err := unix.Stat(c.Upper, &st); err != nil {
		t.Fatal(err)
	}
	began := time.Unix(st.Ctim.Unix())
	build(t, top, `
		file l1/before old; file u/before mine; file u/after mine; file u/equal same; file u/moved mine; file u/new mine
		file l1/d; dir u/d; file l1/from old; dir l1/e; file u/e; whiteout u/gone`)
	// The clock that files get their times from goes in steps.
	awaitTick(t, top)
	build(t, top, `file l1/after new; file l1/equal same; file l1/gone x; file l1/e/x; mode l1/d 600`)
	if err := os.Rename(c.Lower[0]+"/from", c.Lower[0]+"/moved"); err != nil {
		t.Fatal(err)
	}
	v, err := layers.Open(c, "", kernelDefaults)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	var got []string
	_, err = v.Shadowed(t.Context(), func(s layers.Shadow) error {
		got = append(got, s.Path)
		var base, upper unix.Stat_t
		if err := errors.Join(unix.Lstat(c.Lower[0]+s.Path, &base), unix.Lstat(c.Upper+s.Path, &upper)); err != nil {
			return err
		}
		// Written at once after it was made, the client's file has one time for both.
		if changed, copied := time.Unix(base.Ctim.Unix()), time.Unix(upper.Mtim.Unix()); !s.BaseChanged.Equal(changed) ||
			s.Copied.After(copied) || s.Copied.Before(began) {
			t.Errorf("%s: copied %v, base changed %v; want %v to %v, %v",
				s.Path, s.Copied, s.BaseChanged, began, copied, changed)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want(t, got, "/after, /moved")
}

// Of a metacopy in a lowerdir the contents lie further below, and may change there.
func TestShadowedMetacopy(t *testing.T) {
	top := apart.Dir(t)
	c, _ := overlay(t, top, 2, overlayfs.Options{"metacopy": "on"})
	build(t, top, `
		file l1/f; size l1/f 4; mark l1/f metacopy ""; file l2/f text; file u/f mine
		file l1/g; size l1/g 4; mark l1/g metacopy ""; file l2/g text; file u/g mine`)
	awaitTick(t, top)
	build(t, top, `file l2/f next`)
	v, err := layers.Open(c, "", kernelDefaults)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	var got []string
	_, err = v.Shadowed(t.Context(), func(s layers.Shadow) error {
		got = append(got, s.Path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want(t, got, "/f")
}

// awaitTick waits until the filesystem gives another time.
func awaitTick(t *testing.T, dir string) {
	t.Helper()
	stamp := func() int64 {
		path := filepath.Join(dir, "clock")
		var st unix.Stat_t
		if err := errors.Join(os.RemoveAll(path), os.WriteFile(path, nil, 0o600), unix.Lstat(path, &st)); err != nil {
			t.Fatal(err)
		}
		return st.Ctim.Nano()
	}
	for began := stamp(); stamp() == began; {
	}
}
