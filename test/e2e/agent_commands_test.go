//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/overlayd/overlayd/test/machine"
)

// agentState is what the agent tells others.
const agentState = "/run/overlayd/agent.json"

// eventually waits until a look at the machine gives no error. The last one is returned when time is up.
func eventually(m *machine.Machine, look func(run func(argv ...string) ([]byte, error)) error) error {
	ctx, cancel := context.WithTimeout(suite.ctx, bound)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := look(func(argv ...string) ([]byte, error) {
			out, err := m.Command(ctx, argv...).Output()
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				err = fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, exit.Stderr)
			}
			return out, err
		})
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("did not come true within %v: %w", bound, last)
		}
	}
}

// agentSays waits until the agent's state is so, or, negated, not so.
func agentSays(m *machine.Machine, neg bool, path string, want ...string) error {
	return eventually(m, func(run func(argv ...string) ([]byte, error)) error {
		text, err := run("cat", agentState)
		if err != nil {
			return err
		}
		err = lookJSON(text, path, want...)
		switch {
		case neg && err == nil:
			return fmt.Errorf("%s %s is so: %s", path, strings.Join(want, " "), text)
		case !neg && err != nil:
			return fmt.Errorf("%w in %s", err, text)
		case errors.Is(err, errNotJSON):
			return err
		}
		return nil
	})
}

// reconciled has the agent look at everything. What was looked at already when the signal came does not count, so it
// takes two rounds.
func reconciled(m *machine.Machine) error {
	for range 2 {
		before := time.Time{}
		err := eventually(m, func(run func(argv ...string) ([]byte, error)) (err error) {
			before, err = reconciledAt(run)
			return err
		})
		if err != nil {
			return err
		}
		err = eventually(m, func(run func(argv ...string) ([]byte, error)) error {
			_, err := run("systemctl", "kill", "--signal=HUP", "overlayd.service")
			return err
		})
		if err != nil {
			return err
		}
		err = eventually(m, func(run func(argv ...string) ([]byte, error)) error {
			at, err := reconciledAt(run)
			if err == nil && !at.After(before) {
				err = fmt.Errorf("the agent has not looked at the host since %v", before)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func reconciledAt(run func(argv ...string) ([]byte, error)) (time.Time, error) {
	text, err := run("cat", agentState)
	if err != nil {
		return time.Time{}, err
	}
	var state struct {
		Reconciled time.Time `json:"reconciled"`
	}
	if err := json.Unmarshal(text, &state); err != nil {
		return time.Time{}, fmt.Errorf("%s: %w", agentState, err)
	}
	return state.Reconciled, nil
}

func cmdAgent(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 1 || len(args) == 2, "[!] agent PATH [VALUE|~REGEXP]")
	ts.Check(agentSays(use(ts).machine, neg, args[0], args[1:]...))
}

func cmdReconciled(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 0, "reconciled")
	ts.Check(reconciled(use(ts).machine))
}

func cmdLogged(ts *testscript.TestScript, neg bool, args []string) {
	const text = "logged N|N+ FIELD=VALUE..."
	usage(ts, !neg && len(args) >= 1, text)
	number, least := strings.CutSuffix(args[0], "+")
	want, err := strconv.Atoi(number)
	usage(ts, err == nil, text)
	ctx, cancel := context.WithTimeout(suite.ctx, bound)
	defer cancel()
	lines, err := journal(ctx, use(ts).machine, args[1:]...)
	ts.Check(err)
	_, err = ts.Stdout().Write(lines)
	ts.Check(err)
	if got := bytes.Count(lines, []byte("\n")); got < want || got > want && !least {
		ts.Fatalf("%d lines in the journal, not %s:\n%s", got, args[0], lines)
	}
}

// journal gives what the agent told the journal, one JSON object per line.
func journal(ctx context.Context, m *machine.Machine, fields ...string) ([]byte, error) {
	// Without --sync, what was sent last may be missing.
	const query = `journalctl --sync; exec journalctl --quiet --output=json --unit=overlayd.service _COMM=overlayd "$@"`
	return m.Command(ctx, append([]string{"sh", "-euc", query, "sh"}, fields...)...).Output()
}
