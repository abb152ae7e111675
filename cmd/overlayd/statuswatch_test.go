package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rivo/uniseg"

	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// watched is a host of n overlays, every 300th of which is not mounted.
func watched(n int, agent agentView) watchView {
	v := watchView{at: today2026(16, 40, 2), host: "pihost", agent: agent}
	for i := range n {
		name := fmt.Sprintf("c%03d", i)
		r := reconcile.Row{
			Address: fmt.Sprintf("overlay.client[%q]", name), Mountpoint: "/srv/clients/" + name,
			State: reconcile.StateMounted, View: plan.View{Lowerdirs: []string{"/srv/base", "/srv/tools/of/all/clients"}},
		}
		switch i % 300 {
		case 17:
			r.State = reconcile.StateMissing
		case 18:
			r.State = reconcile.StateDrifted
		}
		v.rows = append(v.rows, r)
	}
	return v
}

func TestViewWatch(t *testing.T) {
	show := func(name string, v watchView, paint painter, width, height int) {
		golden(t, name, func(w io.Writer) {
			for _, l := range v.frame(paint, width, height) {
				fmt.Fprintln(w, l)
			}
		})
	}
	show("watch", watched(20, busyAgent()), true, 80, 48)
	show("watch_many", watched(1000, quietAgent()), false, 80, 16)
	show("watch_worse", watched(1000, busyAgent()), false, 80, 12)
	show("watch_narrow", watched(40, quietAgent()), false, 40, 12)
	show("watch_none", watched(0, agentView{}), false, 80, 24)
	blocked := watched(4, agentView{})
	blocked.explains, blocked.rows[2].State = "overlayd plan", reconcile.StateConflict
	show("watch_conflict", blocked, false, 80, 24)
	noted := watched(2, agentView{})
	noted.notes = []string{"The spec is left out, as it has 2 errors (overlayd validate). The first: x.hcl:3: Unknown " +
		"attribute: An overlay has no attribute \"lowerdir\"."}
	show("watch_noted", noted, true, 80, 24)
}

// Whatever the terminal, nothing of a frame lies outside of it: else the terminal scrolls, and the next frame lands
// beside the last one.
func TestFrameFits(t *testing.T) {
	wide := watched(3, busyAgent())
	wide.host = strings.Repeat("日本", 30)
	wide.rows[0].Address = `overlay.client["` + strings.Repeat("語", 60) + `"]`
	wide.rows[1].Mountpoint = "/srv/" + strings.Repeat("e\u0301", 200)
	wide.notes = []string{strings.Repeat("x", 300), "The spec is left out."}
	for _, v := range []watchView{wide, watched(50, busyAgent()), watched(50, agentView{}), watched(0, quietAgent())} {
		for width := 1; width <= 130; width += 1 + width/8 {
			for height := 1; height <= 60; height += 1 + height/4 {
				lines := v.frame(false, width, height)
				if len(lines) > height {
					t.Fatalf("%d lines for a terminal of %d×%d", len(lines), width, height)
				}
				for _, l := range lines {
					// What is below the margins of a table nobody can read, and the terminal cuts it.
					if n := uniseg.StringWidth(l); n > max(width, agentMargin+2) {
						t.Fatalf("%d columns for a terminal of %d×%d: %q", n, width, height, l)
					}
				}
			}
		}
	}
}

// As long as there is room, every overlay that is not mounted is shown.
func TestFrameShowsWhatIsNotMounted(t *testing.T) {
	v := watched(1000, busyAgent())
	for height := 20; height <= 60; height++ {
		text := strings.Join(v.frame(false, 80, height), "\n")
		for _, r := range v.rows {
			if r.State != reconcile.StateMounted && !strings.Contains(text, r.Mountpoint) {
				t.Fatalf("%s is %s, and not on a screen of %d lines:\n%s", r.Address, r.State, height, text)
			}
		}
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		text  string
		width int
		want  string
	}{
		{"", 0, ""},
		{"abc", 3, "abc"},
		{"abcd", 3, "ab…"},
		{"abcd", 1, "…"},
		{"abcd", 0, ""},
		{"abcd", -5, ""},
		{"日本語", 6, "日本語"},
		{"日本語", 5, "日本…"},
		{"日本語", 4, "日…"},
		{"e\u0301e\u0301e\u0301", 2, "e\u0301…"},
	} {
		if got := cut(c.text, c.width); got != c.want {
			t.Errorf("cut(%q, %d) = %q, want %q", c.text, c.width, got, c.want)
		}
	}
}

// watchTest is a loop whose host, terminal and clock are the test's.
type watchTest struct {
	loop             watchLoop
	mounts, files    chan struct{}
	resized, stopped chan os.Signal
	tick, paused     chan time.Time
	looks            chan struct{}      // a look begins
	seen             chan watchView     // and sees this
	failed           chan error         // or fails
	drawn            chan watchView     // what is on the screen
	pauses           chan time.Duration // how long the loop means to rest
	suspended        chan struct{}
	ended            chan error
	interrupt        context.CancelFunc
	gone             chan struct{} // closed: the terminal is
}

var errGone = errors.New("input/output error")

func startWatch(t *testing.T) *watchTest {
	t.Helper()
	w := &watchTest{
		mounts: make(chan struct{}), files: make(chan struct{}), resized: make(chan os.Signal), stopped: make(chan os.Signal),
		tick: make(chan time.Time), paused: make(chan time.Time), looks: make(chan struct{}), seen: make(chan watchView),
		failed: make(chan error), drawn: make(chan watchView), pauses: make(chan time.Duration, 1),
		suspended: make(chan struct{}), ended: make(chan error, 1), gone: make(chan struct{}),
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	w.interrupt = cancel
	w.loop = watchLoop{
		mounts: w.mounts, files: w.files, resized: w.resized, stopped: w.stopped, tick: w.tick,
		after: func(d time.Duration) <-chan time.Time { w.pauses <- d; return w.paused },
		look: func(ctx context.Context) (watchView, error) {
			w.looks <- struct{}{}
			select {
			case v := <-w.seen:
				return v, nil
			case err := <-w.failed:
				return watchView{}, err
			case <-ctx.Done():
				return watchView{}, ctx.Err()
			}
		},
		draw: func(v watchView) error {
			select {
			case w.drawn <- v:
			case <-w.gone:
				return errGone
			case <-ctx.Done():
			}
			return nil
		},
		suspend: func() error { w.suspended <- struct{}{}; return nil },
	}
	go func() { w.ended <- w.loop.run(ctx, watchView{host: "first"}) }()
	w.draws(t, "first")
	return w
}

func (w *watchTest) draws(t *testing.T, host string) watchView {
	t.Helper()
	v := <-w.drawn
	if v.host != host {
		t.Fatalf("drawn was %q, want %q", v.host, host)
	}
	return v
}

// restsAfter goes through a look that sees this, up to the rest after it.
func (w *watchTest) restsAfter(t *testing.T, host string) {
	t.Helper()
	<-w.looks
	w.seen <- watchView{host: host}
	if d := <-w.pauses; d < watchPause {
		t.Errorf("a rest of %s, want %s at least", d, watchPause)
	}
	w.draws(t, host)
}

// idle proves that no look is under way or due: the loop takes a resize, and draws what it had.
func (w *watchTest) idle(t *testing.T, host string) {
	t.Helper()
	select {
	case w.resized <- nil:
		w.draws(t, host)
	case <-w.looks:
		t.Fatal("it looks again for no reason")
	}
}

func TestWatchLoop(t *testing.T) {
	t.Run("each event makes it look and draw", func(t *testing.T) {
		w := startWatch(t)
		w.idle(t, "first")
		for i, event := range []func(){
			func() { w.mounts <- struct{}{} },
			func() { w.files <- struct{}{} },
			func() { w.tick <- time.Time{} },
		} {
			event()
			w.restsAfter(t, fmt.Sprint(i))
			w.paused <- time.Time{}
			w.idle(t, fmt.Sprint(i))
		}
	})
	t.Run("a burst is two looks", func(t *testing.T) {
		w := startWatch(t)
		w.mounts <- struct{}{}
		<-w.looks
		for range 100 { // while it looks
			w.mounts <- struct{}{}
			w.files <- struct{}{}
		}
		w.seen <- watchView{host: "begun"}
		<-w.pauses
		w.draws(t, "begun")
		for range 100 { // while it rests
			w.mounts <- struct{}{}
		}
		w.idle(t, "begun")
		w.paused <- time.Time{}
		w.restsAfter(t, "done")
		w.paused <- time.Time{}
		w.idle(t, "done")
	})
	t.Run("a failed look leaves what is there", func(t *testing.T) {
		w := startWatch(t)
		w.mounts <- struct{}{}
		<-w.looks
		w.failed <- errors.New("no bus")
		<-w.pauses
		if v := w.draws(t, "first"); len(v.notes) != 1 || !strings.Contains(v.notes[0], "no bus") {
			t.Errorf("notes %q, want the error", v.notes)
		}
	})
	t.Run("the mount table cannot be watched any more", func(t *testing.T) {
		w := startWatch(t)
		close(w.mounts)
		w.restsAfter(t, "then")
		w.paused <- time.Time{}
		w.idle(t, "then")
		w.tick <- time.Time{}
		w.restsAfter(t, "later")
	})
	t.Run("suspended", func(t *testing.T) {
		w := startWatch(t)
		w.stopped <- nil
		<-w.suspended
		w.draws(t, "first")
		w.restsAfter(t, "fresh") // what happened meanwhile
	})
	t.Run("interrupted while it looks", func(t *testing.T) {
		w := startWatch(t)
		w.mounts <- struct{}{}
		<-w.looks
		w.interrupt()
		if err := <-w.ended; err != nil {
			t.Errorf("ended with %v, want no error", err)
		}
	})
	t.Run("the terminal is gone", func(t *testing.T) {
		w := startWatch(t)
		close(w.gone)
		w.resized <- nil
		if err := <-w.ended; !errors.Is(err, errGone) {
			t.Errorf("ended with %v, want %v", err, errGone)
		}
	})
}
