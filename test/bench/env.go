package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/overlayd/overlayd/test/bench/probe"
	"github.com/overlayd/overlayd/test/bench/report"
	"github.com/overlayd/overlayd/test/machine"
)

// env is what a scenario works with: a machine, and ways to act on it and to look into it.
type env struct {
	sizes
	suite machine.Suite
	name  string // of the scenario

	out    io.Writer // for progress
	store  *machine.Store
	deb    string
	m      *machine.Machine
	system string
}

// measure makes one measurement on a machine of its own.
func (e *env) measure(ctx context.Context, s scenario) (tables []report.Table, err error) {
	e.say("booting")
	image := machine.Image{Suite: e.suite, Packages: s.packages, Debs: []string{e.deb}}
	if e.m, err = e.store.NewFrom(ctx, image, "bench"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.m.Close()) }()
	if err := e.install(); err != nil {
		return nil, err
	}
	if _, err := e.m.Boot(ctx); err != nil {
		return nil, err
	}
	tables, err = e.run(ctx, s)
	if err != nil && ctx.Err() == nil {
		e.explain(ctx)
	}
	return tables, err
}

func (e *env) run(ctx context.Context, s scenario) (tables []report.Table, err error) {
	e.system, err = e.sh(ctx, `. /etc/os-release; set -- $(systemctl --version); echo "Debian $VERSION_ID, systemd $2"`)
	if err != nil {
		return nil, err
	}
	if _, err := e.sh(ctx, "mkdir -p /etc/overlayd "+base+"/lower "+base+"/m"); err != nil {
		return nil, err
	}
	tables, err = s.run(ctx, e)
	for i := range tables {
		if tables[i].Name == "" {
			tables[i].Name = s.name
		}
		tables[i].System = e.system
	}
	return tables, err
}

func (e *env) install() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return e.m.Install(self, probePath, 0o755)
}

// explain shows what the agent has said, for the reader of an error. (The machine's own Dump has a line per mount.)
func (e *env) explain(ctx context.Context) {
	cmd := e.m.Command(ctx, "sh", "-c", "systemctl --no-pager --lines=20 status overlayd; overlayd status | tail -n 5")
	cmd.Stdout, cmd.Stderr = e.out, e.out
	if err := cmd.Run(); err != nil {
		e.say("cannot show what the agent did: %v", err)
	}
}

// say tells what is being done.
func (e *env) say(format string, args ...any) {
	fmt.Fprintf(e.out, "# %s, %s: %s\n", e.suite, e.name, fmt.Sprintf(format, args...))
}

const base = probe.Base

// declare makes the spec have n overlays.
func (e *env) declare(ctx context.Context, n int) error {
	return e.m.WriteFile(ctx, "/etc/overlayd/bench.hcl", probe.Spec(n), 0o644)
}

// overlays brings n overlays up, by the agent, which runs then, and waits until it and systemd are at rest.
func (e *env) overlays(ctx context.Context, n int) error {
	e.say("%s overlays", report.Number(float64(n)))
	if err := e.declare(ctx, n); err != nil {
		return err
	}
	if _, err := e.sh(ctx, "systemctl start overlayd"); err != nil {
		return err
	}
	return e.settle(ctx, n)
}

// settle waits until n overlays are mounted and the agent, if there is one, and systemd are at rest.
func (e *env) settle(ctx context.Context, n int) error {
	agent, err := e.agent(ctx)
	if err != nil {
		return err
	}
	pids := []int{1}
	if agent != 0 {
		pids = append(pids, agent)
	}
	return e.ask(ctx, request{Settle: &settle{Mounts: n, PIDs: pids}}, nil)
}

// agent is the PID of the agent, 0 if it does not run.
func (e *env) agent(ctx context.Context) (int, error) {
	text, err := e.sh(ctx, "systemctl show --property=MainPID --value overlayd")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

// process reads what a process uses.
func (e *env) process(ctx context.Context, pid int, resetPeak bool) (p probe.Process, err error) {
	err = e.ask(ctx, request{Process: &process{pid, resetPeak}}, &p)
	return p, err
}

// ask has the probe do something in the machine.
func (e *env) ask(ctx context.Context, r request, answer any) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	out, err := output(e.m.Command(ctx, probePath, inside, string(text)))
	if err != nil || answer == nil {
		return err
	}
	if err := json.Unmarshal(out, answer); err != nil {
		return fmt.Errorf("cannot understand the answer %q: %w", out, err)
	}
	return nil
}

// sh runs a script in the machine and returns what it prints, without the newline at the end.
func (e *env) sh(ctx context.Context, script string) (string, error) {
	out, err := output(e.m.Command(ctx, "sh", "-euc", script))
	if err != nil {
		return "", fmt.Errorf("cannot run %q: %w", script, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// output runs a command; the error has what it complained of.
func output(cmd *exec.Cmd) ([]byte, error) {
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		if text := strings.TrimSpace(complaint.String()); text != "" {
			return out, fmt.Errorf("%w: %s", err, text)
		}
	}
	return out, err
}

func versionOf(ctx context.Context, deb string) (string, error) {
	out, err := output(exec.CommandContext(ctx, "dpkg-deb", "--field", deb, "Version"))
	if err != nil {
		return "", fmt.Errorf("cannot read the version of %s: %w", deb, err)
	}
	return strings.TrimSpace(string(out)), nil
}
