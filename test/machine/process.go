package machine

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// isolate builds a command that runs argv in mount and process namespaces of
// its own, so that neither a mount nor a process of it outlives it, whoever is
// killed in which order: this program's end kills unshare, unshare's end kills
// the first process of the namespace, and the kernel kills the others with it.
// (systemd-nspawn alone does not do: when it is killed, the container goes on.)
func isolate(ctx context.Context, argv ...string) *exec.Cmd {
	args := []string{
		"--fork", "--pid", "--mount-proc", "--mount", "--propagation=private", "--kill-child=SIGKILL",
		// A shell as process 1, for it reaps orphans; not exec'd away thanks to the exit.
		"sh", "-c", `"$@"; exit $?`, "sh",
	}
	cmd := exec.CommandContext(ctx, "unshare", append(args, argv...)...)
	cmd.Env = plainEnv()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true, // Ctrl-C on the terminal is for this program, which then cleans up
		Pdeathsig: syscall.SIGKILL,
	}
	cmd.WaitDelay = waitDelay
	return cmd
}

// waitDelay bounds how long a finished command's output pipe may be held open by others.
const waitDelay = 5 * time.Second

// isolated runs argv by isolate and returns what it printed.
func isolated(ctx context.Context, argv ...string) ([]byte, error) {
	cmd := isolate(ctx, argv...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := start(cmd)()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return out.Bytes(), err
}

// start starts a command with a parent-death signal and returns the function
// that waits for it. The signal comes when the starting thread ends, so that
// thread is kept until the command is done.
func start(cmd *exec.Cmd) (wait func() error) {
	started, done := make(chan struct{}), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		close(started)
		if err == nil {
			err = cmd.Wait()
		}
		done <- err
	}()
	<-started
	return func() error { return <-done }
}

// plainEnv is the environment of a root login without anybody's settings.
func plainEnv() []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "USER=root", "SHELL=/bin/sh", "LANG=C.UTF-8", "TERM=dumb",
	}
}

// process is what /proc tells about one process.
type process struct {
	pid, parent int
	ns          []int // its PID in each namespace, outermost first
}

// descendants lists the processes below pid, parents before children.
func descendants(pid int) []process {
	files, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		return nil
	}
	children := make(map[int][]process)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // gone meanwhile
		}
		p := parseStatus(string(text))
		children[p.parent] = append(children[p.parent], p)
	}
	var all []process
	queue := []int{pid}
	for len(queue) > 0 {
		next := children[queue[0]]
		queue = queue[1:]
		all = append(all, next...)
		for _, p := range next {
			queue = append(queue, p.pid)
		}
	}
	return all
}

func parseStatus(text string) process {
	var p process
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		if len(fields) == 0 {
			continue
		}
		first, _ := strconv.Atoi(fields[0])
		switch key {
		case "Pid":
			p.pid = first
		case "PPid":
			p.parent = first
		case "NSpid":
			for _, field := range fields {
				id, _ := strconv.Atoi(field)
				p.ns = append(p.ns, id)
			}
		}
	}
	return p
}

// tail is the last n lines of a text.
func tail(text []byte, n int) string {
	lines := strings.SplitAfter(strings.TrimRight(string(text), "\n"), "\n")
	if cut := len(lines) - n; cut > 0 {
		return fmt.Sprintf("(%d lines before)\n%s", cut, strings.Join(lines[cut:], ""))
	}
	return strings.Join(lines, "")
}
