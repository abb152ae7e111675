package probe_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/test/apart"
	"github.com/overlayd/overlayd/test/bench/probe"
)

// keepArg makes the test binary the bare loop.
const keepArg = "keep"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == keepArg {
		if err := probe.Keep(context.Background(), os.Stdin, os.Stdout); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		return
	}
	os.Exit(apart.Run(nil, m.Run))
}

// overlay makes and mounts one.
func overlay(t *testing.T) probe.Overlay {
	t.Helper()
	dir := apart.Dir(t)
	for _, name := range []string{"lower", "upper", "work", "m"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	o := probe.Overlay{
		Mountpoint: filepath.Join(dir, "m"),
		Options:    "lowerdir=" + dir + "/lower,upperdir=" + dir + "/upper,workdir=" + dir + "/work,index=off",
	}
	if err := unix.Mount("overlayd", o.Mountpoint, "overlay", 0, o.Options); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestTheBareLoopBringsMountsBack(t *testing.T) {
	apart.NeedRoot(t)
	o := overlay(t)
	for range 3 {
		took, err := probe.RoundByLoop(t.Context(), o, []string{"/proc/self/exe", keepArg})
		if err != nil {
			t.Fatal(err)
		}
		if took <= 0 {
			t.Errorf("it took %v", took)
		}
	}
	if err := unix.Unmount(o.Mountpoint, 0); err != nil {
		t.Errorf("not mounted in the end: %v", err)
	}
	if err := unix.Unmount(o.Mountpoint, 0); !errors.Is(err, unix.EINVAL) {
		t.Errorf("mounted more than once: %v", err)
	}
}

func TestRoundErrors(t *testing.T) {
	apart.NeedRoot(t)
	o := overlay(t)
	_, err := probe.RoundByNobody(t.Context(), o)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), o.Mountpoint+" was missing: not back") {
		t.Errorf("a mount that does not come back: %v", err)
	}
	_, err = probe.RoundByNobody(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "nothing is mounted there") {
		t.Errorf("a mount that is not there: %v", err)
	}
	_, err = probe.RoundByLoop(t.Context(), o, []string{"/nonexistent"})
	if err == nil || !strings.Contains(err.Error(), "cannot start the bare loop") {
		t.Errorf("a loop that is not there: %v", err)
	}
	_, err = probe.Rounds{By: "magic"}.Run(t.Context(), []probe.Overlay{o})
	if err == nil || !strings.Contains(err.Error(), `"magic"`) {
		t.Errorf("brought back by magic: %v", err)
	}
	if _, err = (probe.Rounds{By: probe.ByAgent}).Run(t.Context(), nil); err == nil {
		t.Error("no overlay is no error")
	}
}

func TestKeepErrors(t *testing.T) {
	var out strings.Builder
	if err := probe.Keep(t.Context(), strings.NewReader(""), &out); err != nil {
		t.Errorf("no orders: %v", err)
	}
	if err := probe.Keep(t.Context(), strings.NewReader("/m\n"), &out); err == nil {
		t.Error("an order without options is no error")
	}
	if err := probe.Keep(t.Context(), strings.NewReader("/nonexistent/m\toptions\n"), &out); err == nil {
		t.Error("a place that is not there is no error")
	}
	if out.Len() > 0 {
		t.Errorf("it said %q", out.String())
	}
}

func TestDropWaitsForTheMount(t *testing.T) {
	apart.NeedRoot(t)
	dir := apart.Dir(t)
	specs := filepath.Join(dir, "specs")
	f := probe.File{Path: filepath.Join(specs, "a.hcl"), Text: "text\n", Mountpoint: filepath.Join(dir, "m")}
	if err := os.Mkdir(specs, 0o755); err != nil {
		t.Fatal(err)
	}
	mounted := make(chan error, 1)
	go func() {
		for {
			if text, err := os.ReadFile(f.Path); err == nil {
				if string(text) != f.Text {
					mounted <- errors.New("half a file: " + string(text))
					return
				}
				mounted <- errors.Join(os.Mkdir(f.Mountpoint, 0o755), unix.Mount("none", f.Mountpoint, "tmpfs", 0, ""))
				return
			}
		}
	}()
	took, err := probe.DropOne(t.Context(), f)
	if err := errors.Join(err, <-mounted); err != nil {
		t.Fatal(err)
	}
	if took <= 0 {
		t.Errorf("it took %v", took)
	}
}

func TestStormTellsWhatItTook(t *testing.T) {
	apart.NeedRoot(t)
	overlays := []probe.Overlay{overlay(t), overlay(t)}
	d, err := probe.Storm(t.Context(), overlays, 20*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	left := 0
	for _, o := range overlays {
		if unix.Unmount(o.Mountpoint, 0) == nil {
			left++
		}
	}
	if d.Taken+left != len(overlays) || d.Tried < d.Taken || d.Tried == 0 || d.Seconds <= 0 {
		t.Errorf("%+v, and %d of %d are left", d, left, len(overlays))
	}
	if _, err := probe.Storm(t.Context(), nil, 0); err == nil {
		t.Error("no overlay is no error")
	}
}

func TestMounted(t *testing.T) {
	apart.NeedRoot(t)
	overlay(t)
	if err := probe.Mounted(t.Context(), 1, time.Hour); err != nil {
		t.Error(err)
	}
	err := probe.Mounted(t.Context(), 2, 0)
	if err == nil || !strings.Contains(err.Error(), "there are 1") {
		t.Errorf("a mount that does not come: %v", err)
	}
}

func TestTicks(t *testing.T) {
	const after = " S 1 1 1 0 -1 4194560 100 0 0 0 37 5 0 0 20 0 1 0 10 0 0"
	for stat, want := range map[string]int{
		"1 (systemd)" + after:                          42,
		"2 (a b) S 9 9 (c) d)" + after:                 42,
		"3 (short) S 1":                                -1,
		"4 (odd) S 1 1 1 0 -1 4194560 100 0 0 0 x 5 0": -1,
		"": -1,
	} {
		got, err := probe.Ticks(stat)
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q: %d, %v", stat, got, err)
		}
	}
}

func TestNumber(t *testing.T) {
	const status = "Name:\tVmRSS\nVmHWM:\t  123 kB\nVmRSS:\t  45 kB\nOdd:\tx\n"
	for key, want := range map[string]int64{"VmRSS": 45, "VmHWM": 123, "Odd": -1, "Threads": -1} {
		got, err := probe.Number([]byte(status), key)
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%s: %d, %v", key, got, err)
		}
	}
}

func TestProcess(t *testing.T) {
	p, err := probe.ReadProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if p.Resident <= 0 || p.Peak < p.Resident || p.Switches <= 0 || p.Ticks < 0 {
		t.Errorf("%+v", p)
	}
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := probe.ReadProcess(gone.Process.Pid); err == nil {
		t.Error("a process that has ended is no error")
	}
	if err := probe.Rest(t.Context(), gone.Process.Pid); err == nil {
		t.Error("a process that has ended rests without an error")
	}
}

func TestRest(t *testing.T) {
	sleeper := exec.Command("sleep", "infinity")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer sleeper.Wait()
	defer sleeper.Process.Kill()
	if err := probe.Rest(t.Context(), sleeper.Process.Pid); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := probe.Rest(ctx, sleeper.Process.Pid); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestOverlays(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"m-b.mount": "[Unit]\n[Mount]\nWhat=overlayd\nWhere=/m/b\nOptions=lowerdir=/l,upperdir=/u,nofail\n[X-Overlayd]\nVersion=1\n",
		"m-a.mount": "[Mount]\nWhere=/m/a\nOptions=nofail,lowerdir=/l:/k,index=off\n[X-Overlayd]\n",
		"tmp.mount": "[Mount]\nWhere=/tmp\nOptions=mode=1777\n",
		"a.service": "[X-Overlayd]\nWhere=/no\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := probe.Overlays(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []probe.Overlay{
		{Mountpoint: "/m/a", Unit: "m-a.mount", Options: "lowerdir=/l:/k,index=off"},
		{Mountpoint: "/m/b", Unit: "m-b.mount", Options: "lowerdir=/l,upperdir=/u"},
	}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("%+v, want %+v", got, want)
	}
}
