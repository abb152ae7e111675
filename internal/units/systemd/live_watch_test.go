package systemd_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/units"
	"github.com/overlayd/overlayd/internal/units/systemd"
)

// run runs a program that has to succeed.
func (l *live) run(argv ...string) {
	l.t.Helper()
	out, err := exec.CommandContext(l.ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, out)
	}
}

// watch watches until the test ends.
func (l *live) watch() <-chan systemd.Event {
	l.t.Helper()
	ctx, cancel := context.WithCancel(l.ctx)
	events, err := systemd.Watch(ctx)
	must(l.t, err)
	l.t.Cleanup(func() {
		cancel()
		for range events { // to its end
			continue
		}
	})
	return events
}

// until takes events until the one that is wanted, and gives those before it.
func (l *live) until(events <-chan systemd.Event, want systemd.Event) []systemd.Event {
	l.t.Helper()
	var before []systemd.Event
	for {
		select {
		case e := <-events:
			if e == want {
				return before
			}
			before = append(before, e)
		case <-l.ctx.Done():
			l.t.Fatalf("events %+v, no %+v", before, want)
		}
	}
}

func TestLiveWatch(t *testing.T) {
	l := newLive(t)
	o := l.overlay("client")
	const other = "overlayd-test-other.service"
	l.service(other, "[Service]\nExecStart=sleep infinity\n")
	l.install(o)
	reloaded := systemd.Event{Kind: systemd.Reloaded}

	works := func(when string, events <-chan systemd.Event) {
		t.Helper()
		must(t, l.m.Start(l.ctx, other))
		must(t, l.m.Stop(l.ctx, other))
		must(t, l.m.Start(l.ctx, o.FileName()))
		if before := l.until(events, ended(o.FileName())); len(before) != 0 {
			t.Errorf("%s: events %+v before the job of the mount", when, before)
		}
		must(t, l.m.StopAlone(l.ctx, units.TargetName))
		l.until(events, ended(units.TargetName))
		must(t, l.m.StartAlone(l.ctx, units.TargetName))
		l.until(events, ended(units.TargetName))
		must(t, l.m.Stop(l.ctx, o.FileName()))
		l.until(events, ended(o.FileName()))
		must(t, l.m.Reload(l.ctx))
		if before := l.until(events, reloaded); len(before) != 0 {
			t.Errorf("%s: events %+v before the reload", when, before)
		}
	}
	events := l.watch()
	works("first", events)
	for range 3 {
		l.run("systemctl", "daemon-reexec")
		l.until(events, anything)
	}
	works("systemd executed anew", events)
	for range 2 {
		l.run("systemctl", "restart", "dbus.service")
		l.until(events, anything)
	}
	works("bus restarted", events)

	// Without a bus, systemd itself sends.
	t.Cleanup(func() { // not bound to the context of the test
		if out, err := exec.Command("systemctl", "start", "dbus.socket", "dbus.service").CombinedOutput(); err != nil {
			t.Errorf("the bus does not start: %v: %s", err, out)
		}
	})
	l.run("systemctl", "stop", "dbus.socket", "dbus.service")
	l.until(events, anything)
	works("no bus", events)
	works("no bus, new", l.watch())
	l.run("systemctl", "start", "dbus.socket", "dbus.service")
	works("bus there again", events)
	works("bus there again, new", l.watch())
}

// TestLiveStopAlone: what is part of a target goes on when only the target stops.
func TestLiveStopAlone(t *testing.T) {
	l := newLive(t)
	o := l.overlay("client")
	l.install(o)
	const part = "overlayd-test-part.service"
	l.service(part, "[Unit]\nPartOf=overlayd.target\nAfter=overlayd.target\n[Service]\nExecStart=sleep infinity\n")
	must(t, l.m.Start(l.ctx, part))
	must(t, l.m.Start(l.ctx, o.FileName()))
	running := systemd.State{Load: "loaded", Active: "active", Sub: "running"}
	stoppedAlone := func(load string) {
		t.Helper()
		must(t, l.m.StopAlone(l.ctx, units.TargetName))
		must(t, waitJobs(l.ctx, l.m, map[string]bool{part: true, o.FileName(): true}))
		if s := l.state(units.TargetName); s.Active != "inactive" || s.Load != load {
			t.Errorf("%s is %+v, want it %s and inactive", units.TargetName, s, load)
		}
		l.expect("target stopped", part, running)
		l.expect("target stopped", o.FileName(), mounted)
	}
	stoppedAlone("loaded")
	stoppedAlone("loaded") // already

	// As when the last overlay is deleted: its file goes first.
	must(t, l.m.StartAlone(l.ctx, units.TargetName))
	must(t, waitJobs(l.ctx, l.m, nil))
	must(t, apply(t, "", systemd.Batch{
		Remove: []string{units.TargetName}, Unlink: [][2]string{{"multi-user.target", units.TargetName}},
	}))
	must(t, l.m.Reload(l.ctx))
	stoppedAlone("not-found")
	must(t, l.m.StopAlone(l.ctx, units.TargetName))
	must(t, l.m.StopAlone(l.ctx, "overlayd-none.target"))
	l.install() // for the cleaning up
}

// TestLiveAtWork takes mounts away in three ways at the same time. Who hears of it from the mount table has to tell
// them apart at once: what a stop job took, what is on its way back, and what somebody unmounted.
func TestLiveAtWork(t *testing.T) {
	l := newLive(t)
	const rounds, overlays = 4, 12
	all := map[string]units.Mount{}
	var mounts []units.Mount
	for i := range overlays {
		mounts = append(mounts, l.overlay(fmt.Sprintf("client_%d", i)))
		all[mounts[i].FileName()] = mounts[i]
	}
	l.install(mounts...)
	mountAll := func() {
		t.Helper()
		there := mountedAt(t)
		for _, o := range mounts {
			if !there[o.Where] {
				must(t, unix.Mount("overlayd", o.Where, "overlay", 0, strings.TrimSuffix(o.Options, ",nofail")))
			}
		}
		for _, o := range mounts {
			l.eventually(o.FileName(), mounted)
		}
	}
	mountAll()
	verdicts, forget := l.judge(all)

	ways := []struct {
		verdict string
		take    func(o units.Mount) error
	}{
		{"stopped", func(o units.Mount) error { return l.m.Stop(l.ctx, o.FileName()) }},
		{"", func(o units.Mount) error { return l.m.Restart(l.ctx, o.FileName()) }},
		{"unmounted", func(o units.Mount) error { return unix.Unmount(o.Where, 0) }},
	}
	for round := range rounds {
		want, got := map[string]string{}, map[string]string{}
		done := make(chan error, overlays)
		for i, o := range mounts {
			way := ways[(i+round)%len(ways)]
			if way.verdict != "" {
				want[o.FileName()] = way.verdict
			}
			go func() { done <- way.take(o) }()
		}
		for range mounts {
			must(t, <-done)
		}
		for len(got) < len(want) {
			select {
			case v := <-verdicts:
				got[v.unit] = v.what
			case <-l.ctx.Done():
				t.Fatalf("verdicts %v, want %v", got, want)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("round %d (-want +got):\n%s", round, diff)
		}
		mountAll()
		forget()
	}
	select {
	case v := <-verdicts:
		t.Errorf("%s is called %s, and was not taken away", v.unit, v.what)
	default:
	}
}

type verdict struct{ unit, what string }

// judge gives one verdict for each mount that is gone, as soon as it has one, in the way of an agent: woken by the
// mount table and by events of systemd, it asks what systemd is at, and then looks at the table. When all are mounted,
// forget makes it ready for more: it may have missed that they came.
func (l *live) judge(all map[string]units.Mount) (_ <-chan verdict, forget func()) {
	l.t.Helper()
	events := l.watch()
	changes := l.tableChanges()
	verdicts := make(chan verdict, len(all))
	forgets := make(chan struct{})
	look := func(judged map[string]bool) error {
		there := mountedAt(l.t)
		var missing []string
		for unit, o := range all {
			if !there[o.Where] && !judged[unit] {
				missing = append(missing, unit)
			}
		}
		if len(missing) == 0 {
			return nil
		}
		work, err := l.m.AtWork(l.ctx, missing)
		if err != nil {
			return err
		}
		there = mountedAt(l.t)
		for _, unit := range missing {
			switch {
			case there[all[unit].Where] || work.Busy[unit] != "":
				continue
			case work.Stopped[unit]:
				verdicts <- verdict{unit, "stopped"}
			case work.Stopping:
				verdicts <- verdict{unit, "shut down"}
			default:
				verdicts <- verdict{unit, "unmounted"}
			}
			judged[unit] = true
		}
		return nil
	}
	go func() {
		judged := map[string]bool{}
		for {
			select {
			case <-changes:
			case <-events:
			case <-forgets:
				clear(judged)
				continue
			case <-l.t.Context().Done():
				return
			}
			if err := look(judged); err != nil && l.t.Context().Err() == nil {
				verdicts <- verdict{"", err.Error()}
				return
			}
		}
	}()
	return verdicts, func() {
		select {
		case forgets <- struct{}{}:
		case <-l.ctx.Done():
			l.t.Fatal("the judge is gone")
		}
	}
}

// tableChanges tells of changes of the mount table until the test ends.
func (l *live) tableChanges() <-chan struct{} {
	l.t.Helper()
	table, err := os.Open("/proc/self/mountinfo")
	must(l.t, err)
	wake := make([]int, 2)
	must(l.t, unix.Pipe2(wake, unix.O_CLOEXEC))
	changes, done := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(done)
		for {
			fds := []unix.PollFd{{Fd: int32(table.Fd()), Events: unix.POLLPRI}, {Fd: int32(wake[0]), Events: unix.POLLIN}}
			if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR || fds[1].Revents != 0 {
				return
			}
			select {
			case changes <- struct{}{}:
			default:
			}
		}
	}()
	l.t.Cleanup(func() {
		unix.Close(wake[1])
		<-done
		unix.Close(wake[0])
		table.Close()
	})
	return changes
}

// mountedAt gives the mountpoints, as the mount table writes them.
func mountedAt(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	at := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		at[strings.Fields(line)[4]] = true
	}
	return at
}

func TestLiveAtWorkOfOthers(t *testing.T) {
	l := newLive(t)
	o := l.overlay("client")
	o.Requires = []string{"overlayd-test-gate.service"}
	o.After = o.Requires
	gate := filepath.Join(l.base, "gate")
	must(t, unix.Mkfifo(gate, 0o600))
	l.service(o.Requires[0], "[Service]\nType=oneshot\nExecStart=cat "+gate+"\n")
	l.install()
	must(t, apply(t, "", systemd.Batch{Write: map[string][]byte{o.FileName(): o.Render()}}))
	l.units = append(l.units, o.FileName())
	must(t, l.m.Reload(l.ctx))
	names := []string{o.FileName(), "overlayd-none.mount"}
	expect := func(when string, want systemd.AtWork) {
		t.Helper()
		got, err := l.m.AtWork(l.ctx, names)
		must(t, err)
		// Other tests may have started the target.
		states, err := l.m.States(l.ctx, []string{units.TargetName})
		must(t, err)
		want.TargetUp = states[units.TargetName].Active == "active"
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	none := map[string]bool{}
	expect("nothing", systemd.AtWork{Busy: map[string]string{}, Stopped: none})

	started := make(chan error, 1)
	go func() { started <- l.m.Start(l.ctx, o.FileName()) }()
	l.eventually(o.Requires[0], systemd.State{Load: "loaded", Active: "activating", Sub: "start"})
	expect("queued", systemd.AtWork{Busy: map[string]string{o.FileName(): "start"}, Stopped: none})
	must(t, os.WriteFile(gate, nil, 0o600))
	must(t, <-started)
	expect("done", systemd.AtWork{Busy: map[string]string{}, Stopped: none})

	// What every shutdown starts, without the rest of one.
	const dropIn = "/run/systemd/system/shutdown.target.d"
	must(t, os.MkdirAll(dropIn, 0o755))
	t.Cleanup(func() { must(t, os.RemoveAll(dropIn)) })
	must(t, os.WriteFile(dropIn+"/test.conf", []byte("[Unit]\nRefuseManualStart=no\nStopWhenUnneeded=no\n"), 0o644))
	must(t, l.m.Reload(l.ctx))
	must(t, l.m.StartAlone(l.ctx, "shutdown.target"))
	t.Cleanup(func() { must(t, l.m.StopAlone(context.Background(), "shutdown.target")) })
	l.eventually("shutdown.target", systemd.State{Load: "loaded", Active: "active", Sub: "active"})
	expect("shutdown", systemd.AtWork{Busy: map[string]string{}, Stopped: none, Stopping: true})
	out, _ := exec.CommandContext(l.ctx, "systemctl", "is-system-running").Output() // its exit code is the state
	if string(out) != "stopping\n" {
		t.Errorf("systemd calls that %q", out)
	}
}
