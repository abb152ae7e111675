package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/config"
	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// many is a host with many overlays, mounted for real, and processes in mount namespaces of their own that have copies
// of them, as services have.
type many struct {
	*reconcile.Host
	d    plan.Desired
	dir  string
	last string // mountpoint of an overlay that was mounted when the namespaces were there, and so is in none of them
}

const benchNamespaces = 8

func newMany(b *testing.B, n int) *many {
	b.Helper()
	if os.Geteuid() != 0 {
		b.Skip("mounts need root")
	}
	m := &many{Host: newHost(), dir: "/run/many"}
	m.last = m.dir + "/m/last"
	b.Cleanup(func() { m.tidy(b) })
	for _, dir := range []string{"base", "tools", "spec"} {
		if err := os.MkdirAll(filepath.Join(m.dir, dir), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	m.apply(b, n-1, "")
	for range benchNamespaces {
		cmd := exec.Command("sleep", "inf")
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
		runtime.LockOSThread() // Pdeathsig is about the thread, not the process
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
	m.apply(b, n-1, `overlay "last" {
  lowerdirs = ["/run/many/base", "/run/many/tools"]
  mountpoint = "/run/many/m/last"
  upperdir = "/run/many/d/last/upper"
  workdir = "/run/many/d/last/work"
}
`)
	return m
}

func (m *many) apply(b *testing.B, n int, more string) {
	b.Helper()
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("%q", fmt.Sprintf("client%05d", i))
	}
	text := fmt.Sprintf(`overlay "client" {
  for_each = toset([%s])
  lowerdirs = ["/run/many/base", "/run/many/tools"]
  mountpoint = "/run/many/m/${each.key}"
  upperdir = "/run/many/d/${each.key}/upper"
  workdir = "/run/many/d/${each.key}/work"
}
%s`, strings.Join(keys, ", "), more)
	if err := os.WriteFile(m.dir+"/spec/s.hcl", []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
	m.d = m.load(b)
	r, err := m.Apply(b.Context(), m.d, reconcile.ApplyOptions{Parallelism: 4})
	if err != nil {
		b.Fatal(err)
	}
	for _, each := range r.Results {
		if each.Err != nil {
			b.Fatal(each.Change.Address, each.Err)
		}
	}
}

func (m *many) load(b *testing.B) plan.Desired {
	b.Helper()
	spec, diags := config.Load([]string{m.dir + "/spec"}, config.Inputs{HostName: "test"})
	if diags.HasErrors() {
		b.Fatal(diags)
	}
	d, diags := reconcile.Desire(spec, "")
	if diags.HasErrors() {
		b.Fatal(diags)
	}
	return d
}

func (m *many) tidy(b *testing.B) {
	table, err := host.ReadTable()
	if err != nil {
		b.Error(err)
		return
	}
	for _, each := range slices.Backward(table.Below(m.dir)) {
		err := unix.Unmount(each.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err != nil && !errors.Is(err, unix.EINVAL) {
			b.Errorf("cannot clean up %s: %v", each.Mountpoint, err)
		}
	}
	left, err := filepath.Glob(unitDir + "/*")
	if err != nil {
		b.Error(err)
	}
	for _, p := range append(left, m.dir, "/run/overlayd") {
		if err := os.RemoveAll(p); err != nil {
			b.Error(err)
		}
	}
}

// lose takes the last overlay away by hand.
func (m *many) lose(b *testing.B) {
	b.Helper()
	if err := unix.Unmount(m.last, unix.UMOUNT_NOFOLLOW); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkLook(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprintf("N=%d", n), func(b *testing.B) { benchmarkLook(b, newMany(b, n)) })
	}
}

// cpuTime is what this process has used of the processors. It tells more than the clock where others use them too.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchmarkLook(b *testing.B, m *many) {
	run := func(name string, f func(b *testing.B)) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			before := cpuTime(b)
			for b.Loop() {
				f(b)
			}
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
	check := func(b *testing.B, err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	run("Load", func(b *testing.B) { m.load(b) })
	run("ReadTable", func(b *testing.B) {
		_, err := host.ReadTable()
		check(b, err)
	})
	run("RawTable", func(b *testing.B) {
		_, err := os.ReadFile("/proc/self/mountinfo")
		check(b, err)
	})
	run("Applied", func(b *testing.B) {
		_, err := m.Applied()
		check(b, err)
	})
	run("Observe", func(b *testing.B) {
		_, err := m.Observe(m.d)
		check(b, err)
	})
	o, err := m.Observe(m.d)
	check(b, err)
	run("Prober", func(_ *testing.B) {
		p := host.NewProber(o.Mounts)
		for path := range o.Paths {
			p.Look(path)
		}
	})
	run("Diff", func(_ *testing.B) { plan.Diff(m.d, o, nil) })
	run("NewRun", func(_ *testing.B) { plan.NewRun(o) })
	run("OverlayUses", func(b *testing.B) {
		_, err := host.OverlayUses(o.Mounts)
		check(b, err)
	})
	ctx := context.Background()
	one := plan.NewIndex(m.d).Around([]string{m.last})
	memory := &reconcile.Host{Log: m.Log, Memory: &reconcile.Memory{}}
	run("ObservePart", func(b *testing.B) {
		_, err := m.Observe(one)
		check(b, err)
	})
	run("ObservePartMemory", func(b *testing.B) {
		_, err := memory.Observe(one)
		check(b, err)
	})
	part, err := m.Observe(one)
	check(b, err)
	run("DiffPart", func(_ *testing.B) { plan.Diff(one, part, nil) })
	known := &host.Namespaces{}
	identify := func(p string) overlayfs.FileID { return o.Paths[p].ID }
	run("UsesMemory", func(b *testing.B) {
		_, err := known.Uses(o.Mounts, identify)
		check(b, err)
	})
	run("UsesOnce", func(b *testing.B) {
		_, err := (*host.Namespaces)(nil).Uses(o.Mounts, identify)
		check(b, err)
	})
	run("Plan", func(b *testing.B) {
		p, _, err := m.Plan(ctx, m.d, nil)
		check(b, err)
		if p.Pending() {
			b.Fatal(describe(p))
		}
	})
	m.lose(b)
	run("PlanLost", func(b *testing.B) {
		p, _, err := m.Plan(ctx, m.d, nil)
		check(b, err)
		if describe(p) != "overlay.last repair" {
			b.Fatal(describe(p))
		}
	})
	run("PlanLostPart", func(b *testing.B) {
		p, _, err := memory.Plan(ctx, one, nil)
		check(b, err)
		if describe(p) != "overlay.last repair" {
			b.Fatal(describe(p))
		}
	})
	_, err = m.Apply(ctx, m.d, reconcile.ApplyOptions{Parallelism: 4})
	check(b, err)
	run("ApplyLost", func(b *testing.B) {
		b.StopTimer()
		m.lose(b)
		b.StartTimer()
		r, err := m.Apply(ctx, m.d, reconcile.ApplyOptions{Parallelism: 4})
		check(b, err)
		if len(r.Results) != 1 || r.Results[0].Err != nil {
			b.Fatal(r)
		}
	})
	run("ApplyLostPart", func(b *testing.B) {
		b.StopTimer()
		m.lose(b)
		b.StartTimer()
		r, err := memory.Apply(ctx, one, reconcile.ApplyOptions{Parallelism: 4})
		check(b, err)
		if len(r.Results) != 1 || r.Results[0].Err != nil {
			b.Fatal(r)
		}
	})
}
