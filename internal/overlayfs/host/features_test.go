package host_test

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/test/apart"
)

func TestOptions(t *testing.T) {
	names := host.Options()
	for _, want := range []string{"redirect_dir=follow", "index=off", "userxattr", "verity=require", "lowerdir+", "::"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not among %q", want, names)
		}
	}
	for _, not := range []string{"nosuid", "ro", "userxattr="} {
		if slices.Contains(names, not) {
			t.Errorf("%s is among %q", not, names)
		}
	}
	if once := slices.Compact(slices.Sorted(slices.Values(names))); len(once) != len(names) {
		t.Errorf("some of %q are there twice", names)
	}
}

func TestTrialOptions(t *testing.T) {
	apart.NeedRoot(t)
	before := mountinfo(t)
	known, err := host.TrialOptions()
	if err != nil {
		t.Fatal(err)
	}
	if after := mountinfo(t); after != before {
		t.Errorf("the mount table changed from\n%s\nto\n%s", before, after)
	}
	want := slices.Sorted(slices.Values(host.Options()))
	if got := slices.Sorted(maps.Keys(known)); !slices.Equal(got, want) {
		t.Errorf("told about %q, want %q", got, want)
	}
	// what every kernel since 5.10 takes
	for _, name := range []string{
		"redirect_dir=on", "redirect_dir=off", "redirect_dir=follow", "redirect_dir=nofollow", "index=on", "index=off",
		"metacopy=on", "metacopy=off", "nfs_export=on", "nfs_export=off", "xino=off", "default_permissions", "volatile",
	} {
		if !known[name] {
			t.Errorf("the kernel is said not to know %s", name)
		}
	}
}

// TestTrialOptionsAgrees: what the trial says holds for a mount.
func TestTrialOptionsAgrees(t *testing.T) {
	apart.NeedRoot(t)
	known, err := host.TrialOptions()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"uuid=null", "uuid=off", "verity=on", "userxattr", "xino=auto"} {
		for _, o := range overlayfs.SpecOptions() {
			for _, value := range append(o.Values, "") {
				if host.OptionName(o.Name, value) != name {
					continue
				}
				c, target := overlay(t, apart.Dir(t), overlayfs.Options{o.Name: value})
				if err := host.Mount("overlayd", target, c); (err == nil) != known[name] {
					t.Errorf("%s: known is %t, mounting gives %v", name, known[name], err)
				}
			}
		}
	}
}

func TestBacking(t *testing.T) {
	top := apart.Dir(t)
	d := dirs(t, top, "small", "plain")
	if err := unix.Mount("small", d[0], "tmpfs", 0, "size=1m,nr_inodes=100"); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(d[0], "file"), string(make([]byte, 256<<10)))
	space, err := host.SpaceOf(d[0])
	if want := (host.Space{Size: 1 << 20, Free: 768 << 10, Inodes: 100, FreeInodes: 98}); err != nil || space != want {
		t.Errorf("space %+v %v, want %+v", space, err, want)
	}
	if typed, err := host.ShowsTypes(d[0]); !typed || err != nil {
		t.Errorf("types on tmpfs: %t %v", typed, err)
	}
	// ramfs has no attributes at all
	if err := unix.Mount("plain", d[1], "ramfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if kept, err := host.UserXattrs(d[1]); kept || err != nil {
		t.Errorf("attributes on ramfs: %t %v", kept, err)
	}
	missing := filepath.Join(top, "none")
	if _, err := host.SpaceOf(missing); err == nil {
		t.Error("space of what is not there")
	}
	if _, err := host.ShowsTypes(missing); err == nil {
		t.Error("types of what is not there")
	}
}

// TestUserXattrs agrees with the filesystem itself, and leaves nothing behind.
func TestUserXattrs(t *testing.T) {
	top := apart.Dir(t)
	dir := dirs(t, top, "dir")[0]
	want := unix.Setxattr(dir, "user.test", []byte("y"), 0) == nil
	got, err := host.UserXattrs(filepath.Join(dir, "not/yet/there"))
	if err != nil || got != want {
		t.Errorf("kept is %t %v, want %t", got, err, want)
	}
	for _, d := range []string{top, dir} {
		left, err := filepath.Glob(filepath.Join(d, ".*probe*"))
		if err != nil || len(left) > 0 {
			t.Errorf("%q is left (%v)", left, err)
		}
	}
}
