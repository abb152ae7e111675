package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivo/uniseg"

	"github.com/overlayd/overlayd/internal/hostlock"
	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/test/apart"
)

// onScreen is what a terminal shows of a text, line by line, and the column of its cursor.
func onScreen(text string) (lines []string, column int) {
	var line []rune
	for text != "" {
		switch rest, erase := strings.CutPrefix(text, "\x1b[K"); {
		case erase:
			line, text = line[:column], rest
			continue
		case text[0] == '\r':
			column = 0
		case text[0] == '\n':
			lines, line, column = append(lines, string(line)), nil, 0
		default:
			r := []rune(text)[0]
			line, column = append(line[:column], r), column+1
			text = text[len(string(r)):]
			continue
		}
		text = text[1:]
	}
	return append(lines, string(line)), column
}

func TestProgressLine(t *testing.T) {
	mounting := reconcile.Progress{
		Phase: reconcile.Mounting, Done: 1234, Total: 2000, Address: `overlay.client["client_1234"]`,
	}
	reloading := reconcile.Progress{Phase: reconcile.Reloading, Total: 2000}
	odd := reconcile.Progress{Phase: reconcile.Mounting, Done: 1, Total: 3, Address: "overlay.a[\"日本語\x1b[2J\"]"}
	for _, c := range []struct {
		now     reconcile.Progress
		columns int
		want    string
	}{
		{mounting, 80, `  61% |██████    |  1,234 of 2,000  Mounting overlay.client["client_1234"]`},
		{mounting, 200, `  61% |███████████████          |  1,234 of 2,000  Mounting overlay.client["client_1234"]`},
		{mounting, 60, `  61% |████   |  1,234 of 2,000  Mounting overlay.client…`},
		{mounting, 40, `1,234 of 2,000  Mounting overlay.cli…`},
		{mounting, 3, ``},
		{reloading, 80, `   0% |          |  0 of 2,000  Waiting for systemd to reload`},
		{reloading, 40, `0 of 2,000  Waiting for systemd to r…`},
		{reconcile.Progress{}, 80, `Preparing`},
		{odd, 80, `  25% |██        |  1 of 3  Mounting overlay.a["日本語�[2J"]`},
	} {
		t.Run(fmt.Sprintf("%s at %d", c.now.Phase, c.columns), func(t *testing.T) {
			var out bytes.Buffer
			p := &progress{w: &out, columns: func() int { return c.columns }}
			p.tell(int64(c.now.Done), int64(c.now.Total), func() string { return progressText(c.now) })
			p.draw()
			lines, _ := onScreen(out.String())
			if got := strings.TrimRight(lines[0], " "); len(lines) != 1 || got != c.want {
				t.Errorf("it shows %q, want %q", lines, c.want)
			}
			if n := uniseg.StringWidth(lines[0]); n > max(c.columns-len("^C"), 0) {
				t.Errorf("%d columns leave no room for a ^C", n)
			}
		})
	}
}

// The line shows up when it takes long, not before, makes way for the log, and is gone in the end.
func TestProgress(t *testing.T) { synctest.Test(t, testProgress) }

func testProgress(t *testing.T) {
	var out bytes.Buffer
	columns, drawn := 40, 0
	p := &progress{w: &out, columns: func() int { drawn++; return columns }}
	ctx, cancel := context.WithCancel(t.Context())
	ticks := make(chan time.Time)
	go p.run(ctx, ticks)
	tick := func(n int) {
		for range n {
			ticks <- time.Time{}
		}
		synctest.Wait()
	}
	say := func(done, total int64, text string) { p.tell(done, total, func() string { return text }) }
	log := func(text string) {
		t.Helper()
		if n, err := p.Write([]byte(text)); n != len(text) || err != nil {
			t.Errorf("%d bytes of %d are logged, %v", n, len(text), err)
		}
	}
	shows := func(want ...string) {
		t.Helper()
		lines, _ := onScreen(out.String())
		for i := range lines {
			lines[i] = strings.TrimSpace(lines[i])
		}
		if !slices.Equal(lines, want) {
			t.Errorf("the terminal shows %q, want %q", lines, want)
		}
	}

	say(1, 10, "one")
	log("first\n")
	tick(int(patience/redraw) - 1)
	if drawn > 0 {
		t.Error("it is drawn at once")
	}
	shows("first", "")
	tick(1)
	shows("first", "one")
	say(2, 10, "two")
	log("second\nthird\n")
	shows("first", "second", "third", "one")
	tick(1)
	shows("first", "second", "third", "two")
	before := out.Len()
	tick(1)
	if out.Len() != before {
		t.Errorf("it is written again although it says the same: %q", out.String()[before:])
	}
	columns = 100
	say(11, 10, "more than all") // the whole can be an estimate
	tick(1)
	shows("first", "second", "third", "91% |██████████  |  more than all")
	cancel()
	synctest.Wait()
	log("last\n")
	shows("first", "second", "third", "last", "")
	if _, column := onScreen(out.String()); column != 0 {
		t.Errorf("the cursor is left in column %d", column)
	}

	var none *progress // no terminal
	none.tell(1, 2, nil)
	none.end()
}

func TestProgressOnATerminal(t *testing.T) {
	apart.NeedRoot(t)
	for name, c := range map[string]struct {
		act  func(*terminal, *hostlock.Lock)
		ends string
		code int
	}{
		"in the end": {
			act: func(_ *terminal, l *hostlock.Lock) { l.Release() },
			ends: eraseLine + "No systemd runs here, so nothing was reloaded; the units are enabled for its next start.\r\n" +
				"Apply: 1 created.\r\n",
		},
		"Ctrl-C": {
			act:  func(x *terminal, _ *hostlock.Lock) { x.press("\x03") },
			ends: eraseLine + "Error: interrupted", code: exitError,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Cleanup(func() { tidy(t) })
			dir, x := filepath.Join(scratch, "progress"), newTerminal(t)
			if err := os.MkdirAll(filepath.Join(dir, "base"), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			spec := fmt.Sprintf("overlay \"a\" {\n  lowerdirs  = [%[1]q]\n  mountpoint = %[2]q\n}\n", dir+"/base", dir+"/a")
			if err := os.WriteFile(filepath.Join(dir, "spec.hcl"), []byte(spec), 0o644); err != nil {
				t.Fatal(err)
			}
			lock, err := hostlock.Take(t.Context(), "/run/overlayd/lock", 0)
			if err != nil {
				t.Fatal(err)
			}
			defer lock.Release()
			cmd := x.starts(dir, "apply", "--auto-approve", "spec.hcl")
			x.until("Plan: 1 to create", eraseLine+"Preparing")
			c.act(x, lock)
			x.until(c.ends)
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
		})
	}
}
