package systemd_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/units"
	"github.com/overlayd/overlayd/internal/units/systemd"
)

// Tests in this file speak with the systemd of the machine they run on, and write units to it. The end-to-end harness
// runs the compiled test binary in a container.

// live is a host for one test: a directory for layers and mountpoints, and what has to be cleaned up.
type live struct {
	t     *testing.T
	ctx   context.Context
	m     *systemd.Manager
	bus   *dbus.Conn // what the tests themselves ask
	base  string
	units []string
}

// patience is far more than systemd takes for any of this. It mounts five units a second where the machine is so busy
// that each mount is done before the next begins, see [systemd.Manager.WaitActive].
const patience = 5 * time.Minute

func newLive(t *testing.T) *live {
	t.Helper()
	switch {
	case os.Getenv("OVERLAYD_TEST_SYSTEMD") != "1":
		t.Skip("writes units to the running systemd: set OVERLAYD_TEST_SYSTEMD=1 on a machine that may be broken")
	case os.Geteuid() != 0:
		t.Skip("needs root")
	case !systemd.Running():
		t.Skip("systemd does not run here")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	m, err := systemd.Connect(ctx)
	must(t, err)
	t.Cleanup(m.Close)
	bus, err := dbus.NewWithContext(context.Background())
	must(t, err)
	t.Cleanup(bus.Close)
	base, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	l := &live{t: t, ctx: ctx, m: m, bus: bus, base: base}
	t.Cleanup(l.cleanup)
	return l
}

func (l *live) cleanup() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var wait sync.WaitGroup
	for _, unit := range l.units {
		wait.Go(func() {
			if err := l.m.Stop(ctx, unit); err != nil {
				l.t.Logf("cleaning up: %v", err)
			}
		})
	}
	wait.Wait()
	for _, unit := range l.units {
		must(l.t, os.RemoveAll(unitPath(unit)))
	}
	must(l.t, l.m.Reload(ctx))
}

// overlay gives an overlay below the base with its directories made.
func (l *live) overlay(name string) units.Mount {
	l.t.Helper()
	dir := filepath.Join(l.base, name)
	for _, sub := range []string{"lower", "upper", "work", "merged"} {
		must(l.t, os.MkdirAll(filepath.Join(dir, sub), 0o755))
	}
	must(l.t, os.WriteFile(filepath.Join(dir, "lower", "file"), []byte(name), 0o644))
	kernel := strings.NewReplacer(`\`, `\\`, ",", `\,`)
	lower := strings.NewReplacer(`\`, `\\`, ",", `\,`, ":", `\:`)
	return units.Mount{
		Description:       "test of " + name,
		RequiresMountsFor: []string{dir + "/lower", dir + "/upper", dir + "/work"},
		What:              "overlayd",
		Where:             dir + "/merged",
		Options: "lowerdir=" + lower.Replace(dir+"/lower") + ",upperdir=" + kernel.Replace(dir+"/upper") +
			",workdir=" + kernel.Replace(dir+"/work") + ",index=off,nofail",
		WantedBy: []string{units.TargetName},
		Address:  "overlay." + name,
	}
}

// install writes units, and the target that keeps them loaded, and reloads. A target that is wanted by none would be
// unloaded when it is stopped, and what systemd knows of its mounts with it. The target is started before it wants
// them, so that they stay down.
func (l *live) install(mounts ...units.Mount) {
	l.t.Helper()
	enabled := [][2]string{{"multi-user.target", units.TargetName}}
	must(l.t, apply(l.t, "", systemd.Batch{
		Write: map[string][]byte{units.TargetName: units.RenderTarget()}, Link: enabled,
	}))
	must(l.t, l.m.Reload(l.ctx))
	l.units = append(l.units, units.TargetName)
	must(l.t, l.m.Start(l.ctx, units.TargetName))
	b := systemd.Batch{Write: map[string][]byte{}}
	for _, m := range mounts {
		b.Write[m.FileName()] = m.Render()
		b.Link = append(b.Link, [2]string{units.TargetName, m.FileName()})
		l.units = append(l.units, m.FileName())
	}
	must(l.t, apply(l.t, "", b))
	l.t.Cleanup(func() { must(l.t, apply(l.t, "", systemd.Batch{Unlink: append(enabled, b.Link...)})) })
	must(l.t, l.m.Reload(l.ctx))
}

// service writes a service that is not ours.
func (l *live) service(name, text string) {
	l.t.Helper()
	must(l.t, os.WriteFile(unitPath(name), []byte(text), 0o644))
	l.units = append(l.units, name)
	must(l.t, l.m.Reload(l.ctx))
}

func (l *live) state(unit string) systemd.State {
	l.t.Helper()
	states, err := l.m.States(l.ctx, []string{unit})
	must(l.t, err)
	return states[unit]
}

// eventually asks until the state is as wanted: systemd hears late of what is done to mounts by hand.
func (l *live) eventually(unit string, want systemd.State) {
	l.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var last systemd.State
	for {
		states, err := l.m.States(l.ctx, []string{unit})
		if err != nil {
			l.t.Fatalf("%s is %+v, want %+v: %v", unit, last, want, err)
		}
		if last = states[unit]; last == want {
			return
		}
		<-tick.C
	}
}

var (
	mounted  = systemd.State{Load: "loaded", Active: "active", Sub: "mounted"}
	stopped  = systemd.State{Load: "loaded", Active: "inactive", Sub: "dead", Result: "success", StoppedByJob: true}
	takenOff = systemd.State{Load: "loaded", Active: "inactive", Sub: "dead", Result: "success"}
)

func (l *live) expect(when, unit string, want systemd.State) {
	l.t.Helper()
	if diff := cmp.Diff(want, l.state(unit)); diff != "" {
		l.t.Errorf("%s: state of %s (-want +got):\n%s", when, unit, diff)
	}
}

func TestLiveStopAndUnmount(t *testing.T) {
	l := newLive(t)
	o := l.overlay("client")
	unit := o.FileName()
	l.install(o)
	for round, up := range map[string]func() error{
		"job":     func() error { return l.m.Start(l.ctx, unit) },
		"restart": func() error { return l.m.Restart(l.ctx, unit) },
		"mount(2)": func() error {
			return unix.Mount("overlayd", o.Where, "overlay", 0, strings.TrimSuffix(o.Options, ",nofail"))
		},
	} {
		must(t, up())
		l.eventually(unit, mounted)
		must(t, l.m.Stop(l.ctx, unit))
		l.expect(round+", stopped", unit, stopped)
		must(t, l.m.Reload(l.ctx))
		l.expect(round+", stopped and reloaded", unit, stopped)

		must(t, up())
		l.eventually(unit, mounted)
		must(t, unix.Unmount(o.Where, 0))
		l.eventually(unit, takenOff)
		must(t, l.m.Reload(l.ctx))
		l.expect(round+", unmounted by hand and reloaded", unit, takenOff)
	}
	must(t, l.m.Start(l.ctx, unit))
	must(t, l.m.Stop(l.ctx, units.TargetName))
	l.eventually(unit, stopped) // PartOf= makes a job of its own, which the target does not wait for
	out, err := exec.Command("systemctl", "daemon-reexec").CombinedOutput()
	if err != nil {
		t.Fatalf("daemon-reexec: %v: %s", err, out)
	}
	l.expect("systemd executed anew", unit, stopped)
	must(t, l.m.Start(l.ctx, units.TargetName))
	l.expect("target started", unit, mounted)
}

func TestLiveFailures(t *testing.T) {
	l := newLive(t)
	o := l.overlay("client")
	unit := o.FileName()
	l.install(o)
	failed := func(err error, want systemd.JobError) {
		t.Helper()
		var got *systemd.JobError
		if !errors.As(err, &got) {
			t.Fatalf("error %v, want %+v", err, want)
		}
		want.Unit = unit
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}

	lower := filepath.Join(l.base, "client", "lower")
	must(t, os.Rename(lower, lower+"~"))
	for range 8 { // past the start limit of systemd
		failed(l.m.Start(l.ctx, unit), systemd.JobError{Verb: "start", Result: "failed", UnitResult: "exit-code"})
	}
	want := systemd.State{Load: "loaded", Active: "failed", Sub: "failed", Result: "exit-code"}
	l.expect("start failed", unit, want)
	must(t, os.Rename(lower+"~", lower))
	for range 8 {
		must(t, l.m.Restart(l.ctx, unit))
	}

	busy, err := os.Open(o.Where)
	must(t, err)
	failed(l.m.Stop(l.ctx, unit), systemd.JobError{Verb: "stop", Result: "failed", UnitResult: "exit-code"})
	l.expect("busy", unit, mounted)
	must(t, busy.Close())
	must(t, l.m.Stop(l.ctx, unit))
	l.expect("no longer busy", unit, stopped)

	if err := l.m.Start(l.ctx, "overlayd-none.mount"); err == nil || !strings.Contains(err.Error(), "overlayd-none.mount") {
		t.Errorf("start of a unit that does not exist: %v", err)
	}
	ctx, cancel := context.WithCancel(l.ctx)
	cancel()
	if err := l.m.Start(ctx, unit); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestLiveDependents(t *testing.T) {
	l := newLive(t)
	outer, inner := l.overlay("outer"), l.overlay("inner")
	unit := outer.FileName()
	inner.RequiresMountsFor = append(inner.RequiresMountsFor, outer.Where)
	l.install(outer, inner)
	const (
		service = "overlayd-test-user.service"
		bound   = "overlayd-test-bound.service"
		idle    = "overlayd-test-idle.service"
		part    = "overlayd-test-part.service"
		wants   = "overlayd-test-wants.service"
	)
	for name, unitPart := range map[string]string{
		service: "RequiresMountsFor=" + inner.Where,
		bound:   "BindsTo=" + unit + "\nAfter=" + unit,
		idle:    "RequiresMountsFor=" + outer.Where,
		part:    "PartOf=" + idle,
		wants:   "Wants=" + unit,
	} {
		l.service(name, "[Unit]\n"+unitPart+"\n[Service]\nExecStart=sleep infinity\n")
	}
	for _, name := range []string{service, bound, part, wants} {
		must(t, l.m.Start(l.ctx, name))
	}
	got, err := l.m.DependentsOf(l.ctx, []string{unit, inner.FileName(), "overlayd-none.mount", wants})
	must(t, err)
	want := map[string][]string{
		unit:             {bound, service, inner.FileName()},
		inner.FileName(): {service},
	}
	slices.Sort(want[unit])
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	pid := func() any {
		property, err := l.bus.GetServicePropertyContext(l.ctx, service, "MainPID")
		must(t, err)
		return property.Value.Value()
	}
	before := pid()
	must(t, l.m.Restart(l.ctx, unit))
	l.eventually(service, systemd.State{Load: "loaded", Active: "active", Sub: "running"})
	if after := pid(); after == before || after == uint32(0) {
		t.Errorf("process %v of the dependent before, %v after", before, after)
	}

	// What it lists is what a stop takes down.
	must(t, l.m.Stop(l.ctx, unit))
	states, err := l.m.States(l.ctx, want[unit])
	must(t, err)
	for name, state := range states {
		if state.Up() {
			t.Errorf("%s is %+v", name, state)
		}
	}
	one, err := l.m.DependentsOf(l.ctx, []string{unit})
	must(t, err)
	if len(one[unit]) != 0 {
		t.Errorf("dependents of a stopped unit: %v", one)
	}
}

func TestLiveWaitJobs(t *testing.T) {
	l := newLive(t)
	o := l.overlay("client")
	o.Requires = []string{"overlayd-test-gate.service"}
	o.After = o.Requires
	gate := filepath.Join(l.base, "gate")
	must(t, unix.Mkfifo(gate, 0o600))
	l.service(o.Requires[0], "[Service]\nType=oneshot\nExecStart=cat "+gate+"\n")
	l.install() // the target only: it would pull in the mount and wait at the gate
	must(t, apply(t, "", systemd.Batch{Write: map[string][]byte{o.FileName(): o.Render()}}))
	l.units = append(l.units, o.FileName())
	must(t, l.m.Reload(l.ctx))

	must(t, waitJobs(l.ctx, l.m, map[string]bool{o.FileName(): true}))
	started := make(chan error, 1)
	go func() { started <- l.m.Start(l.ctx, o.FileName()) }()
	l.eventually(o.Requires[0], systemd.State{Load: "loaded", Active: "activating", Sub: "start"})
	must(t, waitJobs(l.ctx, l.m, map[string]bool{"overlayd-none.mount": true}))
	ctx, cancel := context.WithTimeout(l.ctx, 50*time.Millisecond)
	defer cancel()
	err := waitJobs(ctx, l.m, map[string]bool{o.FileName(): true})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "start unit "+o.FileName()) {
		t.Errorf("error %v", err)
	}

	waited := make(chan error, 1)
	go func() { waited <- waitJobs(l.ctx, l.m, map[string]bool{o.FileName(): true}) }()
	must(t, os.WriteFile(gate, nil, 0o600))
	must(t, <-waited)
	must(t, <-started)
	l.eventually(o.FileName(), mounted)
}

// TestLiveReexec: a job outlives the systemd that was asked for it, and the wait for it does too.
func TestLiveReexec(t *testing.T) {
	l := newLive(t)
	gate := filepath.Join(l.base, "gate")
	must(t, unix.Mkfifo(gate, 0o600))
	const unit = "overlayd-test-gate.service"
	l.service(unit, "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=cat "+gate+"\n")
	for _, verb := range []func(context.Context, string) error{l.m.Start, l.m.Restart} {
		done := make(chan error, 1)
		go func() { done <- verb(l.ctx, unit) }()
		l.eventually(unit, systemd.State{Load: "loaded", Active: "activating", Sub: "start"})
		out, err := exec.Command("systemctl", "daemon-reexec").CombinedOutput()
		if err != nil {
			t.Fatalf("daemon-reexec: %v: %s", err, out)
		}
		must(t, os.WriteFile(gate, nil, 0o600))
		must(t, <-done)
		l.eventually(unit, systemd.State{Load: "loaded", Active: "active", Sub: "exited"})
	}
	must(t, l.m.Stop(l.ctx, unit))
}

func namesOf(states map[string]systemd.State) map[string]bool {
	names := map[string]bool{}
	for name := range states {
		names[name] = true
	}
	return names
}

// waitJobs leaves out whether there was anything to wait for.
func waitJobs(ctx context.Context, m *systemd.Manager, names map[string]bool) error {
	_, err := m.WaitJobs(ctx, names)
	return err
}

func unitPath(unit string) string { return "/etc/systemd/system/" + unit }
