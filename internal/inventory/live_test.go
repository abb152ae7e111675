package inventory_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/inventory"
	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/units"
	"github.com/overlayd/overlayd/test/apart"
)

func mkdirs(t *testing.T, top string, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.MkdirAll(filepath.Join(top, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// mount mounts an overlay with directories of its own at top/name.
func mount(t *testing.T, source, top, name string) overlayfs.Config {
	t.Helper()
	mkdirs(t, top, "base", "data/"+name+"/upper", "data/"+name+"/work", name)
	c := overlayfs.Config{
		Lower: []string{top + "/base"}, Upper: top + "/data/" + name + "/upper", Work: top + "/data/" + name + "/work",
		Options: overlayfs.Options{"index": "off"},
	}
	if err := host.Mount(source, top+"/"+name, c); err != nil {
		t.Fatal(err)
	}
	return c
}

// writeUnit writes a unit of ours below root.
func writeUnit(t *testing.T, root, address, at string, c overlayfs.Config) {
	t.Helper()
	u := units.Mount{
		Description: address, What: "overlayd", Where: at, Options: c.MountOptions(), Address: address,
		Source: "/etc/overlayd/site.hcl", OnBusy: "fail",
	}
	mkdirs(t, filepath.Join("/", root), "etc/systemd/system")
	file := filepath.Join("/", root, "etc/systemd/system", u.FileName())
	if err := os.WriteFile(file, u.Render(), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(file) })
}

func read(t *testing.T, root string) *inventory.Inventory {
	t.Helper()
	i, err := inventory.Read(&reconcile.Host{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestReadHost(t *testing.T) {
	top := apart.Dir(t)
	c := mount(t, "overlayd", top, "ours")
	writeUnit(t, "", "overlay.ours", top+"/ours", c)
	writeUnit(t, "", "overlay.down", top+"/down", c)
	mount(t, "hand", top, "theirs")
	mkdirs(t, top, "theirs/sub", "bound")
	if err := unix.Mount(top+"/theirs/sub", top+"/bound", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../theirs", top+"/base/link"); err != nil {
		t.Fatal(err)
	}
	i := read(t, "")
	var got []string
	for _, o := range i.All() {
		if strings.HasPrefix(o.Mountpoint, top) {
			got = append(got, strings.TrimSpace(o.Address+" "+filepath.Base(o.Mountpoint)))
			if !o.Mounted != (o.Address == "overlay.down") || o.Hidden {
				t.Errorf("%s: mounted %t, hidden %t", o, o.Mounted, o.Hidden)
			}
		}
	}
	if want := []string{"overlay.down down", "overlay.ours ours", "theirs"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, test := range []struct{ path, want string }{
		{"/ours/no/such", "/ours"},
		{"/bound", "/theirs"},
		{"/base/link/sub", "/theirs"}, // a symlink, resolved as the kernel does
		{"/base/link/not/there", "/theirs"},
		{"/down", "/down"},
	} {
		if o, err := i.Find(top + test.path); err != nil || o.Mountpoint != top+test.want {
			t.Errorf("%s is %s (%v), want %s", test.path, o.Mountpoint, err, test.want)
		}
	}
	const want = "a lowerdir of overlay.down, overlay.ours"
	if _, err := i.Find(top + "/base"); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("of the base: %v, want %q", err, want)
	}
}

func TestUsers(t *testing.T) {
	top := apart.Dir(t)
	mount(t, "hand", top, "a")
	mkdirs(t, top, "a/in", "a/cache", "bound")
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{
		{"cache", top + "/a/cache", "tmpfs", 0},
		{top + "/a/in", top + "/bound", "", unix.MS_BIND},
	} {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	// one process in the overlay, one in a bind mount of it, one in what is mounted below
	var pids []int
	for _, dir := range []string{"/a/in", "/bound", "/a/cache"} {
		cmd := exec.Command("cat") // until its input ends
		cmd.Dir = top + dir
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = in.Close()
			_ = cmd.Wait()
		})
		pids = append(pids, cmd.Process.Pid)
	}
	i := read(t, "")
	o, err := i.Find(top + "/a")
	if err != nil {
		t.Fatal(err)
	}
	users, err := i.Users(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, p := range users.Processes {
		got = append(got, p.PID)
	}
	if want := pids[:2]; !slices.Equal(got, want) {
		t.Errorf("processes %v, want %v", users.Processes, want)
	}
	if want := []string{top + "/a/cache"}; !slices.Equal(users.Mounts, want) {
		t.Errorf("mounts %q, want %q", users.Mounts, want)
	}
	if users.Units == nil || len(users.Units) > 0 {
		t.Errorf("units %q, want none, and not null", users.Units)
	}
}

// In a tree nothing is mounted, whatever is on this host; its paths are those that it will have, or as seen from here.
func TestReadTree(t *testing.T) {
	tree := apart.Dir(t)
	mount(t, "overlayd", tree, "m")
	c := overlayfs.Config{Lower: []string{"/base"}, Upper: "/u", Work: "/w", Options: overlayfs.Options{"index": "off"}}
	writeUnit(t, tree, "overlay.m", "/m", c)
	i := read(t, tree)
	if all := i.All(); len(all) != 1 || all[0].Mounted || all[0].Config.Upper != "/u" {
		t.Fatalf("got %+v", all)
	}
	for _, ref := range []string{"overlay.m", "/m/x", tree + "/m/x"} {
		if o, err := i.Find(ref); err != nil || o.Address != "overlay.m" {
			t.Errorf("%s: %s (%v)", ref, o, err)
		}
	}
	for ref, want := range map[string]string{
		tree + "/u/x": "that is the upperdir of overlay.m", "/etc": "nothing that was applied in " + tree,
	} {
		if _, err := i.Find(ref); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", ref, err, want)
		}
	}
	if _, err := inventory.Read(&reconcile.Host{Root: tree + "/nowhere"}); err == nil {
		t.Error("a tree that does not exist can be read")
	}
}
