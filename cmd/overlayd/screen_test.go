package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/test/apart"
)

// terminal is the other side of a pseudo-terminal, see pty(7).
type terminal struct {
	t      *testing.T
	master *os.File
	slave  *os.File
	seen   string
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	x := &terminal{t: t, master: os.NewFile(uintptr(fd), "/dev/ptmx")}
	t.Cleanup(func() { x.master.Close() })
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	x.slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.slave.Close() })
	x.resize(80, 24)
	return x
}

func (x *terminal) resize(width, height uint16) {
	x.t.Helper()
	// The kernel sends SIGWINCH.
	size := &unix.Winsize{Col: width, Row: height}
	if err := unix.IoctlSetWinsize(int(x.slave.Fd()), unix.TIOCSWINSZ, size); err != nil {
		x.t.Fatal(err)
	}
}

func (x *terminal) press(keys string) {
	x.t.Helper()
	if _, err := x.master.WriteString(keys); err != nil {
		x.t.Fatal(err)
	}
}

func (x *terminal) echoes() bool {
	x.t.Helper()
	settings, err := unix.IoctlGetTermios(int(x.slave.Fd()), unix.TCGETS)
	if err != nil {
		x.t.Fatal(err)
	}
	return settings.Lflag&unix.ECHO != 0 && settings.Lflag&unix.ICANON != 0
}

// until reads what is written to the terminal until all texts are in it, and forgets it up to the end of the last.
func (x *terminal) until(texts ...string) {
	x.t.Helper()
	if err := x.master.SetReadDeadline(time.Now().Add(time.Minute)); err != nil { // so that a failure ends
		x.t.Fatal(err)
	}
	buffer := make([]byte, 1<<16)
	for {
		end := -1
		for _, text := range texts {
			at := strings.Index(x.seen, text)
			if at < 0 {
				end = -1
				break
			}
			end = max(end, at+len(text))
		}
		if end >= 0 {
			x.seen = x.seen[end:]
			return
		}
		n, err := x.master.Read(buffer)
		if err != nil {
			x.t.Fatalf("the terminal does not show %q: %v\n%q", texts, err, x.seen)
		}
		x.seen += string(buffer[:n])
	}
}

// starts runs overlayd as a shell does: on the terminal, in the foreground, with a directory of its own.
func (x *terminal) starts(dir string, args ...string) *exec.Cmd {
	x.t.Helper()
	self, err := os.Executable()
	if err != nil {
		x.t.Fatal(err)
	}
	program := filepath.Join(dir, "overlayd")
	if err := os.Symlink(self, program); err != nil {
		x.t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TERM=xterm", "NO_COLOR=1", "GORACE=atexit_sleep_ms=0")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = x.slave, x.slave, x.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		x.t.Fatal(err)
	}
	return cmd
}

func TestPicture(t *testing.T) {
	for want, lines := range map[string][]string{
		"\x1b[H":          nil,
		"\x1b[H\x1b[Jone": {"one"},
		"\x1b[H\x1b[Kone\r\n\x1b[K\r\n\x1b[Jthree": {"one", "", "three"}, // no line break at the end: it would scroll
	} {
		if got := picture(lines); got != want {
			t.Errorf("%q becomes %q, want %q", lines, got, want)
		}
	}
}

func TestWatchOnATerminal(t *testing.T) {
	apart.NeedRoot(t)
	const spec = `
overlay "%s" {
  lowerdirs  = ["/srv/base"]
  mountpoint = "/srv/%[1]s"
}
`
	declare := func(dir string, names ...string) {
		t.Helper()
		var text strings.Builder
		for _, n := range names {
			fmt.Fprintf(&text, spec, n)
		}
		if err := os.WriteFile(filepath.Join(dir, "spec.hcl"), []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, end := range map[string]func(*terminal, *exec.Cmd){
		"Ctrl-C":  func(x *terminal, _ *exec.Cmd) { x.press("\x03") },
		"SIGTERM": func(_ *terminal, cmd *exec.Cmd) { _ = cmd.Process.Signal(syscall.SIGTERM) },
	} {
		t.Run(name, func(t *testing.T) {
			dir, x := apart.Dir(t), newTerminal(t)
			declare(dir, "first")
			cmd := x.starts(dir, "status", "--watch", "spec.hcl")
			x.until(enterScreen, "0 of 1 overlay mounted", "overlay.first", "Agent: not running.")
			if x.echoes() {
				t.Error("what is typed would be shown")
			}
			declare(dir, "first", "second")
			x.until("0 of 2 overlays mounted", "overlay.second")
			if err := os.WriteFile(filepath.Join(dir, "spec.hcl"), []byte("overlya {}\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			x.until("The spec is left out, as it has 1 error", "spec.hcl:1: Unknown block")
			declare(dir, "third")
			x.until("overlay.third", "Agent: not running.")
			x.resize(30, 10)
			x.until("Agent: not running.")
			x.press("typed\n\x1a") // Ctrl-Z
			x.until(leaveScreen)
			var status unix.WaitStatus
			if _, err := unix.Wait4(cmd.Process.Pid, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
				t.Fatalf("Ctrl-Z: status %v, %v; want that it is stopped", status, err)
			}
			if !x.echoes() {
				t.Error("the terminal was not given back on Ctrl-Z")
			}
			if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			x.until(enterScreen, "overlay.third")
			end(x, cmd)
			x.until(leaveScreen)
			if err := cmd.Wait(); err != nil {
				t.Errorf("it ended with %v, want exit code 0", err)
			}
			if !x.echoes() {
				t.Error("the terminal was not given back at the end")
			}
		})
	}
}
