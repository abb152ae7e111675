package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/overlayd/overlayd/internal/config"
)

func TestParseResync(t *testing.T) {
	cases := []struct {
		text string
		want time.Duration
		err  string // a part of it
	}{
		{"10s", 10 * time.Second, ""},
		{"10m", 10 * time.Minute, ""},
		{"1h30m", 90 * time.Minute, ""},
		{"15000ms", 15 * time.Second, ""},
		{"9999ms", 0, "is too short"},
		{"1ns", 0, `write "10s" or more`},
		{"0", 0, "switch it off"},
		{"0s", 0, "the net under events that get lost"},
		{"-10m", 0, "switch it off"},
		{"off", 0, "is none"},
		{"", 0, "is none"},
		{"10", 0, "is none"},
		{"10 m", 0, "is none"},
		{"1d", 0, "is none"},
		{"9999999999h", 0, "is none"},
	}
	for _, c := range cases {
		got, err := config.ParseResync(c.text)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("ParseResync(%q) = %v, %v; want %v, %q", c.text, got, err, c.want, c.err)
		}
	}
}

func TestCheckMetricsFile(t *testing.T) {
	cases := []struct{ path, err string }{
		{"/var/lib/prometheus/node-exporter/overlayd.prom", ""},
		{"/srv/with blank/ü.prom", ""},
		{"", "is empty"},
		{"overlayd.prom", "is relative"},
		{"./overlayd.prom", "is relative"},
		{"/srv//overlayd.prom", `write "/srv/overlayd.prom"`},
		{"/srv/../overlayd.prom", `write "/overlayd.prom"`},
		{"/srv/overlayd.prom/", "is not in its shortest form"},
		{"/srv/overlayd", `write "/srv/overlayd.prom"`},
		{"/srv/overlayd.PROM", "node_exporter reads no other files"},
		{"/", "does not end in .prom"},
		{"/srv/\n.prom", "control character"},
		{"/srv/\xff.prom", "not valid UTF-8"},
		{"/" + strings.Repeat("x/", 2100) + "y.prom", "4095 are possible"},
	}
	for _, c := range cases {
		err := config.CheckMetricsFile(c.path)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("CheckMetricsFile(%q) = %v, want %q", c.path, err, c.err)
		}
	}
}
