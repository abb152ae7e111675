package config

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// policies are those of package plan, from the most careful one on.
func policies() []string { return []string{"observe", "safe", "full"} }

const (
	kindAgent = "agent"

	// metricsSuffix is what the textfile collector of node_exporter asks of the files it reads.
	metricsSuffix = ".prom"
)

// agent returns settings.agent.
func (m *module) agent() Agent {
	if m.settings == nil {
		return Agent{}
	}
	attr := func(name string) *attr { return m.settings.sub(kindAgent, name) }
	e := m.evaluator(attr("policy"), attr("resync"), attr("metrics_file"))
	var out Agent
	if a := attr("policy"); a != nil {
		out.Policy, _ = e.oneOf(a, policies())
	}
	if a := attr("resync"); a != nil {
		out.Resync = e.resync(a)
	}
	if a := attr("metrics_file"); a != nil {
		out.MetricsFile = e.metricsFile(a)
	}
	return out
}

// resync returns a time span that the agent can take, 0 for none.
func (e *evaluator) resync(a *attr) Duration {
	s, ok := e.text(a)
	if !ok {
		return 0
	}
	d, err := ParseResync(s)
	if err != nil {
		e.invalid(a, "%s takes a time span such as \"10m\": %s %v.", quote(a.name), shorten(quote(s)), err)
	}
	return d
}

// metricsFile returns where the metrics go, "" for nowhere.
func (e *evaluator) metricsFile(a *attr) string {
	s, ok := e.text(a)
	if !ok {
		return ""
	}
	if err := CheckMetricsFile(s); err != nil {
		e.invalid(a, "%s takes the path of a file: %s %v.", quote(a.name), shorten(quote(s)), err)
		return ""
	}
	return s
}

// CheckMetricsFile says why the agent cannot write its metrics to a path, in
// words that follow the path.
func CheckMetricsFile(p string) error {
	switch clean := path.Clean(p); {
	case p == "":
		return errors.New("is empty; leave it out for no metrics")
	case !utf8.ValidString(p) || strings.ContainsFunc(p, unicode.IsControl):
		return errors.New("contains a control character or is not valid UTF-8")
	case !strings.HasPrefix(p, "/"):
		return errors.New("is relative; write it from / on")
	case len(p) > maxPath:
		return fmt.Errorf("has %d bytes; %d are possible", len(p), maxPath)
	case clean != p:
		return fmt.Errorf("is not in its shortest form; write %s", quote(clean))
	case !strings.HasSuffix(p, metricsSuffix):
		return fmt.Errorf("does not end in %s, and node_exporter reads no other files; write %s", metricsSuffix,
			quote(strings.TrimSuffix(p, "/")+metricsSuffix))
	}
	return nil
}
