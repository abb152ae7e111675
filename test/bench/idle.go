package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/overlayd/overlayd/test/bench/probe"
	"github.com/overlayd/overlayd/test/bench/report"
)

// idle measures what an agent uses that has nothing to do.
func idle(ctx context.Context, e *env) (report.Table, error) {
	const n, lasting = 1000, time.Minute
	t := report.Table{Title: fmt.Sprintf("%.0f s without an event, with %s overlays", lasting.Seconds(), report.Number(n))}
	if err := e.overlays(ctx, n); err != nil {
		return t, err
	}
	before, err := e.usage(ctx)
	if err != nil {
		return t, err
	}
	e.say("doing nothing for %s", lasting)
	select {
	case <-time.After(lasting):
	case <-ctx.Done():
		return t, ctx.Err()
	}
	after, err := e.usage(ctx)
	if err != nil {
		return t, err
	}
	row := func(what string, unit report.Unit, value float64) {
		t.Rows = append(t.Rows, report.Row{
			Case: "agent", Overlays: n, Subject: what, Unit: unit, Samples: []float64{value},
		})
	}
	row("CPU, ticks of 10 ms", report.Count, float64(after.Ticks-before.Ticks))
	row("CPU of the unit", report.Seconds, (after.cpu - before.cpu).Seconds())
	row("times it woke up", report.Count, float64(after.Switches-before.Switches))
	row("resident memory", report.Bytes, float64(after.Resident))
	return t, nil
}

// usage is what the agent has used.
type usage struct {
	probe.Process
	cpu time.Duration // of the unit, by systemd
}

func (e *env) usage(ctx context.Context) (u usage, err error) {
	agent, err := e.agent(ctx)
	if err != nil {
		return u, err
	}
	if u.Process, err = e.process(ctx, agent, false); err != nil {
		return u, err
	}
	u.cpu, err = e.unitCPU(ctx)
	return u, err
}

// unitCPU is the CPU time of overlayd.service so far.
func (e *env) unitCPU(ctx context.Context) (time.Duration, error) {
	text, err := e.sh(ctx, "systemctl show --property=CPUUsageNSec --value overlayd")
	if err != nil {
		return 0, err
	}
	ns, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("cannot read the CPU time of overlayd.service: %w", err)
	}
	return time.Duration(ns), nil
}
