//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/overlayd/overlayd/test/machine"
)

// TestAgentRaces has the agent at work while systemd, the command line and a killer are, too. Whatever comes first,
// no upperdir is mounted twice, no data is lost, and in the end all is as the spec says.
func TestAgentRaces(t *testing.T) {
	seed := seedOf(t)
	forEachSuite(t, func(t *testing.T, release machine.Suite) {
		t.Logf("OVERLAYD_SEED=%d", seed)
		r := &races{clients: newClients(t, booted(t, release), 20), rand: rand.New(rand.NewPCG(seed, 2))}
		err := r.m.WriteFile(bounded(t), "/etc/default/overlayd", []byte("OVERLAYD_AGENT_OPTS=--policy=full\n"), 0o644)
		if err != nil {
			t.Fatal(err)
		}
		r.must("systemctl", "start", "overlayd")
		r.write()
		r.settled()
		r.stops()
		r.restarts()
		r.applies()
		r.kills()
		r.terms()
	})
}

type races struct {
	*clients
	rand *rand.Rand
}

// settled waits until there is nothing left to do, and looks at everything.
func (r *races) settled(base ...string) {
	r.t.Helper()
	err := eventually(r.m, func(run func(argv ...string) ([]byte, error)) error {
		out, err := run("overlayd", "plan", "--detailed-exitcode")
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.must("sh", "-euc", `until [ -z "$(systemctl list-jobs --no-legend)" ]; do :; done`)
	r.intact()
	r.converged(append(base, oneBase)[0])
}

// stops: what systemctl stopped stays down, however fast the agent hears of it.
func (r *races) stops() {
	r.t.Helper()
	const rounds = 2
	mounted := func() (up []string) {
		for _, line := range overlays([]byte(r.must("cat", "/proc/self/mountinfo"))) {
			up = append(up, strings.Fields(line)[4])
		}
		return up
	}
	for round := range rounds {
		// systemd hears of mounts late, and to stop what it takes for inactive does nothing.
		r.must("sh", "-euc", `cd /m; for c in *; do until systemctl -q is-active "m-$c.mount"; do :; done; done`)
		r.must("sh", "-euc", `cd /m; for c in *; do systemctl stop "m-$c.mount"; done`)
		if up := mounted(); len(up) > 0 {
			r.t.Fatalf("round %d: stopped, and mounted again: %v", round, up)
		}
		if err := reconciled(r.m); err != nil {
			r.t.Fatal(err)
		}
		if up := mounted(); len(up) > 0 {
			r.t.Fatalf("round %d: stopped, and mounted again later: %v", round, up)
		}
		r.must("sh", "-euc", `cd /m; for c in *; do systemctl start "m-$c.mount"; done`)
	}
	r.settled()
}

// restarts: systemd takes a mount down and mounts it again, and the agent leaves it to that. With every
// other one, /m/stacked goes, too.
func (r *races) restarts() {
	r.t.Helper()
	const rounds = 50
	for round := range rounds {
		r.must("systemctl", "restart", fmt.Sprintf("m-c%03d.mount", round%2*(1+round/2%(r.n-1))))
		r.upperdirsOnce()
	}
	if err := reconciled(r.m); err != nil {
		r.t.Fatal(err)
	}
	r.must("systemctl", "start", "overlayd.target")
	r.settled()
}

// applies: the command line and the agent mend the same at the same time.
func (r *races) applies() {
	r.t.Helper()
	const rounds = 100
	lost := 0
	for round := range rounds {
		umounts := "umount"
		for range 4 {
			umounts += fmt.Sprintf(" /m/c%03d", 1+r.rand.IntN(r.n-1))
		}
		by := started(r.t, r.command("sh", "-c", umounts+" 2>/dev/null; true"))
		apply := started(r.t, r.command("overlayd", "apply", "--auto-approve", "--lock-timeout=2m"))
		succeeded(r.t, by)
		if err := apply.Wait(); err != nil {
			// What is unmounted while an apply is at it may fail in it, and is drift for the next one.
			lost++
			r.t.Logf("round %d: %v\n%s", round, err, apply.Stdout)
		}
		r.upperdirsOnce()
	}
	if lost > rounds/4 {
		r.t.Errorf("%d of %d applies failed beside the agent", lost, rounds)
	}
	r.must("overlayd", "apply", "--auto-approve", "--lock-timeout=2m")
	r.settled()
}

// kills: the agent is killed while it replaces all overlays.
func (r *races) kills() {
	r.t.Helper()
	const rounds = 6
	base := oneBase
	took := time.Second
	for round := range rounds {
		if base == oneBase {
			base = otherBase
		} else {
			base = oneBase
		}
		r.must("systemctl", "reset-failed", "overlayd") // and its count of starts
		r.spec(base)
		// From the moment that it has begun.
		delay := time.Duration(r.rand.Float64() * float64(took) / 2)
		r.must("sh", "-euc", `until grep -q "lowerdir=/t/$1," /proc/self/mountinfo; do :; done`, "sh", base)
		<-time.After(delay)
		r.must("systemctl", "kill", "--signal=KILL", "overlayd")
		r.upperdirsOnce()
		r.intact()
		r.t.Logf("round %d: killed %v after the first replace", round, delay)
		r.settled(base)
	}
	r.spec(oneBase)
	r.settled()
}

// terms: an agent that is told to end while it mounts many overlays ends well, with what it was at.
func (r *races) terms() {
	r.t.Helper()
	r.must("systemctl", "stop", "overlayd")
	r.n = 300
	r.spec(oneBase)
	r.must("systemctl", "start", "--no-block", "overlayd")
	r.must("sh", "-euc", `until mountpoint -q /m/c020; do :; done; systemctl stop overlayd`)
	mounted := func() int { return len(overlays([]byte(r.must("cat", "/proc/self/mountinfo")))) }
	n := mounted()
	out := r.must("systemctl", "show", "-P", "Result,ExecMainStatus", "overlayd")
	if strings.Join(strings.Fields(out), " ") != "success 0" {
		r.t.Errorf("the agent ended with %s", out)
	}
	machine.Say("     the agent of %s ended with %d of %d mounted", r.m.Suite, n, r.total())
	r.upperdirsOnce()
	if again := mounted(); again != n {
		r.t.Errorf("%d overlays were mounted when the agent had ended, and %d after that", n, again)
	}
	r.must("systemctl", "start", "overlayd")
	if err := reconciled(r.m); err != nil {
		r.t.Fatal(err)
	}
	r.write()
	r.settled()
}
