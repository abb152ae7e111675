//go:build e2e

package e2e

import (
	"bytes"
	"os/exec"
	"testing"
	"time"

	"github.com/overlayd/overlayd/test/machine"
)

// TestApplyRacesTarget has overlayd and systemd mount the same overlays at the
// same time: each sees an empty mountpoint and mounts, and without a guard that
// leaves two mounts on one upperdir. The start job of the target comes in
// another phase of the apply each round, from its first moment to its last.
func TestApplyRacesTarget(t *testing.T) {
	forEachSuite(t, func(t *testing.T, release machine.Suite) {
		const rounds = 20
		c := newClients(t, booted(t, release), 30)
		c.must("overlayd", "apply", "--auto-approve")
		c.write()
		// The glob has systemctl wait for the mounts, too.
		stop := []string{"systemctl", "stop", "overlayd.target", "m-*.mount"}
		c.must(stop...)
		begin := time.Now()
		c.must("overlayd", "apply", "--auto-approve")
		took := time.Since(begin)
		for round := range rounds {
			c.must(stop...)
			apply := started(t, c.command("overlayd", "apply", "--auto-approve"))
			<-time.After(took * time.Duration(round) / rounds)
			target := started(t, c.command("systemctl", "start", "overlayd.target"))
			succeeded(t, apply, target)
			c.once()
			c.usable()
		}
		c.intact()
		c.converged(oneBase)
	})
}

// TestApplyTwice has two administrators apply at the same moment: one waits for the other.
func TestApplyTwice(t *testing.T) {
	forEachSuite(t, func(t *testing.T, release machine.Suite) {
		const rounds = 5
		c := newClients(t, booted(t, release), 30)
		for range rounds {
			one := started(t, c.command("overlayd", "apply", "--auto-approve", "--lock-timeout=1m"))
			other := started(t, c.command("overlayd", "apply", "--auto-approve", "--lock-timeout=1m"))
			succeeded(t, one, other)
			c.once()
			c.must("overlayd", "plan", "--detailed-exitcode")
			c.must("overlayd", "destroy", "--auto-approve")
		}
	})
}

// started starts a command whose output succeeded shows.
func started(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// succeeded waits for started commands and asks for the success of each.
func succeeded(t *testing.T, commands ...*exec.Cmd) {
	t.Helper()
	for _, cmd := range commands {
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %v\n%s", cmd.Args, err, cmd.Stdout)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}
