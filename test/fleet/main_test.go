//go:build e2e

package fleet

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/overlayd/overlayd/test/machine"
)

// suite is what all tests of this package share; set once, before the first one runs.
var suite struct {
	ctx context.Context // ends with an interrupt: machines are then cleaned away as after a failure
	dir string          // the cache of root trees
	deb string          // the package of overlayd, which no machine has yet
}

// image is what the hosts are made from: a server as its administrator's tool finds it. One for all tests, for making
// it takes a minute.
func image(release machine.Suite) machine.Image {
	packages := []string{
		"openssh-server", "python3", "python3-apt", // what Ansible needs on a host
		"puppet-agent",
		"python3-jinja2", "python3-yaml", // for the stand-in of Salt
	}
	if release == machine.Trixie {
		packages = append(packages, "ansible-core") // newer than this computer's, to be run on the host itself
	}
	return machine.Image{Suite: release, Packages: packages, Debs: filepath.SplitList(os.Getenv("SALT_DEBS"))}
}

func TestMain(m *testing.M) {
	os.Exit(machine.Main(m.Run, missing, prepare))
}

// missing tells whether a program is missing that the tests need on this computer.
func missing(context.Context) error {
	for _, program := range []string{"ansible-playbook", "ssh", "ssh-keygen"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%w: %w; run test/setup.sh", machine.ErrMissing, err)
		}
	}
	return nil
}

func prepare(ctx context.Context) error {
	suite.ctx = ctx
	var err error
	if suite.dir, err = machine.DefaultDir(); err != nil {
		return err
	}
	if suite.deb, err = machine.OverlaydDeb(); err != nil {
		return err
	}
	store, err := machine.Open(ctx, suite.dir, machine.Say)
	if err != nil {
		return err
	}
	for _, release := range machine.Suites() {
		if err := store.Prepare(ctx, image(release)); err != nil {
			return err
		}
	}
	return nil
}
