package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/overlayd/overlayd/test/bench/probe"
	"github.com/overlayd/overlayd/test/bench/report"
	"github.com/overlayd/overlayd/test/bench/scale"
)

// patience is when a step is given up. To stop thousands of units can take minutes.
const patience = 10 * time.Minute

// sideBySide is a measurement of many overlays, brought up and down in several ways.
type sideBySide struct {
	*env
	n      int
	rounds int
	ways   []string

	rows []report.Row
	over map[string]bool // ways that have failed, or are too slow for another round
}

// names of the ways, for people.
var wayNames = map[string]string{
	probe.ByOverlayd: scale.Overlayd, probe.ByFstab: scale.Fstab, probe.BySystemctl: scale.Systemctl,
	probe.ByBare: scale.Bare, probe.ByAnsible: scale.Playbook,
}

// sides are the ways that are measured side by side.
var sides = []string{probe.ByOverlayd, probe.ByFstab, probe.BySystemctl, probe.ByBare}

// run does rounds, in each of which everybody has a turn. So whatever else the computer does hits all alike; and nobody
// is always the first, or right behind the same one.
func (s *sideBySide) run(ctx context.Context) (rows []report.Row, err error) {
	s.over = map[string]bool{}
	if slices.ContainsFunc(s.ways, func(way string) bool { return way != probe.ByOverlayd }) {
		if _, err := s.step(ctx, probe.ByOverlayd, probe.Capture); err != nil {
			return nil, fmt.Errorf("cannot have the units written: %w", err)
		}
	}
	for round := range s.rounds {
		for i := range s.ways {
			way := s.ways[(i+round)%len(s.ways)]
			if s.over[way] {
				continue
			}
			s.say("%s overlays, round %d of %d: %s", report.Number(float64(s.n)), round+1, s.rounds, wayNames[way])
			begun := time.Now()
			trouble := s.turn(ctx, way)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if trouble != nil && way == probe.ByOverlayd {
				err = errors.Join(err, trouble)
			}
			s.over[way] = trouble != nil || time.Since(begun) > s.limit
			if _, err := s.step(ctx, way, probe.Clean); err != nil {
				return nil, fmt.Errorf("cannot clean up after %s: %w", wayNames[way], err)
			}
		}
	}
	scale.Arrange(s.rows)
	return s.rows, err
}

// turn measures one way, from nothing to nothing.
func (s *sideBySide) turn(ctx context.Context, way string) error {
	type value struct {
		what string
		unit report.Unit
		of   func(probe.Took) float64
	}
	ended := func(t probe.Took) float64 { return t.Ended }
	seen := func(t probe.Took) float64 { return t.Seen }
	settled := func(t probe.Took) float64 { return t.Settled }
	peak := func(t probe.Took) float64 { return float64(t.Peak) }
	own := way == probe.ByOverlayd
	still := s.still // how often what changes nothing is measured in a round
	for _, part := range []struct {
		do     string
		by     bool // whether this way has it
		times  int
		values []value
	}{
		{probe.Apply, true, 1, []value{
			{scale.Apply, report.Seconds, settled},
			{scale.ApplyCommand, report.Seconds, ended},
			{scale.ApplyPeak, report.Bytes, peak},
		}},
		{probe.Plan, own, still, []value{{scale.Plan, report.Seconds, ended}, {scale.PlanPeak, report.Bytes, peak}}},
		{probe.Again, way != probe.ByBare, still, []value{{scale.Again, report.Seconds, ended}}},
		{probe.Status, own, still, []value{{scale.Status, report.Seconds, ended}}},
		{probe.Drift, own, still, []value{{scale.Drift, report.Seconds, ended}}},
		{probe.Add, way != probe.ByAnsible, 1, []value{
			{scale.AddSeen, report.Seconds, seen}, {scale.AddEnded, report.Seconds, ended},
		}},
		{probe.Change, way != probe.ByAnsible, 1, []value{
			{scale.ChangeSeen, report.Seconds, seen}, {scale.ChangeEnded, report.Seconds, ended},
		}},
		{probe.Remove, way != probe.ByAnsible, 1, nil},
		{probe.Destroy, true, 1, []value{{scale.Destroy, report.Seconds, settled}}},
	} {
		if !part.by {
			continue
		}
		if way == probe.ByAnsible || part.do == probe.Again && !own {
			part.times = 1 // it takes its time
		}
		for range part.times {
			took, err := s.step(ctx, way, part.do)
			if err != nil {
				for _, v := range part.values {
					s.row(v.what, way, v.unit).Failed = err.Error()
				}
				return fmt.Errorf("%s of %d overlays by %s: %w", part.do, s.n, wayNames[way], err)
			}
			for _, v := range part.values {
				if v.unit == report.Bytes && !own {
					continue
				}
				r := s.row(v.what, way, v.unit)
				r.Samples = append(r.Samples, v.of(took))
			}
			if part.do != probe.Plan {
				continue
			}
			if took, err = s.step(ctx, probe.ByBare, probe.Plan); err != nil {
				return err
			}
			r := s.row(scale.Plan, probe.ByBare, report.Seconds)
			r.Samples = append(r.Samples, took.Ended)
		}
	}
	return nil
}

func (s *sideBySide) step(ctx context.Context, way, do string) (took probe.Took, err error) {
	err = s.ask(ctx, request{Step: &probe.Step{Way: way, Do: do, Overlays: s.n, Patience: patience}}, &took)
	return took, err
}

// row is where samples belong.
func (s *sideBySide) row(what, way string, unit report.Unit) *report.Row {
	for i, r := range s.rows {
		if r.Case == what && r.Subject == wayNames[way] {
			return &s.rows[i]
		}
	}
	s.rows = append(s.rows, report.Row{Case: what, Overlays: s.n, Subject: wayNames[way], Unit: unit})
	return &s.rows[len(s.rows)-1]
}
