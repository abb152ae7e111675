package main

import (
	"context"
	"fmt"

	"github.com/overlayd/overlayd/test/bench/probe"
	"github.com/overlayd/overlayd/test/bench/report"
)

// memory measures what an agent takes that has many overlays, after each thing that it does: resident then, and at most
// meanwhile.
func memory(ctx context.Context, e *env) (report.Table, error) {
	n := e.memory
	t := report.Table{Title: fmt.Sprintf("Memory of the agent, with %s overlays", report.Number(float64(n)))}
	for _, phase := range []struct {
		name string
		do   func() error
	}{
		{"creating them", func() error { return e.overlays(ctx, n) }},
		{"a restart", func() error { return e.step(ctx, n, "systemctl restart overlayd") }},
		{"a reload (SIGHUP)", func() error { return e.step(ctx, n, "systemctl reload overlayd") }},
		{"a repair", func() error { return e.repair(ctx) }},
	} {
		e.say("%s", phase.name)
		if err := phase.do(); err != nil {
			return t, err
		}
		agent, err := e.agent(ctx)
		if err != nil {
			return t, err
		}
		p, err := e.process(ctx, agent, true)
		if err != nil {
			return t, err
		}
		for _, value := range []struct {
			what  string
			bytes int64
		}{{"resident", p.Resident}, {"peak", p.Peak}} {
			t.Rows = append(t.Rows, report.Row{
				Case: "after " + phase.name, Overlays: n, Subject: value.what, Unit: report.Bytes,
				Samples: []float64{float64(value.bytes)},
			})
		}
	}
	return t, nil
}

// step runs something in the machine and waits until it has come to rest.
func (e *env) step(ctx context.Context, n int, script string) error {
	if _, err := e.sh(ctx, script); err != nil {
		return err
	}
	return e.settle(ctx, n)
}

// repair has one mount taken away and brought back, and waits until that has come to rest.
func (e *env) repair(ctx context.Context) error {
	agent, err := e.agent(ctx)
	if err != nil {
		return err
	}
	var samples []float64
	err = e.ask(ctx, request{Rounds: &probe.Rounds{By: probe.ByAgent, Count: 1, Agent: agent}}, &samples)
	if err != nil {
		return err
	}
	return e.settle(ctx, e.memory)
}
