package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/overlayd/overlayd/internal/agent/state"
	"github.com/overlayd/overlayd/internal/config"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

func today2026(hour, minute, second int) time.Time {
	return time.Date(2026, 11, 23, hour, minute, second, 0, time.UTC)
}

// quietAgent is one that has nothing to say.
func quietAgent() agentView {
	return agentView{told: true, running: true, state: state.State{
		PID: 123, StartTime: 4711, Version: "1.0.0", Since: today2026(16, 20, 1), Policy: "safe",
		Paths: []string{"/etc/overlayd"}, Reconciled: today2026(16, 30, 2), Written: today2026(16, 30, 3),
		Spec: state.Spec{Loaded: today2026(16, 20, 1), Overlays: 1},
	}}
}

// busyAgent has everything to say.
func busyAgent() agentView {
	v := quietAgent()
	s := &v.state
	s.Since = s.Since.AddDate(0, 0, -1)
	s.Spec.Error = "/etc/overlayd/x.hcl:3: Unknown attribute: An overlay has no attribute \"lowerdir\". Did you mean " +
		"\"lowerdirs\"?\n/etc/overlayd/\x1b[31m.hcl:4: Unknown block"
	s.Spec.ErrorSince = today2026(16, 31, 0)
	pending := func(key, change, reason, held string) {
		s.Pending = append(s.Pending, state.Pending{
			Address: fmt.Sprintf("overlay.client[%q]", key), Change: change, Mountpoint: "/srv/" + key, Reason: reason,
			Held: held, Since: today2026(16, 25, 0),
		})
	}
	pending("a", "replace", "lowerdirs changed: + /srv/tools", "policy safe takes no live mount down")
	pending("z", "repair", "not mounted", "stopped with systemctl: systemctl start or overlayd apply brings it back")
	pending("b", "replace", "lowerdirs changed: + /srv/tools; upperdir changed: /srv/data/b/upper → /srv/data/c/upper",
		"policy safe takes no live mount down")
	s.Conflicts = []state.Pending{{
		Address: "overlay.bad", Change: "conflict", Mountpoint: "/srv/bad", Since: s.Since,
		Reason: "lowerdir /srv/nowhere does not exist: create it, or correct the path",
	}}
	for i := range 12 {
		f := state.Failure{
			Address: fmt.Sprintf("overlay.failed[\"%02d\"]", i), Change: "repair", Mountpoint: "/srv/f",
			Error: "cannot mount overlay at /srv/f: no such device", At: today2026(16, 40, 2), Times: i + 1,
		}
		if i > 0 {
			f.Next = today2026(16, 40, 10)
		}
		s.Failed = append(s.Failed, f)
	}
	s.Omitted.Failed = 30
	s.LastChange = &state.Done{
		Address: "overlay.c", Change: "repair", Mountpoint: "/srv/c", Reason: "not mounted", At: today2026(16, 25, 0),
	}
	return v
}

func TestViewAgent(t *testing.T) {
	now := today2026(16, 41, 0)
	dead, stopping, fresh, neverLoaded := quietAgent(), quietAgent(), quietAgent(), quietAgent()
	dead.running = false
	stopping.state.Stopping = true
	fresh.state.Spec = state.Spec{}
	neverLoaded.state.Spec = state.Spec{Error: "cannot read /etc/overlayd", ErrorSince: now}
	none := agentView{}
	damaged := agentView{err: errors.New("cannot read the state of the agent: /run/overlayd/agent.json is damaged: EOF; " +
		"the agent writes it anew when it starts: \"systemctl restart overlayd\"")}
	golden(t, "agent", func(w io.Writer) {
		for _, v := range []agentView{none, damaged, dead, stopping, fresh, neverLoaded, quietAgent()} {
			printAgent(w, false, 80, v, now)
		}
		printAgent(w, false, 80, quietAgent(), now.In(time.FixedZone("", 8*3600))) // tomorrow there
	})
	golden(t, "agent_busy", func(w io.Writer) { printAgent(w, false, 0, busyAgent(), now) })
	golden(t, "agent_terminal", func(w io.Writer) { printAgent(w, true, 80, busyAgent(), now) })
	golden(t, "agent_narrow", func(w io.Writer) { printAgent(w, false, 40, busyAgent(), now) })
	golden(t, "agent_json", func(w io.Writer) {
		a := app{streams: streams{out: w}}
		for _, v := range []agentView{none, damaged, dead, busyAgent()} {
			if err := a.writeJSON(newAgentJSON(v)); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestReadAgent(t *testing.T) {
	dir := t.TempDir()
	if v := readAgent(dir); v.told || v.err != nil {
		t.Errorf("where no agent ran: %+v", v)
	}
	pid, startTime, err := state.Self()
	if err != nil {
		t.Fatal(err)
	}
	if err := state.Write(dir, state.State{PID: pid, StartTime: startTime}); err != nil {
		t.Fatal(err)
	}
	if v := readAgent(dir); !v.told || !v.running || v.err != nil || v.state.PID != pid {
		t.Errorf("this process as the agent: %+v", v)
	}
	if err := os.WriteFile(state.Path(dir), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if v := readAgent(dir); v.told || v.running || v.err == nil {
		t.Errorf("a damaged state: %+v", v)
	}
}

// The language has the policies of the agent, each of them and no other.
func TestPoliciesOfTheLanguage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "spec.hcl")
	load := func(policy string) (*config.Spec, error) {
		text := fmt.Sprintf("settings {\n  agent {\n    policy = %q\n  }\n}\n", policy)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		spec, diags := config.Load([]string{file}, config.Inputs{})
		if diags.HasErrors() {
			return spec, diags
		}
		return spec, nil
	}
	var names []string
	for _, p := range plan.Policies() {
		names = append(names, fmt.Sprintf("%q", p))
		if spec, err := load(string(p)); err != nil || spec.Agent.Policy != string(p) {
			t.Errorf("policy %s became %q, %v", p, spec.Agent.Policy, err)
		}
	}
	all := strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
	if _, err := load("none"); err == nil || !strings.Contains(err.Error(), "takes "+all+", not") {
		t.Errorf("policy none: %v; want that it takes %s", err, all)
	}
}
