package inventory_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/test/apart"
)

// TestMain runs the tests apart: they mount for real, and the unit directory is their own.
func TestMain(m *testing.M) {
	setUp := func() error { return unix.Mount("units", "/etc/systemd/system", "tmpfs", 0, "mode=0755") }
	os.Exit(apart.Run(setUp, m.Run))
}
