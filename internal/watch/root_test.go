package watch_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/watch"
	"github.com/overlayd/overlayd/test/apart"
)

// TestFilesRoot runs itself again in a root directory of its own, where things can be done to that.
func TestFilesRoot(t *testing.T) {
	const marker = "OVERLAYD_TEST_ROOT"
	if os.Getenv(marker) == "" {
		apart.NeedRoot(t)
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), marker+"=1")
		cmd.Dir = t.TempDir()
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Errorf("%v:\n%s", err, out)
		}
		return
	}
	if err := unix.Chroot("."); err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir("/marks", 0o755))
	must(os.Mkdir("/etc", 0o755))
	s := watch.NewStepped(t, "/marks")
	must(s.Set([]watch.Path{{Path: "/", Match: hcl}, {Path: "/../etc/a.hcl"}}))
	for _, test := range []struct {
		name string
		do   func() error
		hint bool
	}{
		{"mode of /", func() error { return os.Chmod("/", 0o711) }, true},
		{"file of interest", func() error { return os.WriteFile("/x.hcl", nil, 0o644) }, true},
		{"file of no interest", func() error { return os.WriteFile("/x", nil, 0o644) }, false},
		{"directory away and back", func() error {
			if err := os.Rename("/etc", "/usr"); err != nil {
				return err
			}
			return os.Rename("/usr", "/etc")
		}, true},
		{"file below", func() error { return os.WriteFile("/etc/a.hcl", nil, 0o644) }, true},
	} {
		must(test.do())
		if s.Step(t) != test.hint {
			t.Errorf("%s: hint: %v, want %v", test.name, !test.hint, test.hint)
		}
	}
}
