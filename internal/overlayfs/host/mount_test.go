package host_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/test/apart"
)

// TestMountNastyNames mounts overlays with every name that is awkward for somebody, in each place a path can be in.
func TestMountNastyNames(t *testing.T) {
	names := []string{
		`a,b`, `a:b`, `a b`, `a  b`, ` ab`, `ab `, "a\tb", "a\nb", `a\b`, `ab\`, `a\,b`, `a\:b`, `a%b`, `a%nb`, `a"b`,
		`a"b"c`, `a'b`, `a$b`, `a=b`, `a#b`, `a;b`, `a@b`, `a*b`, `a(b)`, `a~b`,
		`a!b`, `a{b}`, `a-b`, `.ab`, `a::b`, `,`, `:`, `\`,
		"\u00e9", "e\u0301", "\u65e5\u672c", "a\x01b", "a\x7fb", "a\xffb", `a\040b`, `a\054b`, strings.Repeat("x", 255),
	}
	for _, name := range names {
		for _, place := range []string{"lower", "upper", "mountpoint"} {
			t.Run(fmt.Sprintf("%s/%q", place, name), func(t *testing.T) {
				top := apart.Dir(t)
				lower, data, target := top+"/l", top+"/d", top+"/m"
				switch place {
				case "lower":
					lower += "/" + name
				case "upper":
					data += "/" + name
				case "mountpoint":
					target += "/" + name
				}
				dirs(t, "", lower, top+"/other", data+"/u", data+"/w", target)
				c := overlayfs.Config{
					Lower: []string{lower, top + "/other"}, Upper: data + "/u", Work: data + "/w",
					Options: overlayfs.Pin(overlayfs.Options{"nosuid": ""}),
				}
				write(t, lower+"/below", "below")
				mount(t, target, c)
				if got := read(t, target+"/below"); got != "below" {
					t.Errorf("the lowerdir's file reads %q", got)
				}
				write(t, target+"/new", "new")
				if got := read(t, c.Upper+"/new"); got != "new" {
					t.Errorf("what was written is %q in the upperdir", got)
				}
				if d := compare(t, target, c); !d.None() {
					t.Errorf("it differs from what was asked for: %v", d.Reasons)
				}
				m, _ := table(t).Top(target)
				if d := cmp.Diff([]any{c.Lower, c.Upper, c.Work, "overlayd"},
					[]any{m.Overlay.Lower, m.Overlay.Upper, m.Overlay.Work, m.Source}); d != "" {
					t.Errorf("(-asked for +mount table):\n%s", d)
				}
				if err := host.Unmount(target); err != nil {
					t.Error(err)
				}
				if at := table(t).At(target); len(at) != 0 {
					t.Errorf("%d mounts are left", len(at))
				}
			})
		}
	}
}

func TestMountReadOnly(t *testing.T) {
	top := apart.Dir(t)
	d := dirs(t, top, "a", "b", "m")
	c := overlayfs.Config{Lower: d[:2], Options: overlayfs.Pin(nil)}
	mount(t, d[2], c)
	if diff := compare(t, d[2], c); !diff.None() {
		t.Errorf("it differs from what was asked for: %v", diff.Reasons)
	}
	if ro, err := host.SuperReadOnly(d[2]); err != nil || !ro {
		t.Errorf("SuperReadOnly() = %t, %v", ro, err)
	}
}

// TestMountOptionSets: whatever Conflicts lets pass, this kernel mounts, and shows in a way that Compare understands.
func TestMountOptionSets(t *testing.T) {
	sets := []overlayfs.Options{{}}
	for _, o := range overlayfs.SpecOptions() {
		values := o.Values
		if o.Kind == overlayfs.KindFlag {
			values = []string{""}
		}
		if o.Name == "verity" || o.Name == "uuid" || o.Name == "ro" { // 6.6 and later; ro has a test of its own
			continue
		}
		for _, v := range values {
			sets = append(sets, overlayfs.Options{o.Name: v})
			for _, other := range []overlayfs.Options{
				{"metacopy": "on"},
				{"redirect_dir": "off"},
				{"redirect_dir": "nofollow"},
				{"nfs_export": "on"},
				{"userxattr": ""},
			} {
				with := other.Clone()
				with[o.Name] = v
				sets = append(sets, with)
			}
		}
	}
	top := apart.Dir(t)
	for i, set := range sets {
		for _, readOnly := range []bool{false, true} {
			for _, pinned := range []bool{false, true} {
				if len(overlayfs.Conflicts(set, readOnly)) > 0 {
					continue
				}
				c, target := overlay(t, fmt.Sprintf("%s/%d-%t-%t", top, i, readOnly, pinned), nil)
				c.Options = set
				if pinned {
					c.Options = overlayfs.Pin(set)
				}
				if readOnly {
					c.Lower, c.Upper, c.Work = append(c.Lower, c.Upper), "", ""
				}
				if err := host.Mount("overlayd", target, c); err != nil {
					t.Errorf("%v (read-only %t): %v", c.Options, readOnly, err)
					continue
				}
				if d := compare(t, target, c); !d.None() {
					m, _ := table(t).Top(target)
					t.Errorf("%v (read-only %t): %v, shown as %s", c.Options, readOnly, d.Reasons, m.Super)
				}
				if err := host.Unmount(target); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

func TestMountErrors(t *testing.T) {
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, top string, c *overlayfs.Config)
		errno  error
		seen   string // what diagnose says without a kernel log
		log    string // what the kernel's log says on all kernels
	}{
		{
			"lowerdir missing", func(_ *testing.T, top string, c *overlayfs.Config) { c.Lower[0] = top + "/none" },
			unix.ENOENT, "/none does not exist", "failed to resolve",
		},
		{
			"upperdir missing", func(_ *testing.T, top string, c *overlayfs.Config) { c.Upper = top + "/none" },
			unix.ENOENT, "/none does not exist", "failed to resolve",
		},
		{
			"lowerdir is a file", func(t *testing.T, top string, c *overlayfs.Config) {
				write(t, top+"/file", "")
				c.Lower[0] = top + "/file"
			},
			nil, "/file is not a directory", "not a directory",
		},
		{
			"no workdir", func(_ *testing.T, _ string, c *overlayfs.Config) { c.Work = "" },
			nil, "there is an upperdir but no workdir", "missing 'workdir'",
		},
		{
			"one lowerdir only", func(_ *testing.T, _ string, c *overlayfs.Config) { c.Upper, c.Work = "", "" },
			unix.EINVAL, "without an upperdir two lowerdirs at least are needed", "at least 2 lowerdir",
		},
		{
			"same lowerdir twice", func(_ *testing.T, _ string, c *overlayfs.Config) {
				c.Lower = append(c.Lower, c.Lower[0])
			},
			unix.ELOOP, "two layers are the same directory", "conflicting lowerdir path",
		},
		{
			"lowerdir in a lowerdir", func(t *testing.T, top string, c *overlayfs.Config) {
				c.Lower = append(c.Lower, dirs(t, top, "lower/sub")...)
			},
			unix.ELOOP, "one lies inside another", "overlapping lowerdir path",
		},
		{
			"workdir is the upperdir", func(_ *testing.T, _ string, c *overlayfs.Config) { c.Work = c.Upper },
			unix.EINVAL, "two directories, neither inside the other", "separate subtrees",
		},
		{
			"workdir in the upperdir", func(t *testing.T, top string, c *overlayfs.Config) {
				c.Work = dirs(t, top, "upper/w")[0]
			},
			unix.EINVAL, "two directories, neither inside the other", "separate subtrees",
		},
		{
			"upper and work on two mounts of one filesystem", func(t *testing.T, top string, c *overlayfs.Config) {
				d := dirs(t, top, "bind", "work")
				if err := unix.Mount(d[1], d[0], "", unix.MS_BIND, ""); err != nil {
					t.Fatal(err)
				}
				c.Work = d[0]
			},
			unix.EINVAL, "must be on one mount", "same mount",
		},
		{
			"read-only filesystem", func(t *testing.T, top string, c *overlayfs.Config) {
				d := dirs(t, top, "ro")
				if err := unix.Mount("ro", d[0], "tmpfs", 0, ""); err != nil {
					t.Fatal(err)
				}
				d = dirs(t, d[0], "u", "w")
				if err := unix.Mount("", top+"/ro", "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
					t.Fatal(err)
				}
				c.Upper, c.Work = d[0], d[1]
			},
			nil, "read-only", "read-only",
		},
		{
			"upperdir on an overlay", func(t *testing.T, top string, c *overlayfs.Config) {
				other, target := overlay(t, top+"/other", nil)
				mount(t, target, other)
				d := dirs(t, target, "u", "w")
				c.Upper, c.Work = d[0], d[1]
			},
			unix.EINVAL, "on an overlay itself", "not supported as upperdir",
		},
		{
			"overlay on overlay on overlay", func(t *testing.T, top string, c *overlayfs.Config) {
				for i := range 2 {
					other, target := overlay(t, fmt.Sprintf("%s/stack%d", top, i), nil)
					other.Lower = slices.Clone(c.Lower)
					mount(t, target, other)
					c.Lower = []string{target}
				}
			},
			unix.EINVAL, "the kernel refuses these layers or options", "stacking depth exceeded",
		},
		{
			"upperdir in use, index on", func(t *testing.T, top string, c *overlayfs.Config) {
				first := *c
				mount(t, dirs(t, top, "first")[0], first)
				c.Options = overlayfs.Pin(overlayfs.Options{"index": "on"})
			},
			unix.EBUSY, "in use by another overlay", "upperdir is in-use",
		},
		{
			"other lowerdir, index on", func(t *testing.T, top string, c *overlayfs.Config) {
				c.Options = overlayfs.Pin(overlayfs.Options{"index": "on"})
				target := dirs(t, top, "first")[0]
				mount(t, target, *c)
				if err := host.Unmount(target); err != nil {
					t.Fatal(err)
				}
				c.Lower = dirs(t, top, "another")
			},
			unix.ESTALE, "made over other lowerdirs", "failed to verify",
		},
		{
			"conflicting options", func(_ *testing.T, _ string, c *overlayfs.Config) {
				c.Options = overlayfs.Options{"metacopy": "on", "redirect_dir": "off"}
			},
			unix.EINVAL, "the kernel refuses these layers or options", "conflicting options",
		},
		{
			"more layers than the kernel takes", func(t *testing.T, top string, c *overlayfs.Config) {
				// They fit into a page only with a short name.
				if err := unix.Mount(top, "/mnt", "", unix.MS_BIND, ""); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := unix.Unmount("/mnt", 0); err != nil {
						t.Error(err)
					}
				})
				if err := os.Symlink("lower", "/mnt/l"); err != nil {
					t.Fatal(err)
				}
				c.Lower = slices.Repeat([]string{"/mnt/l"}, overlayfs.MaxLayers+1)
			},
			nil, "501 layers, the kernel takes 500", "limit is 500",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			top := apart.Dir(t)
			c, target := overlay(t, top, nil)
			test.damage(t, top, &c)
			err := host.Mount("overlayd", target, c)
			failed, ok := errors.AsType[*host.MountError](err)
			if !ok {
				t.Fatalf("error %v, want a *MountError", err)
			}
			if test.errno != nil && !errors.Is(err, test.errno) {
				t.Errorf("error %v, want errno %v", err, test.errno)
			}
			if !strings.HasPrefix(err.Error(), "cannot mount overlay at "+target+": ") {
				t.Errorf("error %q does not say what could not be done", err)
			}
			want := test.seen
			if len(failed.Kernel) > 0 {
				want = test.log
			}
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error %q, want %q in it", err, want)
			}
			if got := host.Diagnose(failed.Err, c); !strings.Contains(got, test.seen) {
				t.Errorf("without a kernel log the reason is %q, want %q in it", got, test.seen)
			}
			if at := table(t).At(target); len(at) != 0 {
				t.Errorf("%d mounts are left", len(at))
			}
		})
	}
}

func TestMountRefusesBeforeTheKernel(t *testing.T) {
	top := apart.Dir(t)
	c, target := overlay(t, top, nil)
	if err := os.Symlink(target, top+"/link"); err != nil {
		t.Fatal(err)
	}
	write(t, top+"/file", "")
	long := c
	long.Lower = slices.Repeat([]string{"/" + strings.Repeat("x", 99)}, 40)
	nul := c
	nul.Upper += "\x00"
	for _, test := range []struct {
		name, target string
		config       overlayfs.Config
		errno        error
		want         string
	}{
		{"too long for a page", target, long, unix.E2BIG, "bytes, mount(2) reads 4095 at most"},
		{"a NUL", target, nul, unix.EINVAL, "NUL byte"},
		{"no mountpoint", top + "/none", c, unix.ENOENT, "the directory does not exist"},
		{"mountpoint is a file", top + "/file", c, unix.ENOTDIR, "it is not a directory"},
		{"mountpoint is a symlink", top + "/link", c, unix.ELOOP, top + "/link is a symlink to " + target},
		{"symlink on the way", top + "/link/x", c, unix.ELOOP, top + "/link is a symlink to " + target},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := host.Mount("overlayd", test.target, test.config)
			if !errors.Is(err, test.errno) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q and errno %v", err, test.want, test.errno)
			}
			if at := table(t).At(target); len(at) != 0 {
				t.Errorf("%d mounts are left", len(at))
			}
		})
	}
}

// TestMountStacks: a mount goes on top of what stands there, and an unmount takes the top away, though both work
// with descriptors.
func TestMountStacks(t *testing.T) {
	top := apart.Dir(t)
	c, target := overlay(t, top, nil)
	mount(t, target, c)
	first := table(t).At(target)
	second := c
	second.Upper, second.Work = dirs(t, top, "upper2")[0], dirs(t, top, "work2")[0]
	mount(t, target, second)
	at := table(t).At(target)
	if len(at) != 2 || at[0].ID != first[0].ID || at[1].Overlay.Upper != second.Upper {
		t.Fatalf("%d mounts, want the second one on top of the first: %+v", len(at), at)
	}
	if err := host.Unmount(target); err != nil {
		t.Fatal(err)
	}
	if at := table(t).At(target); len(at) != 1 || at[0].ID != first[0].ID {
		t.Errorf("the wrong one is left: %+v", at)
	}
}

func TestUnmountErrors(t *testing.T) {
	top := apart.Dir(t)
	c, target := overlay(t, top, nil)
	err := host.Unmount(target)
	if !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "nothing is mounted there") {
		t.Errorf("nothing mounted: error %v", err)
	}
	mount(t, target, c)
	if err := os.Symlink(target, top+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(top, top+"/way"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{top + "/link", top + "/way/merged", top + "/none", top + "/none/none", "/"} {
		for _, f := range []func(string) error{host.Unmount, host.Detach} {
			if err := f(path); err == nil {
				t.Errorf("%s: no error", path)
			}
		}
	}
	f, err := os.Create(target + "/busy")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = host.Unmount(target)
	if !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "cannot unmount "+target+": a process uses it") {
		t.Errorf("busy: error %v", err)
	}
	if d := compare(t, target, c); !d.None() {
		t.Errorf("after all that: %v", d.Reasons)
	}
	if err := host.Detach(target); err != nil {
		t.Error(err)
	}
	if at := table(t).At(target); len(at) != 0 {
		t.Errorf("%d mounts after a detach", len(at))
	}
}

func TestRemount(t *testing.T) {
	top := apart.Dir(t)
	c, target := overlay(t, top, nil)
	mount(t, target, c)
	for _, flags := range []overlayfs.Options{
		{"nosuid": "", "nodev": "", "noexec": ""},
		{"noatime": "", "nodiratime": ""},
		{"strictatime": ""},
		{"nodiratime": ""},
		{"ro": "", "nosuid": ""},
		{"noatime": "", "ro": ""},
		{},
	} {
		if err := host.Remount(target, flags); err != nil {
			t.Fatal(err)
		}
		m, _ := table(t).Top(target)
		if d := cmp.Diff(flags, m.Flags); d != "" {
			t.Errorf("(-asked for +mount table):\n%s", d)
		}
	}
	write(t, target+"/file", "writable again")
	if err := host.Remount(filepath.Dir(target), overlayfs.Options{}); !errors.Is(err, unix.EINVAL) {
		t.Errorf("not a mountpoint: error %v", err)
	}
}

// TestRemountReadWrite: an overlay mounted with ro has a read-only super block, too.
func TestRemountReadWrite(t *testing.T) {
	c, target := overlay(t, apart.Dir(t), overlayfs.Options{"ro": ""})
	mount(t, target, c)
	if d := compare(t, target, c); !d.None() {
		t.Errorf("it differs from what was asked for: %v", d.Reasons)
	}
	c.Options = overlayfs.Pin(nil)
	if d := compare(t, target, c); !d.FlagsOnly() {
		t.Errorf("read-only against the spec is %+v", d)
	}
	if err := host.Remount(target, c.Options); err != nil {
		t.Fatal(err)
	}
	if d := compare(t, target, c); !d.None() {
		t.Errorf("after the remount: %v", d.Reasons)
	}
	if ro, err := host.SuperReadOnly(target); err != nil || ro {
		t.Errorf("SuperReadOnly() = %t, %v", ro, err)
	}
	write(t, target+"/file", "")
}

// TestRemountWithoutUpper: no remount makes it writable, but its other flags can be set.
func TestRemountWithoutUpper(t *testing.T) {
	d := dirs(t, apart.Dir(t), "a", "b", "m")
	mount(t, d[2], overlayfs.Config{Lower: d[:2], Options: overlayfs.Pin(overlayfs.Options{"ro": ""})})
	flags := overlayfs.Options{"nosuid": ""}
	if err := host.Remount(d[2], flags); err != nil {
		t.Fatal(err)
	}
	m, _ := table(t).Top(d[2])
	if diff := cmp.Diff(flags, m.Flags); diff != "" {
		t.Errorf("(-asked for +mount table):\n%s", diff)
	}
}

// TestFallbackToReadOnly: a dirty workdir makes a mount that succeeds and cannot be written to.
func TestFallbackToReadOnly(t *testing.T) {
	c, target := overlay(t, apart.Dir(t), nil)
	dirs(t, c.Work, "work/a/b/c/d")
	mount(t, target, c)
	if ro, err := host.SuperReadOnly(target); err != nil || !ro {
		t.Errorf("SuperReadOnly() = %t, %v", ro, err)
	}
	d := compare(t, target, c)
	reasons := strings.Join(d.Reasons, "; ")
	if !d.Options || d.FlagsOnly() || !strings.HasPrefix(reasons, "the kernel fell back to read-only") {
		t.Errorf("got %+v", d)
	}
}
