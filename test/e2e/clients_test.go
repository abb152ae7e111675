//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/overlayd/overlayd/test/machine"
)

// clients is a host with a number of clients, each with data of its own, and one
// overlay stacked on another, for tests that do something to them again and again.
type clients struct {
	t *testing.T
	m *machine.Machine
	n int
}

// Names of the two base layers between which specs change.
const (
	oneBase   = "one"
	otherBase = "other"
)

// newClients makes the layers and the specs /srv/one and /srv/other, which differ
// in the base, and mounts nothing yet.
func newClients(t *testing.T, m *machine.Machine, n int) *clients {
	c := &clients{t: t, m: m, n: n}
	for _, base := range []string{oneBase, otherBase} {
		c.must("sh", "-euc", `mkdir -p "/t/$1"; echo "$1" >"/t/$1/base"; echo >"/t/$1/victim"`, "sh", base)
	}
	// One file, whose content changes: the scope of a run is the file.
	c.spec(oneBase)
	return c
}

// spec writes the spec with that base.
func (c *clients) spec(base string) {
	c.t.Helper()
	text := fmt.Sprintf(`
overlay "client" {
  for_each   = toset([for i in range(%d) : format("c%%03d", i)])
  lowerdirs  = ["/t/%s"]
  upperdir   = "/t/clients/${each.key}/upper"
  workdir    = "/t/clients/${each.key}/work"
  mountpoint = "/m/${each.key}"
}

overlay "stacked" {
  lowerdirs  = [overlay.client["c000"].mountpoint]
  upperdir   = "/t/clients/stacked/upper"
  workdir    = "/t/clients/stacked/work"
  mountpoint = "/m/stacked"
}
`, c.n, base)
	if err := c.m.WriteFile(bounded(c.t), "/etc/overlayd/clients.hcl", []byte(text), 0o644); err != nil {
		c.t.Fatal(err)
	}
}

// total is the number of overlays that the spec declares.
func (c *clients) total() int { return c.n + 1 }

// run runs a command in the machine and returns what it printed.
func (c *clients) run(argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(suite.ctx, bound)
	defer cancel()
	out, err := c.m.Command(ctx, argv...).CombinedOutput()
	return string(out), err
}

func (c *clients) must(argv ...string) string {
	c.t.Helper()
	out, err := c.run(argv...)
	if err != nil {
		c.t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return out
}

// command prepares a command in the machine, bounded in time.
func (c *clients) command(argv ...string) *exec.Cmd { return c.m.Command(bounded(c.t), argv...) }

// write gives each client a file with its name in it.
func (c *clients) write() {
	c.t.Helper()
	c.must("sh", "-euc", `cd /m; for name in *; do echo "$name" >"$name/own"; done`)
}

// intact asks each upperdir for its client's file, whatever is mounted.
func (c *clients) intact() {
	c.t.Helper()
	out := c.must("sh", "-euc", `cd /t/clients; n=0; for name in *; do
		[ "$(cat "$name/upper/own")" = "$name" ] || { echo "the data of $name is gone:"; ls -laR "$name"; exit 1; }
		n=$((n + 1)); done; echo $n`)
	if got := strings.TrimSpace(out); got != fmt.Sprint(c.total()) {
		c.t.Fatalf("%s clients have data, not %d", got, c.total())
	}
}

// upperdirsOnce fails when one upperdir is in two live mounts, which is undefined
// behaviour to the kernel and the end of the client's data.
func (c *clients) upperdirsOnce() {
	c.t.Helper()
	seen := make(map[string]string)
	for _, line := range overlays([]byte(c.must("cat", "/proc/self/mountinfo"))) {
		_, upper, _ := strings.Cut(line, "upperdir=")
		upper, _, _ = strings.Cut(upper, ",")
		if other, twice := seen[upper]; twice {
			c.t.Fatalf("upperdir %s is mounted twice:\n%s\n%s", upper, other, line)
		}
		seen[upper] = line
	}
}

// converged asks for all overlays, once each, on that base, each with its data;
// for nothing that is left to do; and for a systemd that knows it all.
func (c *clients) converged(base string) {
	c.t.Helper()
	out := c.must("sh", "-euc", `cd /m; n=0; for name in *; do
		[ "$(cat "$name/base")" = "$1" ] || { echo "$name is on the wrong base"; exit 1; }
		[ "$(cat "$name/own")" = "$name" ] || { echo "$name does not show its data"; exit 1; }
		n=$((n + 1)); done; echo $n`, "sh", base)
	if got := strings.TrimSpace(out); got != fmt.Sprint(c.total()) {
		c.t.Fatalf("%s mountpoints, not %d", got, c.total())
	}
	c.once()
	c.usable()
	c.must("overlayd", "plan", "--detailed-exitcode")
	out = c.must("sh", "-euc", `cd /etc/systemd/system; systemctl show -P NeedDaemonReload m-*.mount overlayd.target
		ls -A . overlayd.target.wants`)
	if strings.Contains(out, "yes") {
		c.t.Fatalf("systemd was not told about a unit:\n%s", out)
	}
	if strings.Contains(out, ".tmp") {
		c.t.Fatalf("a temporary file is left:\n%s", out)
	}
}

// usable asks each client for what goes by the workdir: a file of the base is
// deleted, made anew and deleted again. A second mount of the same workdir, even
// one that fails, takes it from the first, which then still shows everything and
// takes new files, but answers EPERM or ENOENT to every change of the base's.
func (c *clients) usable() {
	c.t.Helper()
	c.must("sh", "-euc", `cd /m; bad=; for name in *; do
		for i in 1 2; do
			if ! { rm -f "$name/victim" && [ ! -e "$name/victim" ] && echo >"$name/victim"; }; then
				bad="$bad $name"
				break
			fi
		done
	done
	[ -z "$bad" ] || { echo "changes of base files fail in:$bad"; exit 1; }`)
}

// once asks for one mount at each mountpoint, no more and no fewer.
func (c *clients) once() {
	c.t.Helper()
	at := make(map[string]int)
	lines := overlays([]byte(c.must("cat", "/proc/self/mountinfo")))
	for _, line := range lines {
		at[strings.Fields(line)[4]]++
	}
	for path, n := range at {
		if n != 1 {
			c.t.Errorf("%d mounts at %s", n, path)
		}
	}
	if len(at) != c.total() {
		c.t.Errorf("%d mountpoints are mounted, not %d", len(at), c.total())
	}
	if c.t.Failed() {
		c.t.Fatalf("the mount table:\n%s", strings.Join(lines, "\n"))
	}
}
