package metrics_test

import (
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/overlayd/overlayd/internal/agent/metrics"
	"github.com/overlayd/overlayd/internal/usage"
)

// busy is an agent that has done something of everything.
func busy() *metrics.Metrics {
	m := metrics.New("1.2.3", noon, known)
	for _, took := range []time.Duration{
		900 * time.Microsecond, 7 * time.Millisecond, 40 * time.Millisecond, 12 * time.Second,
	} {
		m.Reconciled("mounts", took, noon.Add(took))
	}
	m.Reconciled("signal", time.Millisecond, noon.Add(time.Minute))
	m.Changed("repair", "done")
	m.Changed("repair", "done")
	m.Changed("delete", "failed")
	m.SetOverview(metrics.Overview{
		Policy:   "safe",
		Overlays: map[string]int{"mounted": 997, "pending": 2, "stopped": 1},
		Pending:  2, Failing: 3, Conflicts: 4,
		SpecValid: true, SpecLoaded: noon.Add(-time.Hour),
	})
	all := append(clients(2), metrics.Client{Address: "overlay.new", Mountpoint: "/new", Upper: "/new-upper"})
	m.SetClients(all)
	m.Measured(all[0], usage.Usage{Bytes: 3 << 40, Inodes: 1234567}, noon)
	m.Measured(all[1], usage.Usage{Bytes: 4096, Inodes: 1}, noon.Add(time.Second))
	return m
}

func TestGolden(t *testing.T) {
	for name, m := range map[string]*metrics.Metrics{
		"fresh.prom": metrics.New("1.2.3", noon, known),
		"busy.prom":  busy(),
	} {
		t.Run(name, func(t *testing.T) {
			got := write(t, m)
			parse(t, got)
			if problems, err := promlint.New(strings.NewReader(got)).Lint(); err != nil || len(problems) > 0 {
				t.Errorf("Prometheus's own linter says %v, %v", problems, err)
			}
			golden := filepath.Join("testdata", name)
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(read(t, golden), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What is true no more is not in the file any more; counters stay.
func TestOverviewReplaces(t *testing.T) {
	m := busy()
	m.SetOverview(metrics.Overview{Policy: "full", Overlays: map[string]int{"failed": 1}})
	got := parse(t, write(t, m))
	for name, want := range map[string]series{
		"overlayd_policy_info": {`overlayd_policy_info{policy="full"}`: 1},
		"overlayd_overlays": {
			`overlayd_overlays{state="mounted"}`: 0, `overlayd_overlays{state="pending"}`: 0,
			`overlayd_overlays{state="failed"}`: 1, `overlayd_overlays{state="conflict"}`: 0,
		},
		"overlayd_pending_changes":               {"overlayd_pending_changes": 0},
		"overlayd_spec_valid":                    {"overlayd_spec_valid": 0},
		"overlayd_spec_loaded_timestamp_seconds": {},
	} {
		if diff := cmp.Diff(want, got.of(name)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if n := got[`overlayd_changes_total{change="repair"}{result="done"}`]; n != 2 {
		t.Errorf("%v repairs", n)
	}
}

const upperBytes = "overlayd_client_upper_bytes"

func keyOf(metric string, c metrics.Client) string {
	return metric + "{address=" + strconv.Quote(c.Address) + "}{mountpoint=" + strconv.Quote(c.Mountpoint) + "}"
}

func TestClients(t *testing.T) {
	m := metrics.New("1", noon, known)
	all := clients(4)
	slices.Reverse(all)
	measureAll(m, all)
	moved := all[2]
	moved.Upper = "/elsewhere"
	left := []metrics.Client{all[0], moved, client(9), all[0]}
	m.SetClients(left)
	m.Measured(all[1], usage.Usage{Bytes: 5}, noon) // a measurement that was under way when its client went
	m.Measured(all[2], usage.Usage{Bytes: 5}, noon)
	got := parse(t, write(t, m)).of(upperBytes)
	if diff := cmp.Diff(series{keyOf(upperBytes, all[0]): 0}, got); diff != "" {
		t.Error(diff)
	}
	m.Measured(moved, usage.Usage{Bytes: 7, Inodes: 8}, noon)
	file := parse(t, write(t, m))
	if b := file[keyOf(upperBytes, moved)]; b != 7 {
		t.Errorf("%v bytes", b)
	}
	if n := file[keyOf("overlayd_client_upper_inodes", moved)]; n != 8 {
		t.Errorf("%v inodes", n)
	}
	if at := file[keyOf("overlayd_client_upper_measured_timestamp_seconds", moved)]; at != float64(noon.Unix()) {
		t.Errorf("at %v", at)
	}
	m.SetClients(nil)
	if text := write(t, m); strings.Contains(text, "client") {
		t.Errorf("clients in\n%s", text)
	}
}

var nasty = []string{
	``, ` `, `"`, `\`, `\"`, `\n`, "new\nline", "tab\tand\rreturn", `{a="b"} 1`, "\x00\x01\x7f", "é…\u202e😀", "# HELP x",
	"\xff", "half \xe2\x82", "\xff\xfe\xff", "a\xffb\nc\"d\\e",
}

// Whatever a name is made of, the file is a good one, and says it as far as UTF-8 goes.
func TestNastyNames(t *testing.T) {
	m := metrics.New("1", noon, known)
	var all []metrics.Client
	for i, name := range nasty {
		all = append(all, metrics.Client{Address: strconv.Itoa(i), Mountpoint: "/" + name, Upper: "/u"})
		m.Changed(name, name)
		m.Reconciled(name, time.Millisecond, noon)
		m.SetOverview(metrics.Overview{Policy: name, Overlays: map[string]int{name: 1}})
	}
	measureAll(m, all)
	got := parse(t, write(t, m)).of(upperBytes)
	want := series{}
	for i, c := range all {
		c.Mountpoint = strings.ToValidUTF8(c.Mountpoint, "\ufffd")
		want[keyOf(upperBytes, c)] = float64(i) * 4096
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzLabel(f *testing.F) {
	for _, name := range nasty {
		f.Add(name, name)
	}
	f.Fuzz(func(t *testing.T, address, mountpoint string) {
		m := metrics.New("1", noon, known)
		c := metrics.Client{Address: address, Mountpoint: mountpoint}
		measureAll(m, []metrics.Client{c})
		c.Address = strings.ToValidUTF8(address, "\ufffd")
		c.Mountpoint = strings.ToValidUTF8(mountpoint, "\ufffd")
		got := slices.Collect(maps.Keys(parse(t, write(t, m)).of(upperBytes)))
		if want := []string{keyOf(upperBytes, c)}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

const many = 10_000

// Ten thousand clients take little memory, and writing them hardly more: the agent has 64 MiB for everything.
func TestManyClientsMemory(t *testing.T) {
	m := metrics.New("1", noon, known)
	all := clients(many)
	path := filepath.Join(t.TempDir(), "overlayd.prom")
	took := func(do func()) uint64 {
		measureAll(m, all)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		do()
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	if n := took(func() { m.SetClients(all[1:]) }); n > 2<<20 {
		t.Errorf("SetClients took %d bytes for %d clients", n, many)
	}
	write := func() {
		if err := m.Write(path); err != nil {
			t.Error(err)
		}
	}
	if n := took(write); n > 2<<20 {
		t.Errorf("Write took %d bytes for %d clients", n, many)
	}
	if n := len(parse(t, read(t, path)).of(upperBytes)); n != many {
		t.Errorf("%d clients in the file", n)
	}
}

func BenchmarkWrite(b *testing.B) {
	m := metrics.New("1", noon, known)
	measureAll(m, clients(many))
	path := filepath.Join(b.TempDir(), "overlayd.prom")
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Write(path); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSetClients(b *testing.B) {
	m := metrics.New("1", noon, known)
	all := clients(many)
	measureAll(m, all)
	b.ReportAllocs()
	for b.Loop() {
		m.SetClients(all)
	}
}
