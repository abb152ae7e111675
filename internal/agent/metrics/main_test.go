package metrics_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/overlayd/overlayd/internal/agent/metrics"
	"github.com/overlayd/overlayd/internal/usage"
	"github.com/overlayd/overlayd/test/apart"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestMain runs the tests apart, where they can mount.
func TestMain(m *testing.M) { os.Exit(apart.Run(nil, m.Run)) }

var (
	noon  = time.Date(2026, 3, 1, 12, 0, 0, 250e6, time.UTC)
	known = metrics.Known{
		Triggers: []string{"start", "spec", "mounts", "resync"},
		Changes:  []string{"create", "repair"},
		Results:  []string{"done", "failed", "held"},
		States:   []string{"mounted", "pending", "failed", "conflict"},
	}
)

func client(i int) metrics.Client {
	key := fmt.Sprintf("room1-%05d", i)
	return metrics.Client{
		Address: fmt.Sprintf("overlay.seat[%q]", key), Mountpoint: "/srv/seats/" + key, Upper: "/srv/upper/" + key,
	}
}

func clients(n int) []metrics.Client {
	out := make([]metrics.Client, n)
	for i := range out {
		out[i] = client(i)
	}
	return out
}

// series are the values of a file by metric and labels, as `name{label="value"}`; of a histogram its count.
type series map[string]float64

// parse reads a file with Prometheus's own parser.
func parse(t *testing.T, text string) series {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	out := series{}
	for name, family := range families {
		for _, metric := range family.GetMetric() {
			key := name
			for _, label := range metric.GetLabel() {
				key += fmt.Sprintf("{%s=%q}", label.GetName(), label.GetValue())
			}
			if _, twice := out[key]; twice {
				t.Errorf("%s is there twice", key)
			}
			if metric.TimestampMs != nil {
				t.Errorf("%s has a timestamp", key)
			}
			out[key] = metric.GetGauge().GetValue() + metric.GetCounter().GetValue() +
				float64(metric.GetHistogram().GetSampleCount())
		}
	}
	return out
}

func (s series) of(name string) series {
	out := series{}
	for key, value := range s {
		if key == name || strings.HasPrefix(key, name+"{") {
			out[key] = value
		}
	}
	return out
}

// write writes the metrics to a new file, and gives what is in it.
func write(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "overlayd.prom")
	if err := m.Write(path); err != nil {
		t.Fatal(err)
	}
	return read(t, path)
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func measureAll(m *metrics.Metrics, all []metrics.Client) {
	m.SetClients(all)
	for i, c := range all {
		m.Measured(c, usage.Usage{Bytes: int64(i) * 4096, Inodes: int64(i)}, noon)
	}
}
