package main

import (
	"context"

	"github.com/overlayd/overlayd/test/bench/report"
)

// scenario is a measurement. It gets a machine of its own that has just booted, with overlayd installed and nothing
// declared; so it depends on no other one. To add a measurement, write a file with a function like those below, let it
// return a table, and put it here.
type scenario struct {
	name string
	once bool // on the last of the Debian releases only
	run  func(ctx context.Context, e *env) (report.Table, error)
}

const memoryName = "memory"

var scenarios = []scenario{
	{name: "reaction", run: reaction},
	{name: "spec", run: spec},
	{name: "idle", run: idle},
	{name: "hostile", run: hostile},
	{name: memoryName, run: memory, once: true},
}

func names() []string {
	var out []string
	for _, s := range scenarios {
		out = append(out, s.name)
	}
	return out
}
