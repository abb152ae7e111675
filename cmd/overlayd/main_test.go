package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/test/apart"
)

// scratch is where the scripts work: on the tests' own /run, so that paths and unit names are always the same.
const scratch = "/run/t"

// TestMain is overlayd itself where a script runs it. The tests run apart, where /etc/systemd/system and /run are
// empty: the scripts in testdata/live mount for real, and this host is not theirs.
func TestMain(m *testing.M) {
	commands := map[string]func(){"overlayd": recorded}
	if filepath.Base(os.Args[0]) == "overlayd" {
		testscript.Main(m, commands)
	}
	setUp := func() error {
		return errors.Join(unix.Mount("units", "/etc/systemd/system", "tmpfs", 0, "mode=0755"), os.Mkdir(scratch, 0o755))
	}
	os.Exit(apart.Run(setUp, func() int {
		testscript.Main(held{m}, commands)
		return 0 // not reached: it ends the process
	}))
}
