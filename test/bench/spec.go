package main

import (
	"context"
	"fmt"

	"github.com/overlayd/overlayd/test/bench/probe"
	"github.com/overlayd/overlayd/test/bench/report"
)

// spec measures how soon what somebody declares is there.
func spec(ctx context.Context, e *env) (report.Table, error) {
	t := report.Table{
		Title: "A new file in /etc/overlayd: how soon its overlay is mounted",
		Note: fmt.Sprintf("%d files, renamed into place one by one. 200 ms of it the agent waits for more of them, on "+
			"purpose.", e.few()),
	}
	for _, n := range []int{10, 1000} {
		if err := e.overlays(ctx, n); err != nil {
			return t, err
		}
		agent, err := e.agent(ctx)
		if err != nil {
			return t, err
		}
		d := drop{Agent: agent}
		for i := range e.few() {
			name := fmt.Sprintf("new_%d_%d", n, i)
			d.Files = append(d.Files, probe.File{
				Path: "/etc/overlayd/" + name + ".hcl", Mountpoint: base + "/m/" + name,
				Text: string(probe.SpecOfOne(name, base+"/lower")),
			})
		}
		e.say("%d files", e.few())
		var samples []float64
		if err := e.ask(ctx, request{Drop: &d}, &samples); err != nil {
			return t, err
		}
		t.Rows = append(t.Rows, report.Row{
			Case: report.Number(float64(n)) + " overlays before", Overlays: n, Subject: "agent", Unit: report.Seconds,
			Samples: samples,
		})
		// So that there are not more than n the next time. The agent takes nothing down that is mounted, and would not
		// know yet that these are gone from the spec.
		const clean = "systemctl stop overlayd; rm /etc/overlayd/new_*; overlayd apply --auto-approve"
		if _, err := e.sh(ctx, clean); err != nil {
			return t, err
		}
	}
	return t, nil
}
