package host_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/test/apart"
)

func TestInUse(t *testing.T) {
	dir := apart.Dir(t)
	for _, d := range []string{"l", "u", "w", "m"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m, upper, work := filepath.Join(dir, "m"), filepath.Join(dir, "u"), filepath.Join(dir, "w")
	mount := func() {
		t.Helper()
		options := "lowerdir=" + dir + "/l,upperdir=" + upper + ",workdir=" + work
		if err := unix.Mount("overlayd", m, "overlay", 0, options); err != nil {
			t.Fatal(err)
		}
	}
	used := func() bool { return host.InUse([]string{upper, filepath.Join(dir, "none")})[upper] }

	if used() {
		t.Error("in use before anything is mounted")
	}
	mount()
	if !used() {
		t.Error("free while it is mounted")
	}
	if err := unix.Unmount(m, 0); err != nil {
		t.Fatal(err)
	}
	if used() {
		t.Error("in use after it was unmounted")
	}
	mount()
	f, err := os.Create(filepath.Join(m, "open"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Unmount(m, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if !used() {
		t.Error("free, though it was only taken out of sight")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if used() {
		t.Error("in use after its last user")
	}
	table, err := host.ReadTable()
	if err != nil {
		t.Fatal(err)
	}
	if len(table.At(upper)) > 0 {
		t.Error("the question mounted something")
	}
	left, err := filepath.Glob(filepath.Join(dir, "u", "*"))
	if err != nil || len(left) != 1 {
		t.Errorf("in the upperdir: %q, %v; want what the client wrote", left, err)
	}
}
