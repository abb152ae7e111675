//go:build e2e

package machine_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/overlayd/overlayd/test/machine"
)

// TestImage has apt install a package in a tree, and then another version of it: machines have the last one, and the
// tree of the first is gone.
func TestImage(t *testing.T) {
	store := open(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	dir := t.TempDir()
	deb := filepath.Join(dir, "overlayd-image-test.deb")
	image := machine.Image{Suite: machine.Bookworm, Debs: []string{deb}}
	const file = "usr/share/overlayd-image-test/version"

	for _, version := range []string{"1", "2"} {
		pack(t, deb, version, "mount")
		m, err := store.NewFrom(ctx, image, "somehost")
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(m.Root(), file))
		if err != nil || string(got) != version {
			t.Errorf("the machine has %q of version %s: %v", got, version, err)
		}
		status, err := os.ReadFile(filepath.Join(m.Root(), "var/lib/dpkg/status"))
		if err != nil || !strings.Contains(string(status), "\nPackage: overlayd-image-test\nStatus: install ok installed\n") {
			t.Errorf("the package is not installed: %v", err)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}

	cache, err := machine.DefaultDir()
	if err != nil {
		t.Fatal(err)
	}
	trees, err := filepath.Glob(filepath.Join(cache, "trees", "*", file))
	if err != nil || len(trees) != 1 {
		t.Errorf("trees with the package: %v %v", trees, err)
	}

	pack(t, deb, "3", "overlayd-no-such-package")
	if err := store.Prepare(ctx, image); err == nil || !strings.Contains(err.Error(), "overlayd-no-such-package") {
		t.Errorf("a package that cannot be installed: %v", err)
	}
}

// pack makes a package with one file in it.
func pack(t *testing.T, deb, version, depends string) {
	t.Helper()
	tree := t.TempDir()
	for name, text := range map[string]string{
		"DEBIAN/control": fmt.Sprintf("Package: overlayd-image-test\nVersion: %s\nArchitecture: all\n"+
			"Maintainer: Nobody <nobody@example.org>\nDepends: %s\nDescription: one file\n", version, depends),
		"usr/share/overlayd-image-test/version": version,
	} {
		path := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "--build", tree, deb).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, out)
	}
}
