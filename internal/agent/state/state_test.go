package state_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/agent/state"
	"github.com/overlayd/overlayd/test/apart"
)

func TestMain(m *testing.M) { os.Exit(apart.Run(nil, m.Run)) }

func at(minute int) time.Time { return time.Date(2026, 11, 23, 16, minute, 0, 0, time.UTC) }

// full is a state with everything in it, of this process.
func full(t testing.TB) state.State {
	t.Helper()
	pid, startTime, err := state.Self()
	if err != nil {
		t.Fatal(err)
	}
	held := state.Pending{
		Address: `overlay.client["a"]`, Change: "replace", Mountpoint: "/srv/a", Reason: "lowerdirs changed: + /srv/tools",
		Held: "policy safe", Since: at(21),
	}
	conflict := held
	conflict.Change, conflict.Held = "conflict", ""
	return state.State{
		PID: pid, StartTime: startTime, Version: "1.0", Since: at(20), Policy: "safe", Paths: []string{"/etc/overlayd"},
		Stopping: true, Reconciled: at(30),
		Spec:    state.Spec{Loaded: at(20), Overlays: 3, Error: "x.hcl:3: Unknown attribute", ErrorSince: at(31)},
		Pending: []state.Pending{held}, Conflicts: []state.Pending{conflict},
		Failed: []state.Failure{{
			Address: "overlay.b", Change: "repair", Mountpoint: "/srv/b", Error: "cannot mount", At: at(40), Times: 3,
			Next: at(41),
		}},
		LastChange: &state.Done{
			Address: "overlay.c", Change: "repair", Mountpoint: "/srv/c", Reason: "not mounted", At: at(25),
		},
	}
}

func write(t *testing.T, dir string, s state.State) {
	t.Helper()
	if err := state.Write(dir, s); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	if _, _, err := state.Read(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before any agent: %v, want that there is no file", err)
	}
	want := full(t)
	for range 2 { // the second time over the first file
		write(t, dir, want)
		got, running, err := state.Read(dir)
		if err != nil || !running {
			t.Fatalf("running %v, %v; want that this process lives", running, err)
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(state.State{}, "Written")); diff != "" {
			t.Errorf("want -, got +\n%s", diff)
		}
		info, err := os.Stat(state.Path(dir))
		if err != nil || !info.ModTime().Equal(got.Written) {
			t.Errorf("written at %v, want the time of the file, %v, %v", got.Written, info.ModTime(), err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, ".agent.json12345"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing
		if err := state.Remove(dir); err != nil {
			t.Error(err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// Who reads while it is written gets one state or the other.
func TestReadersSeeWholeFiles(t *testing.T) {
	dir := t.TempDir()
	few, many := full(t), full(t)
	for range 50 {
		many.Pending = append(many.Pending, many.Pending[0])
	}
	write(t, dir, few)
	var readers sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			for {
				got, _, err := state.Read(dir)
				if n := len(got.Pending); err != nil || n != len(few.Pending) && n != len(many.Pending) {
					t.Errorf("%d pending, %v", n, err)
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for range 200 {
		write(t, dir, many)
		write(t, dir, few)
	}
	close(done)
	readers.Wait()
}

func TestEverybodyMayRead(t *testing.T) {
	dir := t.TempDir()
	defer unix.Umask(unix.Umask(0o077))
	write(t, dir, full(t))
	if info, err := os.Stat(state.Path(dir)); err != nil || info.Mode() != 0o644 {
		t.Errorf("mode %v, %v; want 0644 whatever the umask is", info.Mode(), err)
	}
}

func TestSymlinks(t *testing.T) {
	dir, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "elsewhere")
	if err := os.WriteFile(elsewhere, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, state.Path(dir)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := state.Read(dir); err == nil || !strings.Contains(err.Error(), "agent.json is a symlink") {
		t.Errorf("reading: %v, want that it is a symlink", err)
	}
	write(t, dir, full(t))
	if text, err := os.ReadFile(elsewhere); err != nil || string(text) != "mine" {
		t.Errorf("writing followed the symlink: %q, %v", text, err)
	}
	if _, running, err := state.Read(dir); err != nil || !running {
		t.Errorf("the symlink was not replaced: %v", err)
	}
}

func TestUnreadable(t *testing.T) {
	const restart = `"systemctl restart overlayd"`
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"empty", "", []string{"is damaged", restart}},
		{"cut", `{"format_version": "1.0", "pid": 1`, []string{"is damaged", restart}},
		{"list", `[]`, []string{"is damaged", restart}},
		{"nothing in it", `{}`, []string{"no format_version", restart}},
		{"no process", `{"format_version": "1.0"}`, []string{"names no process", restart}},
		{"all processes", `{"format_version": "1.0", "pid": -1}`, []string{"names no process"}},
		{"no such number", `{"format_version": "1.0", "pid": 4294967297}`, []string{"names no process"}},
		{"wrong type", `{"format_version": "1.0", "pid": 1, "since": "yesterday"}`, []string{"is damaged", "yesterday"}},
		{"later", `{"format_version": "2.0", "pid": "one"}`, []string{`format "2.0"`, "knows 1.0"}},
		{"huge", strings.Repeat(" ", 16<<20) + `{"format_version": "1.0", "pid": 1}`, []string{"more than 16 MiB"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(state.Path(dir), []byte(c.text), 0o644); err != nil {
				t.Fatal(err)
			}
			_, running, err := state.Read(dir)
			if err == nil || running {
				t.Fatalf("running %v, %v; want an error", running, err)
			}
			for _, part := range append(c.want, state.Path(dir), "cannot read the state of the agent") {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%v; want %q in it", err, part)
				}
			}
		})
	}

	t.Run("a field that is not known yet", func(t *testing.T) {
		dir := t.TempDir()
		text := `{"format_version": "1.7", "pid": 1, "mood": "good"}`
		if err := os.WriteFile(state.Path(dir), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if s, _, err := state.Read(dir); err != nil || s.PID != 1 {
			t.Errorf("process %d, %v; want what is known", s.PID, err)
		}
	})
	t.Run("named pipe", func(t *testing.T) {
		dir := t.TempDir()
		if err := unix.Mkfifo(state.Path(dir), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, _, err := state.Read(dir); err == nil || !strings.Contains(err.Error(), "is no file") {
			t.Errorf("%v; want that it is no file", err)
		}
	})
}

// However much goes wrong on a host, the file stays small, and says how much it leaves out.
func TestBounded(t *testing.T) {
	dir := t.TempDir()
	s := full(t)
	s.Spec.Error = strings.Repeat("é", 1<<20)
	s.LastChange.Reason = strings.Repeat("x", 1<<20)
	for i := range 1000 {
		p, f := s.Pending[0], s.Failed[0]
		p.Address = fmt.Sprintf("overlay.client[%q]", fmt.Sprint(i))
		p.Reason = "x" + strings.Repeat("é", 1000)
		f.Error = p.Reason
		s.Pending, s.Conflicts, s.Failed = append(s.Pending, p), append(s.Conflicts, p), append(s.Failed, f)
	}
	before, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, s)
	if after, err := json.Marshal(s); err != nil || string(after) != string(before) {
		t.Errorf("what was written was changed, %v", err)
	}
	if info, err := os.Stat(state.Path(dir)); err != nil || info.Size() > 1<<20 {
		t.Errorf("the file has %d bytes, %v", info.Size(), err)
	}
	got, _, err := state.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(got.Pending); n != 100 || got.Pending[1].Address != s.Pending[1].Address {
		t.Errorf("%d pending, want the first 100", n)
	}
	if want := (state.Omitted{Pending: 901, Conflicts: 901, Failed: 901}); got.Omitted != want {
		t.Errorf("omitted %+v, want %+v", got.Omitted, want)
	}
	for _, text := range []string{got.Spec.Error, got.Pending[1].Reason, got.Failed[1].Error, got.LastChange.Reason} {
		if !strings.HasSuffix(text, "…") || strings.Contains(text, "\ufffd") || len(text) > 8010 {
			t.Errorf("cut to %d bytes, ending in %q", len(text), text[max(0, len(text)-10):])
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", `{"format_version":"1.0","pid":1}`, `{"format_version":"2.0"}`,
		`{"format_version":"1.0","pid":1,"pending":[{"address":"overlay.a","since":"2026-11-23T16:20:00Z"}],"failed":null}`,
	} {
		f.Add([]byte(seed))
	}
	dir := f.TempDir()
	write := func(s state.State) error { return state.Write(dir, s) }
	if err := write(full(f)); err != nil {
		f.Fatal(err)
	}
	text, err := os.ReadFile(state.Path(dir))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(state.Path(dir), text, 0o644); err != nil {
			t.Fatal(err)
		}
		s, _, err := state.Read(dir)
		if err != nil {
			return
		}
		if s.PID <= 0 {
			t.Errorf("process %d was taken for an agent", s.PID)
		}
		// What can be read can be written, and is the same then.
		if err := state.Write(dir, s); err != nil {
			t.Fatal(err)
		}
		once, _, err := state.Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := state.Write(dir, once); err != nil {
			t.Fatal(err)
		}
		twice, _, err := state.Read(dir)
		if diff := cmp.Diff(once, twice, cmpopts.IgnoreFields(state.State{}, "Written")); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	})
}
