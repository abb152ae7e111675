package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Machine is one disposable Debian. It is not safe for concurrent use, except
// that several commands may run in it at the same time.
type Machine struct {
	Suite Suite

	store   *Store
	dir     string
	host    string
	unlock  func()
	running *container
}

// container is one run of a machine, from boot to halt.
type container struct {
	leader int // PID of its first process, as seen from here
	killer int // PID of the first process of the namespace around it
	exited chan struct{}
	err    error // of the wait; set before exited is closed
}

// NewFrom copies the tree of an image to a new machine, called host in its own
// eyes. It waits for its turn when as many machines as the computer can carry are
// there already. Close it.
func (s *Store) NewFrom(ctx context.Context, image Image, host string) (*Machine, error) {
	t, err := s.tree(image)
	if err != nil {
		return nil, err
	}
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("cannot get a machine: %w", ctx.Err())
	}
	m := &Machine{Suite: image.Suite, store: s, host: host}
	err = m.reserve(ctx)
	if err == nil {
		err = s.withTree(ctx, t, func(dir string) error { return copyTree(ctx, dir, m.Root()) })
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// reserve makes the machine's folder and takes its lock.
func (m *Machine) reserve(ctx context.Context) error {
	unlock, err := lock(ctx, m.store.machines()+".lock", unix.LOCK_EX) // not to be swept away between the two
	if err != nil {
		return err
	}
	defer unlock()
	if m.dir, err = os.MkdirTemp(m.store.machines(), string(m.Suite)+"-"); err != nil {
		return fmt.Errorf("cannot make a folder for a machine: %w", err)
	}
	if err := os.Chmod(m.dir, 0o755); err != nil {
		return err
	}
	m.unlock, err = lock(ctx, filepath.Join(m.dir, "lock"), unix.LOCK_EX)
	return err
}

// name is unique among all machines of this computer.
func (m *Machine) name() string { return filepath.Base(m.dir) }

// Root is the machine's root directory, as seen from outside. What is mounted
// inside does not show there.
func (m *Machine) Root() string { return filepath.Join(m.dir, "tree") }

// Boot starts systemd and waits until it has settled. It returns what
// `systemctl is-system-running` says then: "running", or "degraded" when a unit failed.
func (m *Machine) Boot(ctx context.Context) (state string, err error) {
	if err := m.start(ctx, "--boot", "--notify-ready=yes"); err != nil {
		return "", fmt.Errorf("cannot boot: %w%s", err, m.consoleTail())
	}
	out, err := m.Command(ctx, "systemctl", "is-system-running", "--wait").Output()
	state = strings.TrimSpace(string(out))
	if state != "running" && state != "degraded" {
		return state, fmt.Errorf("cannot boot: systemd is %q (%w)%s", state, err, m.consoleTail())
	}
	return state, nil
}

// BootBare starts the machine without systemd, as an application container
// would be: process 2 waits, and nothing else runs.
func (m *Machine) BootBare(ctx context.Context) error {
	if err := m.start(ctx, "--as-pid2", "--notify-ready=no", "sleep", "infinity"); err != nil {
		return fmt.Errorf("cannot start without systemd: %w%s", err, m.consoleTail())
	}
	return nil
}

func (m *Machine) start(ctx context.Context, args ...string) error {
	if m.running != nil {
		return errors.New("it is running already")
	}
	group, err := m.store.cgroup.make(m.name())
	if err != nil {
		return err
	}
	defer group.Close()
	console, err := os.OpenFile(m.console(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer console.Close()
	ready, err := listen()
	if err != nil {
		return err
	}

	// The machine outlives ctx, which bounds only the boot.
	cmd := isolate(context.WithoutCancel(ctx), append(m.nspawn(), args...)...)
	cmd.Env = append(cmd.Env, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1",
		"SYSTEMD_NSPAWN_LOCK=0", // it would leave a file in this computer's /run; the folder has a lock of ours
		"NOTIFY_SOCKET="+ready.LocalAddr().String())
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr.UseCgroupFD = true
	cmd.SysProcAttr.CgroupFD = int(group.Fd())
	wait := start(cmd)
	c := &container{exited: make(chan struct{})}
	go func() {
		c.err = wait()
		ready.Close()
		close(c.exited)
	}()
	if cmd.Process == nil {
		<-c.exited
		return c.err
	}
	m.running = c
	if err := ready.wait(ctx, c.exited); err != nil {
		c.find(cmd.Process.Pid)
		return errors.Join(err, m.Kill())
	}
	if !c.find(cmd.Process.Pid) {
		return errors.Join(errors.New("no first process to be found"), m.Kill())
	}
	return nil
}

func (m *Machine) nspawn() []string {
	return []string{
		"systemd-nspawn", "--quiet", "--directory=" + m.Root(), "--machine=" + m.name(), "--hostname=" + m.host,
		"--register=no", "--keep-unit", // no systemd is needed out here
		"--private-network",
		"--bind-ro=/sys/module",                       // which a machine with a network of its own lacks, unlike a real one
		"--bind=/dev/kmsg", "--capability=CAP_SYSLOG", // the kernel's reasons for refusing a mount
		"--console=read-only", "--setenv=SYSTEMD_COLORS=0",
	}
}

// find looks for the processes by their place in the namespaces, for their PIDs
// are told only as seen from inside. It reports whether the machine's was found.
func (c *container) find(pid int) bool {
	for _, p := range descendants(pid) {
		if len(p.ns) < 2 || p.ns[len(p.ns)-1] != 1 {
			continue
		}
		if c.killer == 0 {
			c.killer = p.pid
			continue
		}
		c.leader = p.pid
		return true
	}
	return false
}

// Reboot reboots from inside and waits as Boot does.
func (m *Machine) Reboot(ctx context.Context) (state string, err error) {
	if err := m.halt(ctx, "reboot", 133); err != nil { // systemd-nspawn's exit code for "start me again"
		return "", err
	}
	return m.Boot(ctx)
}

// PowerOff shuts down from inside, in order.
func (m *Machine) PowerOff(ctx context.Context) error { return m.halt(ctx, "poweroff", 0) }

func (m *Machine) halt(ctx context.Context, verb string, want int) error {
	c := m.running
	if c == nil {
		return fmt.Errorf("cannot %s: the machine is not running", verb)
	}
	// The command is torn down together with the machine: its own result tells nothing.
	out, _ := m.Command(ctx, "systemctl", verb).CombinedOutput()
	select {
	case <-c.exited:
	case <-ctx.Done():
		return fmt.Errorf("cannot %s: %w\n%s%s", verb, ctx.Err(), tail(out, 5), m.consoleTail())
	}
	m.running = nil
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](c.err); ok {
		code = exit.ExitCode()
	}
	if code != want {
		return fmt.Errorf("%s ended with exit code %d, not %d%s", verb, code, want, m.consoleTail())
	}
	return nil
}

// Kill takes the power away. When it returns, no process of the machine is left.
func (m *Machine) Kill() error {
	c := m.running
	if c == nil {
		return nil
	}
	m.running = nil
	if c.killer != 0 {
		// The kernel lets go of this one only after all others in its namespace.
		if err := unix.Kill(c.killer, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("cannot kill the machine: %w", err)
		}
	}
	<-c.exited
	return nil
}

// Close kills the machine and removes all that is left of it.
func (m *Machine) Close() error {
	defer func() { <-m.store.slots }()
	if err := m.Kill(); err != nil {
		return err
	}
	if m.dir == "" {
		return nil
	}
	err := m.store.discard(m.name())
	if m.unlock != nil {
		m.unlock()
	}
	return err
}

// Dump writes what helps to understand a failure: the machine's mounts, failed
// units, journal and console.
func (m *Machine) Dump(ctx context.Context, w io.Writer) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if m.running != nil {
		for _, argv := range [][]string{
			{"grep", " overlay ", "/proc/self/mountinfo"},
			{"systemctl", "--failed", "--no-pager", "--plain"},
			{"systemctl", "list-jobs", "--no-pager"},
			// Without the kernel's lines, which tell of all machines and tests of this computer.
			{"sh", "-c", "journalctl --no-pager --boot --lines=400 --output=short-monotonic | grep -v ' kernel: ' | tail -n 100"},
			{"sh", "-c", "journalctl --no-pager --dmesg --lines=10 --output=short-monotonic"},
		} {
			out, err := m.Command(ctx, argv...).CombinedOutput()
			fmt.Fprintf(w, "--- %s (%v)\n%s", strings.Join(argv, " "), err, out)
		}
	}
	fmt.Fprintf(w, "--- console%s\n", m.consoleTail())
}

func (m *Machine) console() string { return filepath.Join(m.dir, "console.log") }

func (m *Machine) consoleTail() string {
	text, err := os.ReadFile(m.console())
	if err != nil || len(text) == 0 {
		return "\n(nothing on the console)"
	}
	return "\n" + strings.ReplaceAll(tail(text, 40), "\r", "")
}
