package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/agent/metrics"
	"github.com/overlayd/overlayd/test/apart"
)

// watch is a clock that goes on by a step each time somebody looks who has worked, and as far as is waited for at once.
type watch struct {
	time   time.Time
	step   time.Duration
	rested time.Duration
	pauses int
	woken  bool
	rests  func(time.Duration) // is called before each wait; may be nil
}

func (w *watch) now() time.Time {
	if !w.woken {
		w.time = w.time.Add(w.step)
	}
	w.woken = false
	return w.time
}

func (w *watch) after(d time.Duration) <-chan time.Time {
	w.woken = true
	w.pauses++
	w.rested += d
	w.time = w.time.Add(d)
	if w.rests != nil {
		w.rests(d)
	}
	c := make(chan time.Time, 1)
	c <- w.time
	return c
}

// upperdirs makes clients whose upperdirs have so many directories and a file in each.
func upperdirs(t *testing.T, sizes ...int) []metrics.Client {
	t.Helper()
	top := apart.Dir(t)
	var out []metrics.Client
	for i, size := range sizes {
		c := client(i)
		c.Upper = filepath.Join(top, fmt.Sprint(i))
		for j := range size {
			d := filepath.Join(c.Upper, fmt.Sprint(j))
			err := errors.Join(os.MkdirAll(d, 0o755), os.WriteFile(filepath.Join(d, "f"), make([]byte, 5000), 0o644))
			if err != nil {
				t.Fatal(err)
			}
		}
		out = append(out, c)
	}
	return out
}

// Of all the time, a twentieth at most is worked, with small upperdirs as with large ones.
func TestMeasureRests(t *testing.T) {
	for name, sizes := range map[string][]int{
		"large":      {300},
		"many small": slices.Repeat([]int{1}, 200),
	} {
		for _, step := range []time.Duration{50 * time.Microsecond, 3 * time.Millisecond} {
			t.Run(fmt.Sprint(name, " ", step), func(t *testing.T) {
				m := metrics.New("1", noon, known)
				m.SetClients(upperdirs(t, sizes...))
				ctx, stop := context.WithCancel(t.Context())
				w := &watch{time: noon, step: step}
				var worked, rested time.Duration
				w.rests = func(d time.Duration) {
					if d > metrics.Again/2 { // all were measured
						rested = w.rested - d
						worked = w.time.Sub(noon) - w.rested
						stop()
					}
				}
				m.MeasureBy(ctx, w.now, w.after, func(c metrics.Client, err error) { t.Error(c.Address, err) })
				if w.pauses < 5 {
					t.Errorf("only %d pauses: this tested nothing", w.pauses)
				}
				if unpaid := metrics.Stint + 5*step; rested < 19*(worked-unpaid) {
					t.Errorf("worked %v, rested %v", worked, rested)
				}
			})
		}
	}
}

// Each client has its turn, new ones first, and none twice within the interval.
func TestMeasureTurns(t *testing.T) {
	nowhere := clients(4)
	m := metrics.New("1", noon, known)
	m.SetClients(nowhere[1:])
	ctx, stop := context.WithCancel(t.Context())
	w := &watch{time: noon, step: time.Second}
	var turns []int
	last := map[string]time.Time{}
	failed := func(c metrics.Client, err error) {
		if before, again := last[c.Address]; !errors.Is(err, fs.ErrNotExist) || again && w.time.Sub(before) < metrics.Again {
			t.Errorf("%s after %v: %v", c.Address, w.time.Sub(before), err)
		}
		last[c.Address] = w.time
		turns = append(turns, slices.Index(nowhere, c))
		switch len(turns) {
		case 2:
			m.SetClients(nowhere) // a new one
		case 9:
			stop()
		}
	}
	m.MeasureBy(ctx, w.now, w.after, failed)
	if want := []int{1, 2, 0, 3, 1, 2, 0, 3, 1}; !slices.Equal(turns, want) {
		t.Errorf("turns %v, want %v", turns, want)
	}
}

// An upperdir that cannot be measured any more has no numbers, and is no matter for the others.
func TestMeasureFails(t *testing.T) {
	all := upperdirs(t, 1, 2)
	m := metrics.New("1", noon, known)
	m.SetClients(all)
	ctx, stop := context.WithCancel(t.Context())
	w := &watch{time: noon, step: time.Nanosecond}
	inodes := func() series { return parse(t, write(t, m)).of("overlayd_client_upper_inodes") }
	first := inodes()
	w.rests = func(time.Duration) {
		if len(first) > 0 {
			stop()
			return
		}
		first = inodes()
		if err := os.RemoveAll(all[0].Upper); err != nil {
			t.Fatal(err)
		}
	}
	failures := 0
	m.MeasureBy(ctx, w.now, w.after, func(metrics.Client, error) { failures++ })
	of := func(i int) string { return keyOf("overlayd_client_upper_inodes", all[i]) }
	if want := (series{of(0): 3, of(1): 5}); !maps.Equal(first, want) {
		t.Errorf("at first %v, want %v", first, want)
	}
	if want, got := (series{of(1): 5}), inodes(); failures != 1 || !maps.Equal(got, want) {
		t.Errorf("then %v after %d failures, want %v", got, failures, want)
	}
}

// A client that goes while it is read is not read to its end: its filesystem would be in use for nothing.
func TestMeasureGone(t *testing.T) {
	all := upperdirs(t, 1000, 1)
	m := metrics.New("1", noon, known)
	m.SetClients(all)
	ctx, stop := context.WithCancel(t.Context())
	w := &watch{time: noon, step: time.Millisecond}
	w.rests = func(d time.Duration) {
		if w.pauses == 3 {
			m.SetClients(all[1:])
		}
		if d > metrics.Again/2 {
			stop()
		}
	}
	m.MeasureBy(ctx, w.now, w.after, func(_ metrics.Client, err error) { t.Error(err) })
	if w.pauses > 20 {
		t.Errorf("%d pauses: it went on", w.pauses)
	}
	if n := len(parse(t, write(t, m)).of(upperBytes)); n != 1 {
		t.Errorf("%d were measured", n)
	}
}

func TestMeasureEndsInPause(t *testing.T) {
	m := metrics.New("1", noon, known)
	m.SetClients(upperdirs(t, 1000))
	ctx, stop := context.WithCancel(t.Context())
	w := &watch{time: noon, step: time.Millisecond}
	never := make(chan time.Time)
	m.MeasureBy(ctx, w.now, func(time.Duration) <-chan time.Time { stop(); return never },
		func(_ metrics.Client, err error) { t.Error(err) })
	if got := write(t, m); len(parse(t, got).of(upperBytes)) != 0 {
		t.Errorf("half a client is in\n%s", got)
	}
}

// It measures on a thread that yields to all others, and waits for clients as long as there are none.
func TestMeasure(t *testing.T) {
	m := metrics.New("1", noon, known)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	last := make(chan string, 1)
	go func() {
		defer close(ended)
		m.Measure(ctx, func(c metrics.Client, _ error) {
			nice, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
			const whoProcess = 1
			class, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, whoProcess, 0, 0)
			last <- fmt.Sprint(c.Address, " nice ", 20-nice, " class ", class>>13, " ", err, " ", errno == 0)
		})
	}()
	all := upperdirs(t, 3, 2)
	m.SetClients(append(all, metrics.Client{Address: "z", Upper: "/nowhere"}))
	if got, want := <-last, "z nice 19 class 3 <nil> true"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if n := len(parse(t, write(t, m)).of(upperBytes)); n != 2 {
		t.Errorf("%d were measured", n)
	}
	stop()
	<-ended
}

// A read that does not end is not waited for.
func TestMeasureHangs(t *testing.T) {
	m := metrics.New("1", noon, known)
	m.SetClients([]metrics.Client{{Address: "a", Upper: "/nowhere"}})
	ctx, stop := context.WithCancel(t.Context())
	hang := make(chan struct{})
	defer close(hang)
	m.Measure(ctx, func(metrics.Client, error) { stop(); <-hang })
}
