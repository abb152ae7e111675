package main

import (
	"context"

	"github.com/overlayd/overlayd/test/bench/report"
	"github.com/overlayd/overlayd/test/bench/scale"
)

// scenario is a measurement. It gets a machine of its own that has just booted, with overlayd installed and nothing
// declared; so it depends on no other one. To add a measurement, write a file with a function like those below, let it
// return tables, and put it here. What it could measure before it failed is shown, too.
type scenario struct {
	name     string
	once     bool     // on the last of the Debian releases only
	packages []string // of Debian's, that the machine has to have
	off      func(sizes) bool
	run      func(ctx context.Context, e *env) ([]report.Table, error)
}

var scenarios = []scenario{
	{name: scale.Side, run: sideways, off: func(s sizes) bool { return len(s.numbers) == 0 }},
	{name: scale.Many, run: single(numerous), off: func(s sizes) bool { return s.many == 0 }},
	{
		name: scale.Ansible, run: single(managed), once: true, packages: []string{"ansible", "python3"},
		off: func(s sizes) bool { return s.ansible == 0 },
	},
	{name: "reaction", run: single(reaction)},
	{name: "spec", run: single(spec)},
	{name: "idle", run: single(idle)},
	{name: "hostile", run: single(hostile)},
	{name: "memory", run: single(memory), once: true, off: func(s sizes) bool { return s.memory == 0 }},
}

// single is for a measurement that makes one table.
func single(run func(context.Context, *env) (report.Table, error)) func(context.Context, *env) ([]report.Table, error) {
	return func(ctx context.Context, e *env) ([]report.Table, error) {
		t, err := run(ctx, e)
		if len(t.Rows) == 0 {
			return nil, err
		}
		return []report.Table{t}, err
	}
}

func names() []string {
	var out []string
	for _, s := range scenarios {
		out = append(out, s.name)
	}
	return out
}
