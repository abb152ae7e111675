//go:build e2e

package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/overlayd/overlayd/test/machine"
)

// bound keeps anything that waits from waiting for ever. It is generous: a slow
// computer must not fail a test.
const bound = 5 * time.Minute

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(suite.ctx, bound)
	t.Cleanup(cancel)
	return ctx
}

// host is one of a fleet.
type host struct {
	*machine.Machine
	name string
}

// fleet boots hosts, named h1, h2 and so on, all at once, and cleans them away after the test.
func fleet(t *testing.T, releases ...machine.Suite) []*host {
	t.Helper()
	started := time.Now()
	hosts := make([]*host, len(releases))
	errs := make([]error, len(releases))
	t.Cleanup(func() {
		for _, h := range hosts {
			if h == nil {
				continue
			}
			if t.Failed() {
				fmt.Fprintf(t.Output(), "=== %s\n", h.name)
				h.Dump(context.Background(), t.Output())
			}
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		}
		verdict := "ok  "
		if t.Failed() {
			verdict = "FAIL"
		}
		machine.Say("%s %-60s %6.1fs", verdict, t.Name(), time.Since(started).Seconds())
	})
	ctx := bounded(t)
	var all sync.WaitGroup
	for i, release := range releases {
		all.Go(func() {
			// A store of its own each: one store has as many machines at a time as there are processors.
			store, err := machine.Open(ctx, suite.dir, machine.Say)
			if err != nil {
				errs[i] = err
				return
			}
			name := fmt.Sprintf("h%d", i+1)
			m, err := store.NewFrom(ctx, image(release), name)
			if err != nil {
				errs[i] = err
				return
			}
			hosts[i] = &host{m, name}
			_, errs[i] = m.Boot(ctx)
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return hosts
}

// sh runs a shell script on the host, which has to succeed, and returns what it prints on stdout.
func (h *host) sh(t *testing.T, script string) string {
	t.Helper()
	var stderr strings.Builder
	cmd := h.Command(bounded(t), "sh", "-euc", script)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %s: %v\n%s%s", h.name, script, err, out, &stderr)
	}
	return string(out)
}

// put writes a file on the host, as root's.
func (h *host) put(t *testing.T, path, text string) {
	t.Helper()
	if err := h.WriteFile(bounded(t), path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// mounts are the host's overlays: the ID of each mount, which a mount keeps for life, by mountpoint.
func (h *host) mounts(t *testing.T) map[string]string {
	t.Helper()
	table := map[string]string{}
	for line := range strings.Lines(h.sh(t, "cat /proc/self/mountinfo")) {
		before, after, _ := strings.Cut(line, " - ")
		if fields := strings.Fields(before); strings.HasPrefix(after, "overlay ") {
			if _, twice := table[fields[4]]; twice {
				t.Fatalf("%s: two overlays are mounted at %s", h.name, fields[4])
			}
			table[fields[4]] = fields[0]
		}
	}
	return table
}

// wantMounts asks for overlays at exactly these mountpoints.
func (h *host) wantMounts(t *testing.T, mountpoints ...string) {
	t.Helper()
	want := map[string]bool{}
	for _, m := range mountpoints {
		want[m] = true
	}
	got := map[string]bool{}
	for m := range h.mounts(t) {
		got[m] = true
	}
	if !maps.Equal(got, want) {
		t.Errorf("%s: overlays are mounted at %v, not %v", h.name, got, want)
	}
}

// touched asks for exactly these mountpoints to differ between two results of mounts: mounted, gone or mounted anew.
func touched(t *testing.T, before, after map[string]string, mountpoints ...string) {
	t.Helper()
	want, got := map[string]bool{}, map[string]bool{}
	for _, m := range mountpoints {
		want[m] = true
	}
	for m, id := range before {
		if after[m] != id {
			got[m] = true
		}
	}
	for m := range after {
		if _, ok := before[m]; !ok {
			got[m] = true
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("mounts that changed: %v, not %v", got, want)
	}
}
