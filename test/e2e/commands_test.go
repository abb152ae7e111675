//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

type command = func(ts *testscript.TestScript, neg bool, args []string)

// commands are described in the package comment.
var commands = map[string]command{
	"boot":       cmdBoot,
	"bare":       cmdBare,
	"reboot":     cmdReboot,
	"powercut":   cmdPowercut,
	"state":      cmdState,
	"put":        cmdPut,
	"package":    cmdPackage,
	"overlayd":   cmdOverlayd,
	"exit":       cmdExit,
	"host":       cmdHost,
	"hostsh":     cmdHostsh,
	"await":      cmdAwait,
	"says":       cmdSays,
	"settle":     cmdSettle,
	"json":       cmdJSON,
	"mounttable": cmdMounttable,
	"mounts":     cmdMounts,
	"agent":      cmdAgent,
	"reconciled": cmdReconciled,
	"logged":     cmdLogged,
}

func usage(ts *testscript.TestScript, ok bool, text string) {
	if !ok {
		ts.Fatalf("usage: %s", text)
	}
}

func start(ts *testscript.TestScript, args []string) *world {
	w := ts.Value(worldKey{}).(*world)
	if w.machine != nil {
		ts.Fatalf("the machine is there already")
	}
	fresh := newMachine
	if len(args) == 1 {
		fresh = cleanMachine
	}
	m, err := fresh(suite.ctx, w.release)
	ts.Check(err)
	w.machine, w.started = m, time.Now()
	return w
}

func maybeClean(args []string) bool { return len(args) == 0 || len(args) == 1 && args[0] == "clean" }

func cmdBoot(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && maybeClean(args), "boot [clean]")
	w := start(ts, args)
	up(ts, w, w.machine.Boot)
}

func up(ts *testscript.TestScript, w *world, boot func(context.Context) (string, error)) {
	ctx, cancel := context.WithTimeout(suite.ctx, bound)
	defer cancel()
	state, err := boot(ctx)
	ts.Check(err)
	w.state = state
}

func cmdBare(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && maybeClean(args), "bare [clean]")
	w := start(ts, args)
	up(ts, w, func(ctx context.Context) (string, error) { return "", w.machine.BootBare(ctx) })
}

func cmdReboot(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 0, "reboot")
	w := use(ts)
	up(ts, w, w.machine.Reboot)
}

func cmdPowercut(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 0, "powercut")
	w := use(ts)
	ts.Check(w.machine.Kill())
	up(ts, w, w.machine.Boot)
}

func cmdState(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "state WANT")
	if w := use(ts); w.state != args[0] {
		ts.Fatalf("after the boot systemd was %q, not %q", w.state, args[0])
	}
}

func cmdPut(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "put FILE PATH")
	w := use(ts)
	ctx, cancel := context.WithTimeout(suite.ctx, bound)
	defer cancel()
	ts.Check(w.machine.WriteFile(ctx, args[1], []byte(ts.ReadFile(args[0])), 0o644))
}

func cmdPackage(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "package PATH")
	ts.Check(use(ts).machine.Install(suite.deb, args[0], 0o644))
}

// inHost runs a command in the machine; its output goes where stdout and
// stderr find it. A command that
// a signal ended fails the script.
func inHost(ts *testscript.TestScript, stdin string, argv ...string) int {
	w := use(ts)
	ctx, cancel := context.WithTimeout(suite.ctx, bound)
	defer cancel()
	cmd := w.machine.Command(ctx, argv...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.MultiWriter(ts.Stdout(), &out), io.MultiWriter(ts.Stderr(), &stderr)
	err := cmd.Run()
	if ctx.Err() != nil {
		ts.Fatalf("%s: still running after %v, or interrupted", strings.Join(argv, " "), bound)
	}
	code := exitCode(ts, err)
	checkJSON(ts, argv, stdin, code, out.Bytes(), stderr.Bytes())
	return code
}

// scriptShell runs a script that it reads from stdin.
var scriptShell = []string{"sh", "-eus"}

func exitCode(ts *testscript.TestScript, err error) int {
	if err == nil {
		return 0
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() < 0 {
		ts.Fatalf("%v", err)
	}
	return exit.ExitCode()
}

func cmdOverlayd(ts *testscript.TestScript, neg bool, args []string) {
	want := 0
	if neg {
		want = 1 // the contract's one code for failure; a panic has another
	}
	if code := inHost(ts, "", append([]string{"overlayd"}, args...)...); code != want {
		ts.Fatalf("overlayd ended with exit code %d, not %d", code, want)
	}
}

func cmdExit(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) >= 2, "exit N COMMAND...")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if code := inHost(ts, "", args[1:]...); code != want {
		ts.Fatalf("%s ended with exit code %d, not %d", args[1], code, want)
	}
}

func cmdHost(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) > 0, "[!] host COMMAND...")
	verdict(ts, neg, inHost(ts, "", args...))
}

func cmdHostsh(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 1, "[!] hostsh SCRIPT")
	verdict(ts, neg, inHost(ts, shell(ts, args[0]), scriptShell...))
}

// shell is the script itself, or the content of the file of that name.
func shell(ts *testscript.TestScript, arg string) string {
	if _, err := os.Stat(ts.MkAbs(arg)); err == nil {
		return ts.ReadFile(arg)
	}
	return arg
}

func verdict(ts *testscript.TestScript, neg bool, code int) {
	if (code != 0) != neg {
		ts.Fatalf("unexpected exit code %d", code)
	}
}

// cmdSettle waits for systemd: apply starts the target without waiting for it, and
// what is unmounted by hand meanwhile, systemd mounts again.
func cmdSettle(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 0, "settle")
	await(ts, `test -z "$(systemctl list-jobs --no-legend)"`)
}

func cmdAwait(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "await SCRIPT")
	await(ts, args[0])
}

func await(ts *testscript.TestScript, script string) {
	w := use(ts)
	ctx, cancel := context.WithTimeout(suite.ctx, bound)
	defer cancel()
	var last []byte
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		out, err := w.machine.Command(ctx, "sh", "-euc", script).CombinedOutput()
		if err == nil {
			return
		}
		if ctx.Err() == nil {
			last = out
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			ts.Fatalf("did not come true within %v: %s\nlast output: %s", bound, script, last)
		}
	}
}

func cmdSays(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 1, "[!] says REGEXP")
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	if text := ts.ReadFile("stdout") + ts.ReadFile("stderr"); re.MatchString(text) == neg {
		ts.Fatalf("neither stdout nor stderr is as it should be: %v, negated %v", re, neg)
	}
}

func cmdJSON(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 1 || len(args) == 2, "[!] json PATH [VALUE|~REGEXP]")
	err := lookJSON([]byte(ts.ReadFile("stdout")), args[0], args[1:]...)
	switch {
	case errors.Is(err, errNotJSON):
		ts.Fatalf("%v", err)
	case err != nil && !neg:
		ts.Fatalf("%v", err)
	case err == nil && neg:
		ts.Fatalf("%s is as it should not be", strings.Join(args, " "))
	}
}

// overlayLines are the overlay lines of the machine's mount table, in mount order.
func overlayLines(ts *testscript.TestScript) []string {
	w := use(ts)
	ctx, cancel := context.WithTimeout(suite.ctx, bound)
	defer cancel()
	out, err := w.machine.Command(ctx, "cat", "/proc/self/mountinfo").Output()
	ts.Check(err)
	return overlays(out)
}

// overlays picks the overlays of a mount table.
func overlays(table []byte) []string {
	var lines []string
	for line := range bytes.Lines(table) {
		if bytes.Contains(line, []byte(" - overlay ")) {
			lines = append(lines, strings.TrimSuffix(string(line), "\n"))
		}
	}
	return lines
}

// uuidOption is shown at the first mount of an upperdir only, on kernels from 6.6.
var uuidOption = regexp.MustCompile(`,uuid=(on|null)\b`)

func cmdMounttable(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "mounttable FILE")
	var rows []string
	for _, line := range overlayLines(ts) {
		// Mount ID, parent, device and propagation differ from boot to boot.
		before, after, _ := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		rows = append(rows, strings.Join(fields[3:6], " ")+" - "+uuidOption.ReplaceAllString(after, ""))
	}
	slices.Sort(rows)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Join(rows, "\n")+"\n"), 0o644))
}

func cmdMounts(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && (len(args) == 1 || len(args) == 2), "mounts N [PATH]")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	n := 0
	lines := overlayLines(ts)
	for _, line := range lines {
		if len(args) == 1 || strings.Fields(line)[4] == args[1] {
			n++
		}
	}
	if n != want {
		ts.Fatalf("%d overlays are mounted, not %d:\n%s", n, want, strings.Join(lines, "\n"))
	}
}
