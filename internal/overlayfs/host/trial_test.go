package host_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/test/apart"
)

func mountinfo(t *testing.T) string {
	t.Helper()
	return read(t, "/proc/self/mountinfo")
}

func TestTrialMount(t *testing.T) {
	for _, test := range []struct {
		name    string
		options overlayfs.Options
		damage  func(top string, c *overlayfs.Config)
		errno   error
	}{
		{name: "good"},
		{name: "good, with an index", options: overlayfs.Options{"index": "on"}},
		{name: "good, nfs_export", options: overlayfs.Options{"nfs_export": "on"}},
		{name: "good, read-only", options: overlayfs.Options{"ro": "", "nosuid": ""}},
		{name: "good, no upper", damage: func(_ string, c *overlayfs.Config) {
			c.Lower, c.Upper, c.Work = append(c.Lower, c.Upper), "", ""
		}},
		{name: "the upperdir does not matter", damage: func(top string, c *overlayfs.Config) {
			c.Upper, c.Work = top+"/none", top+"/none"
		}},
		{name: "lowerdir missing", errno: unix.ENOENT, damage: func(top string, c *overlayfs.Config) {
			c.Lower[0] = top + "/none"
		}},
		{name: "same lowerdir twice", errno: unix.ELOOP, damage: func(_ string, c *overlayfs.Config) {
			c.Lower = append(c.Lower, c.Lower[0])
		}},
		{name: "conflicting options", errno: unix.EINVAL, damage: func(_ string, c *overlayfs.Config) {
			c.Options = overlayfs.Options{"metacopy": "on", "redirect_dir": "off"}
		}},
		{name: "one lowerdir only", errno: unix.EINVAL, damage: func(_ string, c *overlayfs.Config) {
			c.Upper, c.Work = "", ""
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			top := apart.Dir(t)
			c, _ := overlay(t, top, test.options)
			if test.damage != nil {
				test.damage(top, &c)
			}
			before := mountinfo(t)
			err := host.TrialMounts([]overlayfs.Config{c})[0]
			if test.errno == nil && err != nil || !errors.Is(err, test.errno) {
				t.Errorf("error %v, want %v", err, test.errno)
			}
			const prefix = "cannot mount these layers, tried out with an empty upperdir: "
			if err != nil && !strings.HasPrefix(err.Error(), prefix) {
				t.Errorf("error %q", err)
			}
			if after := mountinfo(t); after != before {
				t.Errorf("the mount table changed from\n%s\nto\n%s", before, after)
			}
			for _, dir := range []string{c.Upper, c.Work} {
				if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
					t.Errorf("%s was touched: %v", dir, entries)
				}
			}
		})
	}
}

// TestTrialMountLetsGo: the copy of the mount table that a trial works in keeps nothing alive behind its back. With
// index=on the kernel refuses an upperdir whose last super block is not gone yet.
func TestTrialMountLetsGo(t *testing.T) {
	c, target := overlay(t, apart.Dir(t), overlayfs.Options{"index": "on"})
	for range 30 {
		mount(t, target, c)
		if err := host.TrialMounts([]overlayfs.Config{c})[0]; err != nil {
			t.Fatal(err)
		}
		if err := host.Unmount(target); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTrialMounts(t *testing.T) {
	top := apart.Dir(t)
	good, target := overlay(t, top, nil)
	bad := good
	bad.Lower = []string{top + "/none"}
	mount(t, target, good)
	stacked := good
	stacked.Lower = []string{target}
	errs := host.TrialMounts([]overlayfs.Config{good, bad, stacked})
	if len(errs) != 3 || errs[0] != nil || !errors.Is(errs[1], unix.ENOENT) || errs[2] != nil {
		t.Errorf("errors %v", errs)
	}
	if got := host.TrialMounts(nil); len(got) != 0 {
		t.Errorf("nothing to try gives %v", got)
	}
}
