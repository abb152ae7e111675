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

const dependent = `[Unit]
RequiresMountsFor=/m/c000 /m/stacked
[Service]
Type=exec
WorkingDirectory=/m/c000
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
`

// TestResetKilled kills resets at random moments. Whatever was not to go is there, and the next run finishes: the
// client is pristine and mounted, what stands on it is, and the service that was stopped with it runs again.
func TestResetKilled(t *testing.T) {
	seed := seedOf(t)
	forEachSuite(t, func(t *testing.T, release machine.Suite) {
		t.Logf("OVERLAYD_SEED=%d", seed)
		const rounds = 12
		chance := rand.New(rand.NewPCG(seed, 1))
		c := newClients(t, booted(t, release), 3)
		c.must("overlayd", "apply", "--auto-approve")
		c.write()
		if err := c.m.WriteFile(bounded(t), "/etc/systemd/system/app.service", []byte(dependent), 0o644); err != nil {
			t.Fatal(err)
		}
		c.must("systemctl", "daemon-reload")
		c.must("systemctl", "enable", "--now", "app.service")
		reset := []string{"overlayd", "reset", "--auto-approve", `overlay.client["c000"]`}
		begin := time.Now()
		c.must(reset...)
		took := time.Since(begin)
		hits := 0
		for round := range rounds {
			c.must("sh", "-euc", `cd /m; mkdir -p c000/d; for i in $(seq 200); do echo `+fmt.Sprint(round)+` >c000/d/$i; done
				for name in *; do echo "$name" >"$name/own"; done`)
			how := append(reset[:3:3], "--keep")
			if round%2 == 1 {
				how = how[:3]
			}
			how = append(how, reset[3])
			if _, err := c.killAfter(time.Duration(chance.Float64()*float64(took)), how...); err != nil {
				hits++
			}
			c.upperdirsOnce()
			if chance.IntN(6) == 0 {
				if _, err := c.m.Reboot(bounded(t)); err != nil {
					t.Fatal(err)
				}
			}
			c.must(how...)
			c.must("overlayd", "apply", "--auto-approve")
			out := c.must("sh", "-euc", `cd /t/clients; ls c000/upper; ls c000 | grep trash || true
				for name in c001 c002 stacked; do [ "$(cat $name/upper/own)" = $name ] || echo "$name lost its data"; done`)
			if strings.TrimSpace(out) != "" {
				t.Fatalf("round %d: after the next run:\n%s", round, out)
			}
			if round%2 == 0 {
				c.must("sh", "-euc", `[ "$(cat /t/clients/c000/upper.reset-*/d/* | grep -cx `+fmt.Sprint(round)+`)" = 200 ] || {
					ls -R /t/clients/c000 | head -50; exit 1; }`)
			}
			c.once()
			c.usable()
			c.must("overlayd", "plan", "--detailed-exitcode")
			c.must("systemctl", "is-active", "app.service")
			c.must("sh", "-euc", `test -e "/proc/$(systemctl show -P MainPID app.service)/cwd/base"`)
		}
		if hits == 0 {
			t.Errorf("none of %d kills came before the command had ended", rounds)
		}
		machine.Say("     %d of %d kills in %s hit a running reset", hits, rounds, release)
	})
}

// TestResetRacesStart has somebody start the unit of a client all the time while it is reset: the mount that systemd
// makes in between stands on what is about to be deleted. Whatever comes first, a client that was reset writes to its
// fresh upperdir, and one that was not has its data.
func TestResetRacesStart(t *testing.T) {
	forEachSuite(t, func(t *testing.T, release machine.Suite) {
		const rounds = 20
		c := newClients(t, booted(t, release), 3)
		c.must("overlayd", "apply", "--auto-approve")
		c.write()
		starts := started(t, c.command("sh", "-c", "while :; do systemctl start m-c000.mount; done"))
		t.Cleanup(func() {
			if err := c.m.KillCommand(starts); err != nil {
				t.Error(err)
			}
			_ = starts.Wait() // it was killed
		})
		done := 0
		for round := range rounds {
			text := fmt.Sprint("round ", round)
			c.must("sh", "-euc", `echo "$1" >/m/c000/own`, "sh", text)
			_, err := c.run("overlayd", "reset", "--auto-approve", `overlay.client["c000"]`)
			if err != nil {
				c.must("overlayd", "apply", "--auto-approve")
				if got := c.must("cat", "/m/c000/own"); strings.TrimSpace(got) != text {
					t.Fatalf("round %d: not reset, and the client has %q, not %q", round, got, text)
				}
				continue
			}
			done++
			c.must("sh", "-euc", `echo fresh >/m/c000/fresh; [ "$(cat /t/clients/c000/upper/fresh)" = fresh ]
				[ ! -e /m/c000/own ] || { echo "not reset"; exit 1; }`)
			c.once()
		}
		if done == 0 {
			t.Error("no reset ever succeeded")
		}
		machine.Say("     %d of %d resets in %s went through", done, rounds, release)
	})
}
