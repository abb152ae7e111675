package metrics

import (
	"context"
	"time"

	"github.com/overlayd/overlayd/internal/usage"
)

const (
	Again  = again
	Behind = behind
	Stint  = stint
)

// Measured takes down what a client stores.
func (m *Metrics) Measured(c Client, u usage.Usage, at time.Time) { m.measured(c, u, nil, at) }

// MeasureBy is Measure by another clock, on the goroutine that calls it.
func (m *Metrics) MeasureBy(
	ctx context.Context, now func() time.Time, after func(time.Duration) <-chan time.Time, failed func(Client, error),
) {
	r := newMeasurer(m, failed)
	r.now, r.after = now, after
	r.run(ctx)
}
