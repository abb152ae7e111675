package systemd_test

import (
	"bytes"
	"context"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"time"

	godbus "github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/overlayd/overlayd/internal/units/systemd"
)

var anything = systemd.Event{Kind: systemd.Anything}

func ended(unit string) systemd.Event { return systemd.Event{Kind: systemd.JobEnded, Unit: unit} }

// startWatch watches over a fake bus whose first connection is welcome.
func startWatch(ctx context.Context, t *testing.T) (*fakeBus, *fakeConn, <-chan systemd.Event) {
	t.Helper()
	return startWatchBy(ctx, t, func(conn *fakeConn) { conn.welcome() })
}

func startWatchBy(ctx context.Context, t *testing.T, welcome func(conn *fakeConn)) (*fakeBus, *fakeConn,
	<-chan systemd.Event,
) {
	t.Helper()
	bus := newFakeBus(t)
	type result struct {
		events <-chan systemd.Event
		err    error
	}
	done := make(chan result, 1)
	go func() {
		events, err := systemd.Watch(ctx)
		done <- result{events, err}
	}()
	conn := bus.next()
	welcome(conn)
	r := <-done
	must(t, r.err)
	return bus, conn, r.events
}

// wantEvents asks for these events next.
func wantEvents(t *testing.T, events <-chan systemd.Event, want ...systemd.Event) {
	t.Helper()
	for _, w := range want {
		select {
		case e, ok := <-events:
			if !ok || e != w {
				t.Fatalf("event %+v (channel open: %v), want %+v", e, ok, w)
			}
		case <-t.Context().Done():
			t.Fatalf("no event, want %+v", w)
		}
	}
}

func TestWatchAsksForLittle(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	bus := newFakeBus(t)
	go systemd.Watch(ctx) //nolint:errcheck // it succeeds when the welcome does
	rules := bus.next().welcome()
	for i, rule := range rules {
		parts := strings.Split(rule, ",")
		slices.Sort(parts)
		rules[i] = strings.Join(parts, ",")
	}
	slices.Sort(rules)
	want := []string{
		"arg0='org.freedesktop.systemd1',interface='org.freedesktop.DBus',member='NameOwnerChanged'," +
			"sender='org.freedesktop.DBus',type='signal'",
		"interface='org.freedesktop.systemd1.Manager',member='JobRemoved',sender='org.freedesktop.systemd1',type='signal'",
		"interface='org.freedesktop.systemd1.Manager',member='Reloading',sender='org.freedesktop.systemd1',type='signal'",
	}
	if diff := cmp.Diff(want, rules); diff != "" {
		t.Errorf("match rules (-want +got):\n%s", diff)
	}
}

func TestWatchEvents(t *testing.T) {
	_, conn, events := startWatch(t.Context(), t)
	path := godbus.ObjectPath("/org/freedesktop/systemd1/job/7")
	// None of these is an event, and none breaks anything.
	conn.signal(systemdID, managerName, "Reloading", true)
	conn.jobRemoved("ssh.service")
	conn.jobRemoved("multi-user.target")
	conn.signal(":1.66", managerName, "JobRemoved", uint32(1), path, "srv-forged.mount", "done")
	conn.signal(":1.66", theBus, "NameOwnerChanged", systemdName, systemdID, ":1.66")
	conn.signal(":1.66", managerName, "Reloading", false)
	conn.signal(theBus, theBus, "NameOwnerChanged", "org.freedesktop.login1", ":1.2", ":1.66")
	conn.signal(systemdID, managerName, "JobRemoved", "strange")
	conn.signal(systemdID, managerName, "JobRemoved")
	conn.signal(systemdID, managerName, "Reloading", "no")
	conn.signal(systemdID, managerName, "StartupFinished", uint64(1))
	conn.signal(systemdID, theBus+".Properties", "PropertiesChanged", "x")
	// These are.
	conn.jobRemoved("srv-a.mount")
	wantEvents(t, events, ended("srv-a.mount"))
	conn.signal(systemdID, managerName, "Reloading", false)
	wantEvents(t, events, systemd.Event{Kind: systemd.Reloaded})
	conn.jobRemoved("overlayd.target")
	wantEvents(t, events, ended("overlayd.target"))
}

// TestWatchSlowReader: what he has not taken is there once, and what is too much becomes Anything.
func TestWatchSlowReader(t *testing.T) {
	_, conn, events := startWatch(t.Context(), t)
	for range 50 {
		for i := range 3 {
			conn.jobRemoved(jobOf(i))
		}
	}
	conn.sync()
	// One is taken out of the backlog already, and may have come back to its end.
	var got []systemd.Event
	for range 3 {
		got = append(got, <-events)
	}
	if diff := cmp.Diff([]systemd.Event{ended(jobOf(0)), ended(jobOf(1)), ended(jobOf(2))}, got); diff != "" {
		t.Errorf("folded (-want +got):\n%s", diff)
	}
	conn.jobRemoved("srv-end.mount")
	if e := <-events; e == ended(jobOf(0)) {
		e = <-events
		if e != ended("srv-end.mount") {
			t.Errorf("then %+v", e)
		}
	} else if e != ended("srv-end.mount") {
		t.Errorf("then %+v", e)
	}

	for i := range 2000 {
		conn.jobRemoved(jobOf(i))
	}
	conn.sync()
	// One is taken out of the backlog already, and so may one Anything be: what comes then is folded once more.
	folded := 0
	for taken := 0; folded == 0 || taken == 0; taken++ {
		if e := <-events; e == anything {
			folded++
		} else if taken > 0 {
			t.Fatalf("of too many: %+v", e)
		}
	}
	for {
		conn.jobRemoved("srv-after.mount")
		e := <-events
		if e == ended("srv-after.mount") {
			break
		}
		if folded++; e != anything || folded > 2 {
			t.Fatalf("then %+v, folded %d times", e, folded)
		}
	}
}

// TestWatchReexec: another systemd on the bus is asked for signals, and only it is believed.
func TestWatchReexec(t *testing.T) {
	for _, answer := range []string{"", systemdName + ".AlreadySubscribed"} {
		t.Run("answer "+answer, func(t *testing.T) {
			_, conn, events := startWatch(t.Context(), t)
			conn.signal(theBus, theBus, "NameOwnerChanged", systemdName, systemdID, "")
			conn.jobRemoved("srv-late.mount")
			conn.signal(theBus, theBus, "NameOwnerChanged", systemdName, "", ":1.9")
			call := conn.read()
			if member := call.Headers[godbus.FieldMember].Value(); member != "Subscribe" {
				t.Fatalf("call of %v", member)
			}
			if answer == "" {
				conn.reply(call)
			} else {
				conn.refuse(call, answer)
			}
			wantEvents(t, events, anything)
			conn.jobRemoved("srv-late.mount")
			conn.signal(":1.9", managerName, "Reloading", false)
			wantEvents(t, events, systemd.Event{Kind: systemd.Reloaded})
		})
	}
}

// TestWatchEarly: at boot a unit may start before systemd has come to the bus.
func TestWatchEarly(t *testing.T) {
	_, conn, events := startWatchBy(t.Context(), t, (*fakeConn).welcomeEarly)
	conn.jobRemoved("srv-forged.mount") // nobody is systemd yet
	conn.signal(theBus, theBus, "NameOwnerChanged", systemdName, "", systemdID)
	call := conn.read()
	if member := call.Headers[godbus.FieldMember].Value(); member != "Subscribe" {
		t.Fatalf("call of %v", member)
	}
	conn.reply(call)
	wantEvents(t, events, anything)
	conn.jobRemoved("srv-a.mount")
	wantEvents(t, events, ended("srv-a.mount"))
}

// TestWatchAgain: a connection that breaks is made anew, also when the next one fails, each in its own way.
func TestWatchAgain(t *testing.T) {
	lost := func(bus *fakeBus, conn *fakeConn) *fakeConn {
		conn.drop()
		return bus.next()
	}
	for name, fail := range map[string]func(bus *fakeBus, conn *fakeConn){
		"lost":      func(_ *fakeBus, conn *fakeConn) { conn.drop() },
		"no answer": func(bus *fakeBus, conn *fakeConn) { lost(bus, conn).drop() },
		"half an answer": func(bus *fakeBus, conn *fakeConn) {
			conn = lost(bus, conn)
			conn.handshake()
			conn.reply(conn.read(), ":1.8") // Hello
			conn.drop()
		},
		"a new systemd refuses": func(_ *fakeBus, conn *fakeConn) {
			conn.signal(theBus, theBus, "NameOwnerChanged", systemdName, "", ":1.9")
			conn.refuse(conn.read(), theBus+".Error.AccessDenied")
		},
	} {
		t.Run(name, func(t *testing.T) {
			bus, conn, events := startWatch(t.Context(), t)
			fail(bus, conn)
			conn = bus.next()
			conn.welcome()
			wantEvents(t, events, anything)
			conn.jobRemoved("srv-a.mount")
			wantEvents(t, events, ended("srv-a.mount"))
		})
	}
}

func TestWatchEnds(t *testing.T) {
	for name, state := range map[string]func(bus *fakeBus, conn *fakeConn){
		"idle": func(*fakeBus, *fakeConn) {},
		"events wait for a reader": func(_ *fakeBus, conn *fakeConn) {
			for i := range 1000 {
				conn.jobRemoved(jobOf(i))
			}
			conn.sync()
		},
		"connection lost": func(_ *fakeBus, conn *fakeConn) { conn.drop() },
		"connecting": func(bus *fakeBus, conn *fakeConn) {
			conn.drop()
			bus.next()
		},
		"subscribing again": func(_ *fakeBus, conn *fakeConn) {
			conn.signal(theBus, theBus, "NameOwnerChanged", systemdName, "", ":1.9")
			conn.read()
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			bus, conn, events := startWatch(ctx, t)
			state(bus, conn)
			cancel()
			for range events { // to its end
				continue
			}
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for left := watchers(t); left != ""; left = watchers(t) {
				select {
				case <-tick.C:
				case <-t.Context().Done():
					t.Fatalf("left:\n%s", left)
				}
			}
		})
	}
}

// watchers gives the goroutines that a watch started.
func watchers(t *testing.T) string {
	t.Helper()
	var all bytes.Buffer
	must(t, pprof.Lookup("goroutine").WriteTo(&all, 2))
	var left []string
	for one := range strings.SplitSeq(all.String(), "\n\n") {
		if strings.Contains(one, "created by") &&
			(strings.Contains(one, "systemd.keep") || strings.Contains(one, "systemd.Watch") ||
				strings.Contains(one, "godbus/dbus")) {
			left = append(left, one)
		}
	}
	return strings.Join(left, "\n\n")
}

func TestWatchFails(t *testing.T) {
	bus := newFakeBus(t)
	go func() {
		for conn := range bus.conns {
			conn.drop()
		}
	}()
	events, err := systemd.Watch(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), "cannot watch systemd: ") || events != nil {
		t.Errorf("events %v, error %v", events, err)
	}
}
