//go:build e2e

package e2e

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/overlayd/overlayd/test/machine"
)

// TestPackagesInside runs the tests of the packages whose results depend on the
// release inside a machine of each: they talk to its systemd, compare with its
// systemd-escape, and mount with its kernel interface.
func TestPackagesInside(t *testing.T) {
	packages := []string{"internal/units", "internal/units/systemd", "internal/overlayfs/host"}
	work := t.TempDir()
	for _, pkg := range packages {
		if err := goBuild(suite.ctx, "test", "-c", "-o", filepath.Join(work, filepath.Base(pkg)), "./"+pkg); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("in", func(t *testing.T) { // returns when the parallel tests in it are done, which need the folder
		forEachSuite(t, func(t *testing.T, release machine.Suite) {
			m := booted(t, release)
			for _, pkg := range packages {
				inside(t, m, pkg, filepath.Join(work, filepath.Base(pkg)))
			}
		})
	})
}

func inside(t *testing.T, m *machine.Machine, pkg, binary string) {
	t.Helper()
	// A test finds its testdata in its working directory.
	const dir = "/root/test"
	// The tests bound what they do themselves; several may need systemd at its slowest.
	const limit = 10 * time.Minute
	ctx, cancel := context.WithTimeout(suite.ctx, limit)
	defer cancel()
	if out, err := m.Command(ctx, "mkdir", "-p", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := m.Install(binary, dir+"/test", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := m.InstallTree(filepath.Join("../..", pkg, "testdata"), dir+"/testdata"); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	cmd := m.Command(ctx, "env", "-C", dir, "OVERLAYD_TEST_SYSTEMD=1", "./test", "-test.v", "-test.shuffle=on",
		"-test.timeout="+(limit-bound).String()) // so that a test that hangs shows its goroutines
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s inside: %v\n%s", pkg, err, out)
		return
	}
	if !strings.Contains(string(out), "\n--- PASS: ") {
		t.Errorf("%s inside: no test ran:\n%s", pkg, out)
	}
	machine.Say("     %-54s %12.1fs", pkg+" in "+string(m.Suite), time.Since(begin).Seconds())
}
