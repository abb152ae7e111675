package watch_test

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/overlayd/overlayd/internal/watch"
	"github.com/overlayd/overlayd/test/apart"
)

// TestMain runs the tests apart: some mount.
func TestMain(m *testing.M) { os.Exit(apart.Run(nil, m.Run)) }

// patience is for what has to happen; no test waits that long for what must not.
const patience = time.Minute

// sh runs a script in a directory, as configuration management and administrators do.
func sh(t *testing.T, dir, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-euc", "umask 022\n"+script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// await waits for a hint.
func await(t *testing.T, changes <-chan struct{}, what string) {
	t.Helper()
	select {
	case _, ok := <-changes:
		if !ok {
			t.Fatalf("the channel is closed instead of telling of %s", what)
		}
	case <-time.After(patience):
		t.Fatalf("nothing tells of %s", what)
	}
}

func start(t *testing.T, paths ...watch.Path) *watch.Files {
	t.Helper()
	f, err := watch.NewFiles()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := f.Set(paths); err != nil {
		t.Fatal(err)
	}
	return f
}
