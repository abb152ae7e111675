//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/overlayd/overlayd/test/machine"
)

// suite is what all tests of this package share; set once, before the first one runs.
var suite struct {
	ctx    context.Context // ends with an interrupt: machines are then cleaned away as after a failure
	store  *machine.Store
	deb    string // the package of overlayd, which apt has installed in the machines
	binary string // to be put in the place of the package's; empty: none
}

func TestMain(m *testing.M) {
	os.Exit(machine.Main(m.Run, prepare))
}

func prepare(ctx context.Context) error {
	suite.ctx = ctx
	dir, err := machine.DefaultDir()
	if err != nil {
		return err
	}
	if suite.store, err = machine.Open(ctx, dir, machine.Say); err != nil {
		return err
	}
	if suite.deb, err = machine.OverlaydDeb(); err != nil {
		return err
	}
	suite.binary = os.Getenv("OVERLAYD_BIN")
	for _, release := range machine.Suites() {
		if err := suite.store.Prepare(ctx, installed(release)); err != nil {
			return err
		}
	}
	return nil
}

// goBuild runs the go command in the module's root, for a static Linux binary.
func goBuild(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// forEachSuite runs a test once per Debian release, in parallel.
func forEachSuite(t *testing.T, test func(t *testing.T, release machine.Suite)) {
	for _, release := range machine.Suites() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			test(t, release)
		})
	}
}

// bound keeps anything that waits from waiting for ever. It is generous: a slow
// computer must not fail a test.
const bound = 3 * time.Minute

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(suite.ctx, bound)
	t.Cleanup(cancel)
	return ctx
}

// installed is a release with the package of overlayd.
func installed(release machine.Suite) machine.Image {
	return machine.Image{Suite: release, Debs: []string{suite.deb}}
}

// newMachine makes a machine with overlayd in it.
func newMachine(ctx context.Context, release machine.Suite) (*machine.Machine, error) {
	m, err := suite.store.NewFrom(ctx, installed(release), "somehost")
	if err != nil {
		return nil, err
	}
	if suite.binary != "" {
		if err := m.Install(suite.binary, "/usr/bin/overlayd", 0o755); err != nil {
			return nil, errors.Join(err, m.Close())
		}
	}
	return m, nil
}

// cleanMachine makes a machine without overlayd.
func cleanMachine(ctx context.Context, release machine.Suite) (*machine.Machine, error) {
	return suite.store.NewFrom(ctx, machine.Image{Suite: release}, "somehost")
}

// booted is a running machine for a Go test.
func booted(t *testing.T, release machine.Suite) *machine.Machine {
	t.Helper()
	started := time.Now()
	m, err := newMachine(suite.ctx, release)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			m.Dump(context.Background(), t.Output())
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		report(t.Name(), t.Failed(), started)
	})
	if _, err := m.Boot(bounded(t)); err != nil {
		t.Fatal(err)
	}
	return m
}

// report prints one line per scenario, with its time from the moment it had its machine.
func report(name string, failed bool, started time.Time) {
	verdict := "ok  "
	if failed {
		verdict = "FAIL"
	}
	machine.Say("%s %-60s %6.1fs", verdict, name, time.Since(started).Seconds())
}
