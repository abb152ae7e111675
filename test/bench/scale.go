package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/overlayd/overlayd/test/bench/probe"
	"github.com/overlayd/overlayd/test/bench/report"
	"github.com/overlayd/overlayd/test/bench/scale"
)

// sideways measures overlayd beside what else there is, with more and more overlays.
func sideways(ctx context.Context, e *env) (tables []report.Table, err error) {
	if err := e.alone(ctx); err != nil {
		return nil, err
	}
	// One round that does not count, so that everybody's programs have been read from the disk.
	const warm = 10
	if _, err := e.sized(ctx, warm, 1, e.ways...); err != nil {
		return nil, fmt.Errorf("cannot warm up: %w", err)
	}
	var trouble error
	for _, n := range e.numbers {
		rows, err := e.sized(ctx, n, e.roundsOf(n), e.ways...)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		trouble = errors.Join(trouble, err)
		if rows == nil {
			return tables, trouble
		}
		t := report.Table{
			System: e.system, Title: report.Number(float64(n)) + " overlays", Baseline: scale.Overlayd, Rows: rows,
		}
		if n == e.numbers[len(e.numbers)-1] {
			t.Note = scale.SideNote
		}
		tables = append(tables, t)
	}
	for i := range tables {
		tables[i].Name = scale.Side
	}
	if grown := scale.Grown(tables); len(grown.Rows) > 0 {
		tables = append(tables, grown)
	}
	return tables, trouble
}

// numerous measures overlayd alone, with very many overlays.
func numerous(ctx context.Context, e *env) (report.Table, error) {
	t := report.Table{
		Title: report.Number(float64(e.many)) + " overlays", Baseline: scale.Overlayd,
		Note: "bare loop: it reads all units and the mount table; its start is not counted.",
	}
	if err := e.alone(ctx); err != nil {
		return t, err
	}
	var err error
	t.Rows, err = e.sized(ctx, e.many, 1, probe.ByOverlayd)
	return t, err
}

// managed measures overlayd beside Ansible.
func managed(ctx context.Context, e *env) (report.Table, error) {
	t := report.Table{
		Title: report.Number(ansibleOverlays) + " overlays, overlayd and Ansible", Baseline: scale.Overlayd,
		Note: "Ansible: one play with one ansible.posix.mount for each overlay, on the machine itself; the directories " +
			"are there before.",
	}
	if err := e.alone(ctx); err != nil {
		return t, err
	}
	if _, err := e.sized(ctx, 1, 1, probe.ByOverlayd, probe.ByAnsible); err != nil {
		return t, fmt.Errorf("cannot warm up: %w", err)
	}
	var err error
	t.Rows, err = e.sized(ctx, ansibleOverlays, e.ansible, probe.ByOverlayd, probe.ByAnsible)
	return t, err
}

const ansibleOverlays = 100

// alone stops the agent, which would take part.
func (e *env) alone(ctx context.Context) error {
	_, err := e.sh(ctx, "systemctl stop overlayd; rm -f /etc/overlayd/*.hcl")
	return err
}

func (e *env) sized(ctx context.Context, n, rounds int, ways ...string) ([]report.Row, error) {
	s := &sideBySide{env: e, n: n, rounds: rounds, ways: ways}
	return s.run(ctx)
}

// roundsOf is how often everything is measured with so many overlays.
func (e *env) roundsOf(n int) int {
	const large = 2000
	if n > large {
		return (e.turns + 1) / 2
	}
	return e.turns
}
