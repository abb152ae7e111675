package metrics

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// buckets of a reconcile's duration, in seconds. 10 ms and 50 ms are what a repair should take, with few overlays and
// with a thousand.
var buckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// Known are the values that labels have. What is counted by them begins at 0: a counter that appears with its first
// event hides that event from rate() and increase(). Others than these may come, too.
type Known struct {
	Triggers []string // of [Metrics.Reconciled]
	Changes  []string // of [Metrics.Changed]
	Results  []string // of [Metrics.Changed]
	States   []string // of [Overview]
}

// Overview is how things stand after a reconcile.
type Overview struct {
	Policy    string
	Overlays  map[string]int // how many overlays are in which state
	Pending   int            // changes that the policy holds back
	Failing   int            // overlays whose last change failed
	Conflicts int            // overlays that cannot be as the spec says

	SpecValid  bool      // whether the spec on disk could be loaded when that was last tried
	SpecLoaded time.Time // when the spec that is in force was loaded; zero if none was
}

// Metrics are the numbers of one agent. Its methods may be called by several goroutines at a time, and none of them
// but Write, Keep and Measure waits for a disk.
type Metrics struct {
	known    Known
	registry *prometheus.Registry

	reconciles *prometheus.CounterVec
	duration   prometheus.Histogram
	last       *prometheus.GaugeVec
	changes    *prometheus.CounterVec
	policy     *prometheus.GaugeVec
	overlays   *prometheus.GaugeVec
	pending    *prometheus.GaugeVec
	failing    *prometheus.GaugeVec
	conflicts  *prometheus.GaugeVec
	specValid  *prometheus.GaugeVec
	specLoaded *prometheus.GaugeVec

	changed chan struct{} // something is not in the file yet
	listed  chan struct{} // the clients are others
	writing sync.Mutex    // one Write at a time

	mu      sync.Mutex
	clients []client // by address and mountpoint
}

// New begins to count for an agent of that version which was started then.
func New(version string, start time.Time, known Known) *Metrics {
	m := &Metrics{
		known: known, registry: prometheus.NewRegistry(),
		changed: make(chan struct{}, 1), listed: make(chan struct{}, 1),
	}
	m.gauge("overlayd_build_info", "The version of the agent; always 1.", "version").
		WithLabelValues(valid(version)).Set(1)
	m.gauge("overlayd_agent_start_time_seconds", "When the agent was started, since the epoch.").
		WithLabelValues().Set(seconds(start))

	m.reconciles = m.counter("overlayd_reconciles_total",
		"How often the agent compared this host with the spec, by what made it do so.", "trigger")
	m.duration = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "overlayd_reconcile_duration_seconds", Buckets: buckets,
		Help: "How long it took to compare this host with the spec and to make the changes.",
	})
	m.registry.MustRegister(m.duration)
	m.last = m.gauge("overlayd_last_reconcile_timestamp_seconds",
		"When the agent last compared this host with the spec, since the epoch.")
	m.changes = m.counter("overlayd_changes_total",
		"Changes that the agent made, or tried to make, by kind and result.", "change", "result")

	m.policy = m.gauge("overlayd_policy_info", "The policy that the agent follows; always 1.", "policy")
	m.overlays = m.gauge("overlayd_overlays", "Overlays of the spec and of applied units, by state.", "state")
	m.pending = m.gauge("overlayd_pending_changes", "Changes that the policy leaves to overlayd apply.")
	m.failing = m.gauge("overlayd_failing_overlays", "Overlays whose last change failed.")
	m.conflicts = m.gauge("overlayd_conflicts",
		"Overlays that cannot be as the spec says, which is for somebody to settle.")
	m.specValid = m.gauge("overlayd_spec_valid",
		"Whether the spec on disk could be loaded: 1, or 0 while an older one is in force.")
	m.specLoaded = m.gauge("overlayd_spec_loaded_timestamp_seconds",
		"When the spec that is in force was loaded, since the epoch.")

	for _, trigger := range known.Triggers {
		m.reconciles.WithLabelValues(valid(trigger))
	}
	for _, change := range known.Changes {
		for _, result := range known.Results {
			m.changes.WithLabelValues(valid(change), valid(result))
		}
	}
	return m
}

// gauge registers a gauge. One without labels is a vector, too: only so it can be without a value.
func (m *Metrics) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *Metrics) counter(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

// Reconciled counts a reconcile: what made the agent do it, how long it took, and when it was done.
func (m *Metrics) Reconciled(trigger string, took time.Duration, at time.Time) {
	m.reconciles.WithLabelValues(valid(trigger)).Inc()
	m.duration.Observe(took.Seconds())
	m.last.WithLabelValues().Set(seconds(at))
	touch(m.changed)
}

// Changed counts a change of one overlay: its kind, and what came of it.
func (m *Metrics) Changed(change, result string) {
	m.changes.WithLabelValues(valid(change), valid(result)).Inc()
	touch(m.changed)
}

// SetOverview says how things stand.
func (m *Metrics) SetOverview(o Overview) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.policy.Reset()
	m.policy.WithLabelValues(valid(o.Policy)).Set(1)
	m.overlays.Reset()
	for _, state := range m.known.States {
		m.overlays.WithLabelValues(valid(state))
	}
	for state, n := range o.Overlays {
		m.overlays.WithLabelValues(valid(state)).Set(float64(n))
	}
	for v, n := range map[*prometheus.GaugeVec]int{m.pending: o.Pending, m.failing: o.Failing, m.conflicts: o.Conflicts} {
		v.WithLabelValues().Set(float64(n))
	}
	m.specValid.WithLabelValues().Set(0)
	if o.SpecValid {
		m.specValid.WithLabelValues().Set(1)
	}
	m.specLoaded.Reset()
	if !o.SpecLoaded.IsZero() {
		m.specLoaded.WithLabelValues().Set(seconds(o.SpecLoaded))
	}
	touch(m.changed)
}

// valid makes a text fit for a label, which has to be UTF-8; a path need not be.
func valid(text string) string { return strings.ToValidUTF8(text, "\ufffd") }

// seconds is a time as Prometheus has it.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// touch wakes up who waits for c; many touches may be one waking.
func touch(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
