package host_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/test/apart"
)

func TestRemains(t *testing.T) {
	dir := apart.Dir(t)
	for _, d := range []string{"l", "u", "w", "m"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m := filepath.Join(dir, "m")
	options := "lowerdir=" + dir + "/l,upperdir=" + dir + "/u,workdir=" + dir + "/w"
	mount := func() string {
		t.Helper()
		if err := unix.Mount("overlayd", m, "overlay", 0, options); err != nil {
			t.Fatal(err)
		}
		table, err := host.ReadTable()
		if err != nil {
			t.Fatal(err)
		}
		return table.At(m)[0].Dev
	}

	upper := filepath.Join(dir, "u")
	dev := mount()
	if host.Remains(dev, upper) {
		t.Error("one that is mounted, as all can see, is said to live on")
	}
	if err := unix.Unmount(m, 0); err != nil {
		t.Fatal(err)
	}
	if host.Remains(dev, upper) || host.InUse(upper) {
		t.Error("one that was unmounted lives on")
	}

	dev = mount()
	f, err := os.Create(filepath.Join(m, "open"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Unmount(m, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if !host.Remains(dev, upper) {
		t.Error("one that was detached while a file is open is not found")
	}
	if !host.InUse(upper) {
		t.Error("its upperdir is free")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if host.Remains(dev, upper) {
		t.Error("it lives on after its last user")
	}
	if host.InUse(upper) {
		t.Error("its upperdir is in use after its last user")
	}
	left, err := filepath.Glob(filepath.Join(dir, "u", "*"))
	if err != nil || len(left) != 1 {
		t.Errorf("in the upperdir: %q, %v; want what the client wrote", left, err)
	}
	for _, bad := range []string{"", "0", "x:y", "0:4294967295"} {
		if host.Remains(bad, upper) {
			t.Errorf("%q lives on", bad)
		}
	}
}
