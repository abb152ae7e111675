//go:build e2e

package machine_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/overlayd/overlayd/test/machine"
)

func open(t *testing.T) *machine.Store {
	t.Helper()
	dir, err := machine.DefaultDir()
	if err != nil {
		t.Fatal(err)
	}
	if err := machine.Missing(); err != nil && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	store, err := machine.Open(t.Context(), dir, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func TestMachine(t *testing.T) {
	store := open(t)
	for _, suite := range machine.Suites() {
		t.Run(string(suite), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			lap := lapper(t)
			if err := store.Prepare(ctx, machine.Image{Suite: suite}); err != nil {
				t.Fatal(err)
			}
			lap("tree")
			m, err := store.NewFrom(ctx, machine.Image{Suite: suite}, "somehost")
			if err != nil {
				t.Fatal(err)
			}
			lap("copy")
			state, err := m.Boot(ctx)
			if err != nil {
				t.Fatal(err)
			}
			lap("boot")
			if state != "running" {
				m.Dump(ctx, t.Output())
				t.Errorf("a fresh machine is %q", state)
			}
			run := func(script string) string {
				t.Helper()
				out, err := m.Command(ctx, "sh", "-euc", script).CombinedOutput()
				if err != nil {
					t.Fatalf("%s: %v\n%s", script, err, out)
				}
				return strings.TrimSpace(string(out))
			}
			if got := run("hostname"); got != "somehost" {
				t.Errorf("hostname = %q", got)
			}
			id := run("cat /etc/machine-id")
			if len(id) != 32 {
				t.Errorf("machine-id = %q", id)
			}
			run("mkdir -p /o/lower /o/upper /o/work /o/merged; echo base >/o/lower/file")
			run("mount -t overlay overlay -olowerdir=/o/lower,upperdir=/o/upper,workdir=/o/work /o/merged")
			run("echo client >/o/merged/file; test $(cat /o/lower/file) = base; test $(cat /o/upper/file) = client")
			// systemd sees mounts up to a second late.
			run("until systemctl is-active o-merged.mount; do sleep 0.05; done")
			run("dmesg >/dev/null; dd if=/dev/kmsg iflag=nonblock bs=8k count=1 of=/dev/null")

			if _, err := m.Reboot(ctx); err != nil {
				t.Fatal(err)
			}
			lap("reboot")
			if got := run("cat /etc/machine-id"); got != id {
				t.Errorf("machine-id changed from %s to %s at reboot", id, got)
			}
			run("test $(cat /o/upper/file) = client; ! mountpoint -q /o/merged")
			if err := m.PowerOff(ctx); err != nil {
				t.Fatal(err)
			}
			lap("power off")
			if err := m.BootBare(ctx); err != nil {
				t.Fatal(err)
			}
			run("test ! -e /run/systemd/system; mount -t tmpfs none /mnt")
			lap("bare")
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			lap("close")
			leftovers(t, filepath.Base(filepath.Dir(m.Root())))
		})
	}
}

// leftovers fails the test for whatever still bears the machine's name.
func leftovers(t *testing.T, name string) {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(table), name) {
		t.Errorf("a mount is left of machine %s", name)
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range commands {
		if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), name) {
			t.Errorf("a process is left: %q", text)
		}
	}
	dir, err := machine.DefaultDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{
		filepath.Join(dir, "machines", name), "/run/systemd/nspawn/propagate/" + name,
		"/sys/fs/cgroup/*" + name, "/sys/fs/cgroup/*/*" + name,
	} {
		if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
			t.Errorf("left of machine %s: %v %v", name, left, err)
		}
	}
}

// lapper tells how long each step took; nothing is asserted on it.
func lapper(t *testing.T) func(string) {
	last := time.Now()
	return func(step string) {
		fmt.Fprintf(t.Output(), "%-10s %v\n", step, time.Since(last).Round(time.Millisecond))
		last = time.Now()
	}
}
