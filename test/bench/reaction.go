package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"github.com/overlayd/overlayd/test/bench/probe"
	"github.com/overlayd/overlayd/test/bench/report"
)

// namespaces is how many services with a mount namespace of their own a real host has, or more.
const namespaces = 8

// subjects names who brings a mount back, for people.
var subjects = map[string]string{
	probe.ByAgent: "agent", probe.ByLoop: "bare loop", probe.BySystemctl: "systemctl start",
}

// reaction measures how long a mount is missing that somebody unmounts by hand.
func reaction(ctx context.Context, e *env) (report.Table, error) {
	t := report.Table{
		Title: "umount(2) by hand: how long the mount is missing", Baseline: subjects[probe.ByLoop],
		Note: fmt.Sprintf("%d overlays in turn, from right before umount2(2) until statx(2) finds the mount. Bare loop: "+
			"a program that knows which one will go, waits with poll(2) for the mount table and calls mount(2). systemctl "+
			"start: called at once, by hand, %d times.", e.rounds, e.few()),
	}
	for i, n := range []int{10, 100, 1000} {
		r := &reactions{env: e, n: n, name: report.Number(float64(n)) + " overlays"}
		if err := e.overlays(ctx, n); err != nil {
			return t, err
		}
		if err := r.all(ctx); err != nil {
			return t, err
		}
		t.Rows = append(t.Rows, r.rows...)
		if i < 2 {
			continue
		}
		crowd := &reactions{env: e, n: n, name: fmt.Sprintf("%s, %d namespaces", report.Number(float64(n)), namespaces)}
		if err := e.crowded(ctx, namespaces, func() error { return crowd.all(ctx) }); err != nil {
			return t, err
		}
		t.Rows = append(t.Rows, crowd.rows...)
	}
	return t, nil
}

// few is how often what is slow is measured.
func (e *env) few() int { return (e.rounds + 3) / 4 }

// reactions are those on one host.
type reactions struct {
	*env
	n    int
	name string
	rows []report.Row
}

// all measures who can bring a mount back. The agent must not run while others do.
func (r *reactions) all(ctx context.Context) error {
	if err := r.by(ctx, probe.ByAgent, r.rounds); err != nil {
		return err
	}
	if _, err := r.sh(ctx, "systemctl stop overlayd"); err != nil {
		return err
	}
	if err := r.by(ctx, probe.ByLoop, r.rounds); err != nil {
		return err
	}
	if err := r.by(ctx, probe.BySystemctl, r.few()); err != nil {
		return err
	}
	if _, err := r.sh(ctx, "systemctl start overlayd"); err != nil {
		return err
	}
	return r.settle(ctx, r.n)
}

func (r *reactions) by(ctx context.Context, who string, rounds int) error {
	r.say("%s, %s: %d rounds", r.name, subjects[who], rounds)
	agent, err := r.agent(ctx)
	if err != nil {
		return err
	}
	var samples []float64
	if err := r.ask(ctx, request{Rounds: &probe.Rounds{By: who, Count: rounds, Agent: agent}}, &samples); err != nil {
		return err
	}
	r.rows = append(r.rows, report.Row{
		Case: r.name, Overlays: r.n, Subject: subjects[who], Unit: report.Seconds, Samples: samples,
	})
	return nil
}

// crowded does something while there are processes in mount namespaces of their own. Those are slaves of the host's, as
// those of services are: what is unmounted on the host goes there, too. (In private ones the overlay would live on.)
func (e *env) crowded(ctx context.Context, n int, do func() error) (err error) {
	var crowd []*exec.Cmd
	defer func() {
		for _, cmd := range crowd {
			err = errors.Join(err, e.m.KillCommand(cmd))
			_ = cmd.Wait() // it was killed
		}
	}()
	for range n {
		cmd := e.m.Command(ctx, "unshare", "--mount", "--propagation=slave", "sleep", "infinity")
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("cannot make a mount namespace: %w", err)
		}
		crowd = append(crowd, cmd)
	}
	// sleep runs when there is a namespace, and only then.
	_, err = e.sh(ctx, fmt.Sprintf("until test $(pgrep -c -x sleep) = %d; do sleep 0.1; done", n))
	if err != nil {
		return err
	}
	return do()
}
