//go:build e2e

package e2e

import (
	"bytes"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/overlayd/overlayd/test/machine"
)

// TestKilled kills apply and destroy at random moments, over and over. After
// each kill no upperdir is mounted twice and all data is there; the next apply
// converges. OVERLAYD_SEED repeats a run, as far as time repeats itself.
func TestKilled(t *testing.T) {
	seed := seedOf(t)
	forEachSuite(t, func(t *testing.T, release machine.Suite) {
		t.Logf("OVERLAYD_SEED=%d", seed)
		const rounds = 25
		k := &killer{clients: newClients(t, booted(t, release), 20), rand: rand.New(rand.NewPCG(seed, 0))}
		k.measure()
		for round := range rounds {
			k.round(round)
		}
		if k.hit == 0 {
			t.Errorf("none of %d kills came before the command had ended", rounds)
		}
		machine.Say("     %d of %d kills in %s hit a running command", k.hit, rounds, release)
	})
}

// seedOf gives the seed of a test that plays with chance.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("OVERLAYD_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("OVERLAYD_SEED: %v", err)
		}
	}
	machine.Say("%s: OVERLAYD_SEED=%d", t.Name(), seed)
	return seed
}

type killer struct {
	*clients
	rand *rand.Rand
	base string // of the spec as it is
	took map[string]time.Duration
	hit  int
}

// operations are what gets killed, each from the state that the one before has
// left converged: a replace of all, a delete of all, a create of all.
var operations = map[string][]string{
	"replace": {"overlayd", "apply", "--auto-approve"},
	"destroy": {"overlayd", "destroy", "--auto-approve"},
	"create":  {"overlayd", "apply", "--auto-approve"},
}

// measure runs each operation once, undisturbed, to know how long it takes here.
func (k *killer) measure() {
	k.t.Helper()
	k.base = oneBase
	k.took = make(map[string]time.Duration)
	timed := func(op string) {
		begin := time.Now()
		k.must(operations[op]...)
		k.took[op] = time.Since(begin)
	}
	timed("create")
	k.write()
	k.swap()
	timed("replace")
	k.converged(k.base)
	timed("destroy")
	k.intact()
}

// swap changes the base in the spec.
func (k *killer) swap() {
	if k.base == oneBase {
		k.base = otherBase
	} else {
		k.base = oneBase
	}
	k.spec(k.base)
}

func (k *killer) round(round int) {
	k.t.Helper()
	op := []string{"create", "replace", "destroy"}[k.rand.IntN(3)]
	// From the state that the operation needs.
	switch op {
	case "create":
		k.must("overlayd", "destroy", "--auto-approve")
	case "replace":
		k.must("overlayd", "apply", "--auto-approve")
		k.swap()
	case "destroy":
		k.must("overlayd", "apply", "--auto-approve")
	}

	delay := time.Duration(k.rand.Float64() * float64(k.took[op]))
	took, err := k.killAfter(delay, operations[op]...)
	k.t.Logf("round %d: %s killed after %v of about %v: %v", round, op, delay, k.took[op], err)
	if err != nil {
		k.hit++
	} else {
		k.took[op] = took // too late: aim earlier next time
	}

	k.upperdirsOnce()
	k.intact()

	// Sometimes a reboot comes before the next apply: what is half done must not stop it.
	if k.rand.IntN(8) == 0 {
		k.reboot()
		k.upperdirsOnce()
		k.intact()
	}
	if out, err := k.run("overlayd", "apply", "--auto-approve"); err != nil {
		k.t.Fatalf("round %d: the apply after a killed %s failed: %v\n%s", round, op, err, out)
	}
	k.converged(k.base)
	k.intact()
}

// killAfter kills a command after some time. It gives no error if the command had ended before, well, and how long
// that took.
func (c *clients) killAfter(delay time.Duration, argv ...string) (took time.Duration, err error) {
	c.t.Helper()
	cmd := c.command(argv...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-time.After(delay):
		if err := c.m.KillCommand(cmd); err != nil {
			c.t.Fatal(err)
		}
		err = <-ended
	case err = <-ended:
	}
	return time.Since(begin), err
}

func (k *killer) reboot() {
	k.t.Helper()
	if _, err := k.m.Reboot(bounded(k.t)); err != nil {
		k.t.Fatal(err)
	}
}
