//go:build e2e

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/overlayd/overlayd/test/machine"
)

func TestScript(t *testing.T) {
	forEachSuite(t, func(t *testing.T, release machine.Suite) {
		testscript.Run(t, testscript.Params{
			Dir:                "testdata/script",
			Setup:              func(env *testscript.Env) error { return setup(env, release) },
			Cmds:               commands,
			Condition:          func(name string) (bool, error) { return name == string(release), nil },
			RequireUniqueNames: true,
		})
	})
}

// world is what the commands of one script act on.
type world struct {
	release machine.Suite
	machine *machine.Machine // nil until boot or bare
	state   string           // of systemd after the last boot
	started time.Time
}

type worldKey struct{}

func setup(env *testscript.Env, release machine.Suite) error {
	w := &world{release: release}
	env.Values[worldKey{}] = w
	for name, folder := range map[string]string{"examples": "../../examples", "autopkgtest": "../../packaging/deb/tests"} {
		if err := os.CopyFS(filepath.Join(env.WorkDir, name), os.DirFS(folder)); err != nil {
			return err
		}
	}
	env.Defer(func() {
		if w.machine == nil {
			return
		}
		// Scripts run by testscript.Run have a testing.TB here.
		tb := env.T().(testing.TB)
		if tb.Failed() {
			var dump strings.Builder
			w.machine.Dump(context.Background(), &dump)
			tb.Log(dump.String())
		}
		if err := w.machine.Close(); err != nil {
			tb.Error(err)
		}
		report(string(release)+"/"+strings.TrimPrefix(filepath.Base(env.WorkDir), "script-"), tb.Failed(), w.started)
	})
	return nil
}

// use gives a command its machine.
func use(ts *testscript.TestScript) *world {
	w := ts.Value(worldKey{}).(*world)
	if w.machine == nil {
		ts.Fatalf("no machine: begin the script with boot (or bare)")
	}
	return w
}
