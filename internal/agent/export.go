package agent

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"

	"github.com/overlayd/overlayd/internal/agent/metrics"
	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// known are the label values of all that is counted.
func known() metrics.Known {
	k := metrics.Known{
		Results: []string{string(reconcile.Done), string(reconcile.Failed), string(reconcile.Skipped)},
		States:  []string{standsConflict, standsFailed, standsPending, standsStopped, standsMounted},
	}
	for _, t := range []trigger{
		triggerStart, triggerSpec, triggerMounts, triggerUnits, triggerSystemd, triggerRetry, triggerResync, triggerHangup,
	} {
		k.Triggers = append(k.Triggers, string(t))
	}
	for _, kind := range plan.Kinds() {
		if kind != plan.NoOp && kind != plan.Conflict {
			k.Changes = append(k.Changes, string(kind))
		}
	}
	return k
}

// exporter writes the metrics to a file and measures the clients, where there is a file to write.
type exporter struct {
	path  string
	stop  context.CancelFunc
	done  sync.WaitGroup
	index *plan.Index // of the spec that the clients are of
}

// export begins, ends or moves the writing of metrics as the settings say.
func (a *agent) export(ctx context.Context) {
	e := &a.exporter
	if e.path == a.settings.MetricsFile {
		return
	}
	a.endExport()
	if e.path != "" {
		// node_exporter would serve it for ever.
		if err := os.Remove(e.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			a.Log.WithError(err).Warn("metrics of before are left")
		}
	}
	e.path, e.index = a.settings.MetricsFile, nil
	if e.path == "" {
		return
	}
	ctx, e.stop = context.WithCancel(ctx)
	path := e.path
	e.done.Go(func() {
		a.metrics.Keep(ctx, path, func(err error) { a.Log.WithError(err).Warn("no metrics") })
	})
	e.done.Go(func() {
		a.metrics.Measure(ctx, func(c metrics.Client, err error) {
			log := a.Log.WithError(err).WithField("address", c.Address).WithField("mountpoint", c.Mountpoint)
			if errors.Is(err, fs.ErrNotExist) { // it has never been mounted
				log.Debugf("%s is not measured", c.Address)
				return
			}
			log.Warnf("%s is not measured", c.Address)
		})
	})
}

// endExport writes the metrics once more and stops.
func (a *agent) endExport() {
	if a.exporter.stop != nil {
		a.exporter.stop()
		a.exporter.done.Wait()
		a.exporter.stop = nil
	}
}

// overview tells the metrics how things stand.
func (a *agent) overview() {
	if a.exporter.path == "" {
		return
	}
	states := map[string]int{}
	for _, o := range a.desired.Overlays {
		states[a.book.stands(o.Address)]++
	}
	a.metrics.SetOverview(metrics.Overview{
		Policy: string(a.settings.Policy), Overlays: states, Pending: len(a.book.pending) - a.book.stopped(), Failing: len(a.book.failed),
		Conflicts: len(a.book.conflicts), SpecValid: a.spec.Error == "", SpecLoaded: a.spec.Loaded,
	})
	if a.exporter.index == a.index {
		return
	}
	a.exporter.index = a.index
	clients := make([]metrics.Client, 0, len(a.desired.Overlays))
	for _, o := range a.desired.Overlays {
		if o.Upper != "" {
			clients = append(clients, metrics.Client{Address: o.Address, Mountpoint: o.Mountpoint, Upper: o.Upper})
		}
	}
	a.metrics.SetClients(clients)
}
