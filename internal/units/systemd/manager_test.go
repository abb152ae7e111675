package systemd_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/overlayd/overlayd/internal/units/systemd"
)

func TestJobError(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]systemd.JobError{
		"cannot stop unit a.mount: systemd says failed, exit-code; see systemctl status -- a.mount and journalctl -u a.mount": {
			Unit: "a.mount", Verb: "stop", Result: "failed", UnitResult: "exit-code",
		},
		`cannot start unit a\x2db.mount: systemd says dependency; ` +
			`see systemctl status -- 'a\x2db.mount' and journalctl -u 'a\x2db.mount'`: {
			Unit: `a\x2db.mount`, Verb: "start", Result: "dependency",
		},
	} {
		if got := err.Error(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestStoppedByJob(t *testing.T) {
	t.Parallel()
	// Stamps as systemd 252 and 257 leave them.
	for _, c := range []struct {
		name                   string
		left, up, leftUp, down uint64
		want                   bool
	}{
		{"never up", 0, 0, 0, 0, false},
		{"started and stopped by jobs", 10, 12, 20, 25, true},
		{"mounted by hand, stopped by a job", 10, 10, 20, 25, true},
		{"started by a job, umount(2)", 10, 12, 20, 20, false},
		{"mounted and unmounted by hand", 10, 10, 20, 20, false},
		{"first start failed, then reset", 10, 0, 0, 15, false},
		{"stopped once, a later start failed", 30, 12, 20, 35, false},
	} {
		if got := systemd.StoppedByJob(c.left, c.up, c.leftUp, c.down); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestReachable(t *testing.T) {
	t.Parallel()
	reached := map[string][]string{
		"a": {"b", "c"},
		"b": {"d", "a"},
		"c": {"d"},
		"d": {"e", "d"},
		"f": {"a"},
		"g": {"b"},
	}
	up := map[string]bool{"a": true, "c": true, "d": true, "e": true}
	for from, want := range map[string][]string{
		"a": {"c", "d", "e"},
		"d": {"e"},
		"e": nil,
		"f": {"a", "c", "d", "e"},
		"g": nil, // b is down
	} {
		if diff := cmp.Diff(want, systemd.Reachable(from, reached, up)); diff != "" {
			t.Errorf("from %s (-want +got):\n%s", from, diff)
		}
	}
}

func TestUp(t *testing.T) {
	t.Parallel()
	for active, want := range map[string]bool{
		"active": true, "activating": true, "reloading": true,
		"inactive": false, "failed": false, "deactivating": false, "": false,
	} {
		if got := (systemd.State{Active: active}).Up(); got != want {
			t.Errorf("%q: %v, want %v", active, got, want)
		}
	}
}
