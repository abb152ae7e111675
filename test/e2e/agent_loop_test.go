//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/overlayd/overlayd/test/machine"
)

const loopSpec = `
settings {
  agent { metrics_file = "/var/lib/metrics/overlayd.prom" }
}
overlay "client" {
  for_each   = toset(["a", "b"])
  lowerdirs  = ["/t/lower"]
  upperdir   = "/t/${each.key}/upper"
  workdir    = "/t/${each.key}/work"
  mountpoint = "/m/${each.key}"
}
overlay "needy" {
  lowerdirs  = ["/t/lower"]
  mountpoint = "/m/needy"
  unit {
    requires = ["never.service"]
    after    = ["never.service"]
  }
}
`

const neverService = `[Unit]
StartLimitIntervalSec=0
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=test -e /root/ok
`

// TestAgentLoop has the agent work against what never ends: an overlay that always fails, somebody who always unmounts,
// a mount table that always changes. It is patient, in CPU and in words, and it measures.
func TestAgentLoop(t *testing.T) {
	forEachSuite(t, func(t *testing.T, release machine.Suite) {
		l := &loop{t: t, m: booted(t, release)}
		l.must(`mkdir -p /t/lower /var/lib/metrics`)
		for path, text := range map[string]string{
			"/etc/overlayd/spec.hcl": loopSpec, "/etc/systemd/system/never.service": neverService,
		} {
			if err := l.m.WriteFile(bounded(t), path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		l.must(`systemctl daemon-reload; systemctl start overlayd`)
		l.fails()
		l.measures()
		l.noise()
		l.hostile()
		l.mended()
	})
}

type loop struct {
	t *testing.T
	m *machine.Machine
}

func (l *loop) must(script string) string {
	l.t.Helper()
	out, err := l.m.Command(bounded(l.t), "sh", "-euc", script).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (l *loop) check(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// words counts what the agent has told the journal.
func (l *loop) words() int {
	l.t.Helper()
	lines, err := journal(bounded(l.t), l.m)
	l.check(err)
	return bytes.Count(lines, []byte("\n"))
}

// ticks is the CPU time of the agent so far, in clock ticks.
func (l *loop) ticks() int {
	l.t.Helper()
	stat := l.must(`cat /proc/$(systemctl show -P MainPID overlayd)/stat`)
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	user, err := strconv.Atoi(fields[14-3])
	l.check(err)
	system, err := strconv.Atoi(fields[15-3])
	l.check(err)
	return user + system
}

// fails watches an overlay that cannot be mounted: each pause is longer than the one before.
func (l *loop) fails() {
	l.t.Helper()
	pauses := map[int]time.Duration{}
	l.check(eventually(l.m, func(run func(argv ...string) ([]byte, error)) error {
		text, err := run("cat", agentState)
		if err != nil {
			return err
		}
		var s struct {
			Failed []struct {
				Address  string
				Times    int
				At, Next time.Time
			}
		}
		if err := json.Unmarshal(text, &s); err != nil {
			return err
		}
		for _, f := range s.Failed {
			if f.Address == "overlay.needy" {
				pauses[f.Times] = f.Next.Sub(f.At)
			}
		}
		if len(pauses) < 4 {
			return fmt.Errorf("pauses so far, by how often it has failed: %v: %s", pauses, text)
		}
		return nil
	}))
	last := time.Duration(0)
	for times := range 20 {
		if pause, ok := pauses[times]; ok {
			if pause <= last {
				l.t.Errorf("pauses, by how often it has failed, do not grow: %v", pauses)
			}
			last = pause
		}
	}
}

// measures reads the metrics with Prometheus's own parser.
func (l *loop) measures() {
	l.t.Helper()
	labels := map[string]string{"address": `overlay.client["a"]`}
	var before, after float64
	is := func(name string, labels map[string]string, ok func(v float64) bool) {
		l.t.Helper()
		l.check(eventually(l.m, func(run func(argv ...string) ([]byte, error)) error {
			text, err := run("cat", "/var/lib/metrics/overlayd.prom")
			if err != nil {
				return err
			}
			v, err := metric(text, name, labels)
			if err == nil && !ok(v) {
				err = fmt.Errorf("%s%v is %v", name, labels, v)
			}
			after = v
			return err
		}))
	}
	atLeast := func(least float64) func(float64) bool { return func(v float64) bool { return v >= least } }
	exactly := func(want float64) func(float64) bool { return func(v float64) bool { return v == want } }
	is("overlayd_client_upper_bytes", labels, atLeast(0))
	is("overlayd_client_upper_inodes", labels, atLeast(1))
	before = after
	is("overlayd_overlays", map[string]string{"state": "mounted"}, exactly(2))
	is("overlayd_failing_overlays", nil, exactly(1))
	is("overlayd_policy_info", map[string]string{"policy": "safe"}, exactly(1))
	is("overlayd_spec_valid", nil, exactly(1))
	is("overlayd_changes_total", map[string]string{"change": "create", "result": "done"}, exactly(2))
	// Its unit was written, and so what fails again and again is a repair.
	is("overlayd_changes_total", map[string]string{"change": "create", "result": "failed"}, exactly(1))
	is("overlayd_changes_total", map[string]string{"change": "repair", "result": "failed"}, atLeast(3))
	l.must(`umount /m/b`)
	is("overlayd_changes_total", map[string]string{"change": "repair", "result": "done"}, exactly(1))

	// What a client writes is seen at the latest when the agent starts anew.
	l.must(`for i in 1 2 3; do head -c 1000000 /dev/urandom >/m/a/$i; done; sync; systemctl restart overlayd`)
	is("overlayd_client_upper_bytes", labels, atLeast(3e6))
	is("overlayd_client_upper_inodes", labels, exactly(before+3))
	other := map[string]string{"address": `overlay.client["b"]`}
	is("overlayd_client_upper_bytes", other, func(v float64) bool { return v < 1e6 })
}

// metric gives the value of a series that has these labels, others aside.
func metric(text []byte, name string, labels map[string]string) (float64, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return 0, err
	}
	for _, m := range families[name].GetMetric() {
		n := 0
		for _, pair := range m.GetLabel() {
			if value, ok := labels[pair.GetName()]; ok && value == pair.GetValue() {
				n++
			}
		}
		if n == len(labels) {
			return m.GetGauge().GetValue() + m.GetCounter().GetValue(), nil // of which there is one
		}
	}
	return 0, fmt.Errorf("no %s%v in\n%s", name, labels, text)
}

// noise changes the mount table all the time, which is nothing to an agent.
func (l *loop) noise() {
	l.t.Helper()
	l.must(`until systemctl reload overlayd; do :; done; touch /root/ok`)
	l.check(agentSays(l.m, true, ".failed[address=overlay.needy]"))
	l.check(reconciled(l.m))
	words, ticks := l.words(), l.ticks()
	used := l.must(`mkdir -p /n; for i in $(seq 1000); do mount -t tmpfs none /n; umount /n; done
		set -- $(cat /proc/$$/stat); echo $((${14} + ${15} + ${16} + ${17}))`)
	l.check(reconciled(l.m))
	if said := l.words() - words; said != 0 {
		l.t.Errorf("the agent had %d things to say of mounts that are not its own", said)
	}
	l.bounded("1000 mounts of others", l.ticks()-ticks, used)
}

// hostile unmounts what the agent mounts until it does not mount it at once any more, and then goes on for a while.
func (l *loop) hostile() {
	l.t.Helper()
	words, ticks := l.words(), l.ticks()
	used := l.must(`n=0; until grep -q "again and again" /run/overlayd/agent.json; do
			umount /m/a 2>/dev/null && n=$((n + 1)); done
		for i in $(seq 2000); do umount /m/a 2>/dev/null && n=$((n + 1)); done
		set -- $(cat /proc/$$/stat); echo $((${14} + ${15} + ${16} + ${17})) $n`)
	used, n, _ := strings.Cut(used, " ")
	spent := l.ticks() - ticks
	said := l.words() - words
	machine.Say("     %s: unmounted %s times, and the agent said %d things", l.m.Suite, n, said)
	if said > 60 {
		l.t.Errorf("the agent said %d things of one overlay that is unmounted again and again", said)
	}
	l.bounded("an overlay that is unmounted again and again", spent, used)
	l.check(agentSays(l.m, true, `.pending[address=overlay.client["a"]]`))
	if out := l.must(`grep -c " /m/a " /proc/self/mountinfo`); out != "1" {
		l.t.Errorf("%s mounts at /m/a", out)
	}
}

// bounded asks the agent to use less CPU than who keeps it busy.
func (l *loop) bounded(why string, ticks int, used string) {
	l.t.Helper()
	all, err := strconv.Atoi(used)
	l.check(err)
	machine.Say("     %s: %s took %d ticks, and the agent %d", l.m.Suite, why, all, ticks)
	if ticks > all {
		l.t.Errorf("%s took %d ticks of CPU, and the agent %d", why, all, ticks)
	}
}

// mended: in the end all is well.
func (l *loop) mended() {
	l.t.Helper()
	l.check(eventually(l.m, func(run func(argv ...string) ([]byte, error)) error {
		_, err := run("overlayd", "plan", "--detailed-exitcode")
		return err
	}))
	l.check(agentSays(l.m, false, ".failed", "[]"))
	l.check(agentSays(l.m, false, ".pending", "[]"))
}
