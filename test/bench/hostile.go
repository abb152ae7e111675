package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/overlayd/overlayd/test/bench/probe"
	"github.com/overlayd/overlayd/test/bench/report"
)

// hostile measures what it costs when somebody unmounts without end, as fast as the kernel can.
func hostile(ctx context.Context, e *env) (report.Table, error) {
	const n, lasting = 1000, 30 * time.Second
	t := report.Table{
		Title: fmt.Sprintf("umount(2) in a loop without a pause, for %.0f s", lasting.Seconds()),
		Note: "CPU: share of one processor. systemd reads the mount table at each change, whoever makes it. The loop " +
			"itself takes one processor.",
	}
	if err := e.overlays(ctx, n); err != nil {
		return t, err
	}
	for _, c := range []struct {
		name string
		of   int
	}{{"1 of 1,000 overlays", 1}, {"all of 1,000 overlays", n}} {
		e.say("%s", c.name)
		// Repairs of before do not count against an overlay any more.
		if err := e.step(ctx, n, "systemctl reload overlayd"); err != nil {
			return t, err
		}
		w, err := e.storm(ctx, c.of, lasting)
		if err != nil {
			return t, err
		}
		for _, v := range []struct {
			what  string
			unit  report.Unit
			value float64
		}{
			{"CPU of the agent", report.Share, w.agent.Seconds() / w.Seconds},
			{"CPU of systemd", report.Share, w.systemd.Seconds() / w.Seconds},
			{"mounts taken away", report.Count, float64(w.Taken)},
			{"lines logged", report.Count, float64(w.lines)},
		} {
			t.Rows = append(t.Rows, report.Row{
				Case: c.name, Overlays: n, Subject: v.what, Unit: v.unit, Samples: []float64{v.value},
			})
		}
	}
	return t, nil
}

// wake is what a storm leaves behind.
type wake struct {
	probe.Damage
	agent, systemd time.Duration // CPU time
	lines          int           // of the agent in the journal
}

func (e *env) storm(ctx context.Context, overlays int, lasting time.Duration) (w wake, err error) {
	before, err := e.costs(ctx)
	if err != nil {
		return w, err
	}
	if err := e.ask(ctx, request{Storm: &storm{Overlays: overlays, Lasting: lasting}}, &w.Damage); err != nil {
		return w, err
	}
	after, err := e.costs(ctx)
	if err != nil {
		return w, err
	}
	w.agent, w.systemd, w.lines = after.agent-before.agent, after.systemd-before.systemd, after.lines-before.lines
	return w, nil
}

// costs is what has been used so far.
func (e *env) costs(ctx context.Context) (w wake, err error) {
	if w.agent, err = e.unitCPU(ctx); err != nil {
		return w, err
	}
	systemd, err := e.process(ctx, 1, false)
	if err != nil {
		return w, err
	}
	w.systemd = time.Duration(systemd.Ticks) * 10 * time.Millisecond
	text, err := e.sh(ctx, "journalctl --sync; journalctl --unit=overlayd --quiet --output=cat | wc -l")
	if err != nil {
		return w, err
	}
	w.lines, err = strconv.Atoi(text)
	return w, err
}
