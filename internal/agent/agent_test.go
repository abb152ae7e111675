package agent_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/agent"
	"github.com/overlayd/overlayd/internal/agent/state"
	"github.com/overlayd/overlayd/internal/config"
	"github.com/overlayd/overlayd/internal/hostlock"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/test/apart"
)

const unitDir = "/etc/systemd/system"

// TestMain runs the tests apart: /run and the unit directory are empty, no systemd runs, and what the agent mounts is
// seen by nobody else.
func TestMain(m *testing.M) {
	os.Exit(apart.Run(func() error { return unix.Mount("units", unitDir, "tmpfs", 0, "mode=0755") }, m.Run))
}

// site is a host with an agent on it.
type site struct {
	t    *testing.T
	dir  string
	logs *logtest.Hook

	mu       sync.Mutex
	notified []string
	settings agent.Settings
	reload   chan os.Signal
	stop     context.CancelFunc
	ended    chan error
}

func newSite(t *testing.T) *site {
	t.Helper()
	apart.NeedRoot(t)
	s := &site{t: t, dir: "/run/site", settings: agent.DefaultSettings(), reload: make(chan os.Signal, 1)}
	for _, dir := range []string{"spec", "base", "more"} {
		if err := os.MkdirAll(s.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(s.tidy)
	return s
}

func (s *site) tidy() {
	if s.stop != nil {
		s.end()
	}
	table, err := host.ReadTable()
	if err != nil {
		s.t.Error(err)
		return
	}
	for _, m := range slices.Backward(table.Below(s.dir)) {
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH); err != nil {
			s.t.Error(err)
		}
	}
	left, _ := filepath.Glob(unitDir + "/*")
	for _, p := range append(left, s.dir, "/run/overlayd") {
		if err := os.RemoveAll(p); err != nil {
			s.t.Error(err)
		}
	}
}

func (s *site) path(rel string) string { return filepath.Join(s.dir, rel) }

// overlay is the block of one, with lowerdirs as given.
func overlay(name string, lower ...string) string {
	return fmt.Sprintf("overlay %q {\nlowerdirs = [%s]\nupperdir = \"@/%s/u\"\nworkdir = \"@/%s/w\"\nmountpoint = \"@/m/%s\"\n}\n",
		name, `"@/`+strings.Join(lower, `", "@/`)+`"`, name, name, name)
}

// spec puts a file of the spec in its place at once, as configuration management does.
func (s *site) spec(name string, blocks ...string) {
	s.t.Helper()
	text := strings.ReplaceAll(strings.Join(blocks, ""), "@", s.dir)
	if err := os.WriteFile(s.path("spec/.new"), []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(s.path("spec/.new"), s.path("spec/"+name)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) load() agent.Loaded {
	s.mu.Lock()
	out := agent.Loaded{Settings: s.settings}
	s.mu.Unlock()
	spec, diags := config.Load([]string{s.path("spec")}, config.Inputs{HostName: "test"})
	if !diags.HasErrors() {
		out.Desired, diags = reconcile.Desire(spec, "")
	}
	if diags.HasErrors() {
		out.Err = diags
	}
	return out
}

func (s *site) config() agent.Config {
	log, hook := logtest.NewNullLogger()
	log.SetLevel(logrus.InfoLevel)
	s.logs = hook
	return agent.Config{
		Host: &reconcile.Host{Log: log}, Load: s.load, Paths: []string{s.path("spec")},
		Scope: plan.Scope{Dirs: []string{s.path("spec")}}, Version: "test", Log: log, Reload: s.reload,
		Notify: func(state string) {
			s.mu.Lock()
			s.notified = append(s.notified, state)
			s.mu.Unlock()
		},
	}
}

// start starts the agent and waits until it is ready.
func (s *site) start() {
	s.t.Helper()
	c := s.config()
	ctx, stop := context.WithCancel(context.Background())
	s.stop, s.ended = stop, make(chan error, 1)
	go func() { s.ended <- agent.Run(ctx, c) }()
	s.await("ready", func() bool { return s.heard("READY=1") })
}

func (s *site) end() {
	s.t.Helper()
	s.stop()
	if err := <-s.ended; err != nil {
		s.t.Errorf("the agent ended with %v", err)
	}
	s.stop = nil
}

func (s *site) heard(part string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.notified, func(n string) bool { return strings.Contains(n, part) })
}

func (s *site) logged(part string) bool {
	return slices.ContainsFunc(s.logs.AllEntries(), func(e *logrus.Entry) bool {
		text := e.Message
		if err, ok := e.Data[logrus.ErrorKey].(error); ok {
			text += ": " + err.Error()
		}
		return strings.Contains(text, part)
	})
}

// await waits for a condition, which nothing signals to a test.
func (s *site) await(what string, is func() bool) {
	s.t.Helper()
	limit := time.After(time.Minute)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-limit:
			for _, e := range s.logs.AllEntries() {
				s.t.Logf("%s: %s %v", e.Level, e.Message, e.Data[logrus.ErrorKey])
			}
			s.t.Fatalf("never: %s; told: %q", what, s.notified)
		}
	}
}

func (s *site) mounts(name string) int {
	table, err := host.ReadTable()
	if err != nil {
		s.t.Fatal(err)
	}
	return len(table.At(s.path("m/" + name)))
}

func (s *site) awaitMounts(name string, n int) {
	s.t.Helper()
	s.await(fmt.Sprintf("%d mounts of %s", n, name), func() bool { return s.mounts(name) == n })
}

func (s *site) umount(name string) {
	s.t.Helper()
	if err := unix.Unmount(s.path("m/"+name), 0); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) state() state.State {
	st, _, err := state.Read(state.Dir)
	if err != nil {
		s.t.Fatal(err)
	}
	return st
}

func TestRepairs(t *testing.T) {
	s := newSite(t)
	s.spec("a.hcl", overlay("a", "base"), overlay("b", "base"))
	s.start()
	if s.mounts("a") != 1 || s.mounts("b") != 1 {
		t.Fatal("ready before the host is as the spec says")
	}
	if err := os.WriteFile(s.path("m/a/mine"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.umount("a")
	s.awaitMounts("a", 1)
	if _, err := os.Stat(s.path("m/a/mine")); err != nil {
		t.Error(err)
	}
	s.await("the repair in the log", func() bool { return s.logged("repaired overlay.a (not mounted)") })

	unit := unitDir + "/run-site-m-b.mount"
	if err := os.Remove(unit); err != nil {
		t.Fatal(err)
	}
	s.await("the unit file", func() bool {
		text, err := os.ReadFile(unit)
		return err == nil && strings.Contains(string(text), "Address=overlay.b\n")
	})
	if err := os.Remove(unitDir + "/overlayd.target.wants/run-site-m-a.mount"); err != nil {
		t.Fatal(err)
	}
	s.await("the link", func() bool {
		_, err := os.Lstat(unitDir + "/overlayd.target.wants/run-site-m-a.mount")
		return err == nil
	})
	if err := unix.Mount("", s.path("m/b"), "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	s.await("b writable again", func() bool { return unix.Access(s.path("m/b"), unix.W_OK) == nil })
	s.end()
	if !s.heard("STOPPING=1") {
		t.Errorf("told %q, and not that it stops", s.notified)
	}
	if s.mounts("a") != 1 || s.mounts("b") != 1 {
		t.Error("the mounts went with the agent")
	}
}

func TestFollowsTheSpec(t *testing.T) {
	s := newSite(t)
	s.start() // nothing declared, nothing applied: nothing wrong
	if s.state().Spec.Error != "" {
		t.Fatal(s.state().Spec.Error)
	}
	s.spec("a.hcl", overlay("a", "base"))
	s.awaitMounts("a", 1)
	s.spec("b.hcl", overlay("b", "base"))
	s.awaitMounts("b", 1)

	// Disruptive changes wait, and are told.
	s.spec("b.hcl", overlay("b", "more", "base"))
	s.await("the replace is pending", func() bool {
		p := s.state().Pending
		return len(p) == 1 && p[0].Address == "overlay.b" && p[0].Change == "replace"
	})
	s.await("STATUS", func() bool { return s.heard("STATUS=2 overlays, policy safe: 1 pending") })
	if err := os.Remove(s.path("spec/b.hcl")); err != nil {
		t.Fatal(err)
	}
	s.await("the delete is pending", func() bool {
		p := s.state().Pending
		return len(p) == 1 && p[0].Change == "delete"
	})
	if s.mounts("b") != 1 {
		t.Error("policy safe took a mount down")
	}

	// With another policy they are made: a delete in its time, or at once when somebody asks for it.
	s.mu.Lock()
	s.settings.Policy = plan.PolicyFull
	s.mu.Unlock()
	s.reload <- unix.SIGHUP
	s.awaitMounts("b", 0)
	s.await("reloaded", func() bool { return s.heard("RELOADING=1") && len(s.state().Pending) == 0 })
	s.awaitMounts("a", 1)
	if !s.logged(", 1 overlay declared") {
		t.Error("the log does not say what the policy is now, and how many overlays there are")
	}
}

func TestBrokenSpec(t *testing.T) {
	s := newSite(t)
	s.settings.Policy = plan.PolicyFull
	s.spec("a.hcl", overlay("a", "base"))
	s.spec("b.hcl", overlay("b", "base"))
	s.start()
	for name, c := range map[string]struct {
		do   func()
		want string
	}{
		"broken":     {func() { s.spec("b.hcl", "overlay \"b\" {\n") }, "b.hcl"},
		"unreadable": {func() { s.spec("b.hcl", "lowerdirs = 1") }, "lowerdirs"},
		"empty": {func() {
			s.spec("a.hcl")
			s.spec("b.hcl")
		}, "--allow-empty"},
		"gone": {func() {
			if err := os.RemoveAll(s.path("spec")); err != nil {
				t.Fatal(err)
			}
		}, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			c.do()
			s.await("the error is told", func() bool { return strings.Contains(s.state().Spec.Error, c.want) })
			if !s.logged(c.want) || !s.heard("STATUS=Spec not usable: ") {
				t.Errorf("told %q", s.notified)
			}
			// The spec before stays in force, for repairs as well.
			s.umount("b")
			s.awaitMounts("b", 1)
			if s.mounts("a") != 1 {
				t.Error("a is gone")
			}
			if err := os.MkdirAll(s.path("spec"), 0o755); err != nil {
				t.Fatal(err)
			}
			s.spec("a.hcl", overlay("a", "base"))
			s.spec("b.hcl", overlay("b", "base"))
			s.await("the spec is mended", func() bool { return s.state().Spec.Error == "" })
		})
	}
}

// A file that somebody is writing parses, and declares half of the clients.
func TestHalfWrittenSpec(t *testing.T) {
	s := newSite(t)
	s.settings.Policy = plan.PolicyFull
	s.spec("a.hcl", overlay("a", "base"), overlay("b", "base"))
	s.start()
	f, err := os.OpenFile(s.path("spec/a.hcl"), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	write := func(text string) {
		if _, err := f.WriteString(strings.ReplaceAll(text, "@", s.dir)); err != nil {
			t.Fatal(err)
		}
	}
	write(overlay("a", "base"))
	s.await("that it is being written", func() bool { return strings.Contains(s.state().Spec.Error, "is being written") })
	if s.mounts("b") != 1 {
		t.Fatal("b was deleted, as its block was not written yet")
	}
	write(overlay("b", "base") + overlay("c", "base"))
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	s.awaitMounts("c", 1)
	s.await("no error", func() bool { return s.state().Spec.Error == "" })
	if s.mounts("a") != 1 || s.mounts("b") != 1 {
		t.Error("a or b is gone")
	}
}

// Without a spec that can be read, what was applied is kept as it is.
func TestStartsWithBrokenSpec(t *testing.T) {
	s := newSite(t)
	s.settings.Policy = plan.PolicyFull
	s.spec("a.hcl", overlay("a", "base"))
	s.start()
	s.end()
	s.spec("a.hcl", "nonsense")
	s.umount("a")
	s.notified = nil
	s.start()
	s.awaitMounts("a", 1)
	if s.state().Spec.Error == "" {
		t.Error("it says nothing of the spec")
	}
	s.umount("a")
	s.awaitMounts("a", 1)
}

func TestConflictEnds(t *testing.T) {
	s := newSite(t)
	s.spec("a.hcl", overlay("a", "later/layer"))
	s.start()
	if c := s.state().Conflicts; len(c) != 1 || c[0].Address != "overlay.a" {
		t.Fatalf("conflicts: %v", c)
	}
	if err := os.MkdirAll(s.path("later/layer"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.awaitMounts("a", 1)
	s.await("no conflict", func() bool { return len(s.state().Conflicts) == 0 })
}

// Who unmounts in a loop gets some repairs, and then fewer and fewer; the rest of the host is served.
func TestBoundedRepairs(t *testing.T) {
	s := newSite(t)
	s.spec("a.hcl", overlay("a", "base"), overlay("b", "base"))
	s.start()
	s.await("it is held", func() bool {
		if s.mounts("a") == 1 {
			s.umount("a")
		}
		p := s.state().Pending
		return len(p) == 1 && p[0].Address == "overlay.a"
	})
	if !s.logged("again and again") {
		t.Error("that it waits is not in the log")
	}
	s.umount("b")
	s.awaitMounts("b", 1)
	s.awaitMounts("a", 1) // in its time
	if n := len(s.logs.AllEntries()); n > 30 {
		t.Errorf("%d lines in the log", n)
	}
}

// Somebody takes a mount out of sight and goes on writing to it: a second one would have the same upperdir.
func TestLazyUnmount(t *testing.T) {
	s := newSite(t)
	s.spec("a.hcl", overlay("a", "base"))
	s.start()
	f, err := os.Create(s.path("m/a/open"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Unmount(s.path("m/a"), unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	s.await("it is held", func() bool {
		p := s.state().Pending
		return len(p) == 1 && strings.Contains(p[0].Held, "--lazy")
	})
	if s.mounts("a") != 0 {
		t.Fatal("it was mounted while the first one is in use")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	s.awaitMounts("a", 1)
}

func TestOneAgent(t *testing.T) {
	s := newSite(t)
	s.spec("a.hcl", overlay("a", "base"))
	s.start()
	err := agent.Run(t.Context(), s.config())
	var held *hostlock.HeldError
	if !errors.As(err, &held) || held.PID != os.Getpid() {
		t.Errorf("a second agent: %v", err)
	}
	if _, running, err := state.Read(state.Dir); err != nil || !running {
		t.Errorf("the first one: running %t, %v", running, err)
	}
}
