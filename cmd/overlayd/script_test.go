package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/test/apart"
)

// TestScripts runs the scripts that need no mounts: what the spec alone decides, and trees prepared with --root.
func TestScripts(t *testing.T) {
	apart.NeedRoot(t)
	testscript.Run(t, params("testdata/script/*.txtar", t))
}

// TestLive runs the scripts that mount for real, one after the other, as they share the unit directory and /run.
func TestLive(t *testing.T) {
	apart.NeedRoot(t)
	p := params("testdata/live/*.txtar", t)
	setup := p.Setup
	p.Setup = func(env *testscript.Env) error {
		err := setup(env)
		env.Defer(func() { tidy(t) }) // before the directory is removed
		return err
	}
	for _, file := range p.Files {
		one := p
		one.Files = []string{file}
		t.Run("", func(t *testing.T) { testscript.Run(t, one) })
	}
}

func params(pattern string, t *testing.T) testscript.Params {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts match %s (%v)", pattern, err)
	}
	return testscript.Params{
		Files:              files,
		WorkdirRoot:        scratch,
		RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "here": here, "same": same, "tree": tree,
		},
		Setup: func(env *testscript.Env) error {
			env.Defer(func() {
				if err := os.RemoveAll(env.WorkDir); err != nil {
					t.Error(err)
				}
			})
			record(env)
			env.Setenv("NO_COLOR", "")
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else the race detector makes each run take a second
			return nil
		},
	}
}

// exits runs a command and asks for its exit code: "exits 2 overlayd drift --detailed-exitcode".
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	code := "0"
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		code = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if code != args[0] {
		ts.Fatalf("%s: exit code %s, want %s", strings.Join(args[1:], " "), code, args[0])
	}
}

// here puts $WORK for every @ in files.
func here(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: here FILE...")
	}
	for _, file := range args {
		text := strings.ReplaceAll(ts.ReadFile(file), "@", ts.Getenv("WORK"))
		ts.Check(os.WriteFile(ts.MkAbs(file), []byte(text), 0o644))
	}
}

var duration = regexp.MustCompile(`"duration_ms": \d+`)

// same compares a stream or file with what a file of the script says, in which $WORK is expanded. How long things took
// is left out.
func same(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: same stdout|stderr|FILE WANT")
	}
	got := duration.ReplaceAllString(ts.ReadFile(args[0]), `"duration_ms": 0`)
	want := strings.ReplaceAll(ts.ReadFile(args[1]), "$WORK", ts.Getenv("WORK"))
	if got != want {
		ts.Fatalf("%s is not as %s says:\n%s\n--- want\n%s", args[0], args[1], got, want)
	}
}

// tree prints what is below a directory, with modes and owners.
func tree(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: tree DIR")
	}
	top := ts.MkAbs(args[0])
	var lines []string
	ts.Check(filepath.WalkDir(top, func(at string, _ os.DirEntry, err error) error {
		if err != nil || at == top {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(at, &st); err != nil {
			return err
		}
		rel, err := filepath.Rel(top, at)
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%06o %d:%d %s", st.Mode, st.Uid, st.Gid, rel)
		if to, err := os.Readlink(at); err == nil {
			line += " -> " + to
		}
		lines = append(lines, line)
		return nil
	}))
	_, err := fmt.Fprintln(ts.Stdout(), strings.Join(lines, "\n"))
	ts.Check(err)
}

// tidy takes away what a script left on the host, which is the tests' own.
func tidy(t *testing.T) {
	table, err := host.ReadTable()
	if err != nil {
		t.Error(err)
		return
	}
	for _, m := range slices.Backward(table.Below(scratch)) {
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			t.Errorf("cannot clean up %s: %v", m.Mountpoint, err)
		}
	}
	left, err := filepath.Glob("/etc/systemd/system/*")
	if err != nil {
		t.Error(err)
	}
	for _, file := range append(left, "/run/overlayd") {
		if err := os.RemoveAll(file); err != nil {
			t.Error(err)
		}
	}
}
