package agent

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/overlayd/overlayd/internal/agent/state"
)

func TestNotice(t *testing.T) {
	n := &notice{dir: t.TempDir()}
	pid, start, err := state.Self()
	if err != nil {
		t.Fatal(err)
	}
	tell := func(policy string) {
		t.Helper()
		if err := n.tell(state.State{PID: pid, StartTime: start, Policy: policy}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(policy string, stopping bool) {
		t.Helper()
		s, running, err := state.Read(n.dir)
		if err != nil || !running || s.Policy != policy || s.Stopping != stopping {
			t.Errorf("%+v, running %t, %v; want policy %s, stopping %t", s, running, err, policy, stopping)
		}
	}
	tell("safe")
	want("safe", false)
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	want("safe", true)
	tell("full") // by what was under way
	want("full", true)
	if err := n.end(); err != nil {
		t.Fatal(err)
	}
	tell("late")
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := state.Read(n.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the end: %v", err)
	}
}
