package reconcile_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// alone applies as the agent does, and asks for these results: "overlay.a repair held policy".
func (w *world) alone(policy plan.Policy, hold func(plan.Change) string, want ...string) reconcile.Report {
	w.t.Helper()
	if hold == nil {
		hold = func(plan.Change) string { return "" }
	}
	r := w.run(reconcile.ApplyOptions{Unattended: &reconcile.Unattended{
		Policy: policy, Hold: hold, Stale: func() bool { return false },
	}})
	var got []string
	for _, each := range r.Results {
		line := fmt.Sprintf("%s %s %s", each.Change.Address, each.Change.Kind, each.Status)
		if held, is := errors.AsType[*reconcile.HeldError](each.Err); is {
			line += " " + string(held.By)
		}
		got = append(got, line)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		w.t.Fatalf("results:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	return r
}

func TestUnattendedPolicies(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base), overlay("b", base))
	w.alone(plan.PolicyObserve, nil, "overlay.a create held policy", "overlay.b create held policy")
	if left, _ := os.ReadDir(unitDir); len(left) > 0 {
		t.Fatalf("policy observe left %v in the unit directory", left)
	}
	w.alone(plan.PolicySafe, nil, "overlay.a create done", "overlay.b create done")
	w.write("m/a/mine", "a")

	// A replace waits under safe, and the mount and its unit stay as they are.
	text := w.unit("a")
	w.spec(overlay("a", upper), overlay("b", base, "options {\nnosuid = true\n}"))
	w.umount("m/b")
	w.alone(plan.PolicySafe, nil, "overlay.a replace held policy", "overlay.b update done")
	if w.unit("a") != text {
		t.Error("the unit of a change that waits was rewritten")
	}
	w.alone(plan.PolicyFull, nil, "overlay.a replace done")
	w.wantFile("m/a/mine", "a")
	w.wantFile("m/a/file", "more")
	w.inSync()

	// So does a delete, but not one of what is not mounted.
	w.spec(overlay("c", base))
	w.umount("m/b")
	w.alone(plan.PolicySafe, nil, "overlay.a delete held policy", "overlay.b delete done", "overlay.c create done")
	w.alone(plan.PolicyObserve, nil, "overlay.a delete held policy")
	w.alone(plan.PolicyFull, nil, "overlay.a delete done")
	w.inSync()
}

// What somebody uses is left alone, even if its block says that it may be detached: nobody is there who sees who that is.
func TestUnattendedBusy(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base, "lifecycle {\non_busy = \"detach\"\n}"), overlay("b", base))
	w.apply("overlay.a create done", "overlay.b create done")
	user := exec.Command("sleep", "infinity")
	user.Dir = w.path("m/a")
	if err := user.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = user.Process.Kill()
		_ = user.Wait()
	})
	w.spec(overlay("c", base))
	r := w.alone(plan.PolicyFull, nil, "overlay.a delete held users", "overlay.b delete done", "overlay.c create done")
	for _, each := range r.Results {
		if each.Status == reconcile.Held && !strings.Contains(each.Err.Error(), fmt.Sprint(user.Process.Pid)) {
			t.Errorf("%v does not name process %d", each.Err, user.Process.Pid)
		}
	}
	w.mounted(w.path("m/a"))
}

// A child must not go down, nor come up, without its parent.
func TestUnattendedHoldSpreads(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base), overlay("b", `overlay.a.mountpoint`))
	w.apply("overlay.a create done", "overlay.b create done")
	only := func(address string) func(plan.Change) string {
		return func(c plan.Change) string {
			if c.Address == address {
				return "not now"
			}
			return ""
		}
	}
	w.umount("m/b")
	w.umount("m/a")
	w.alone(plan.PolicyFull, only("overlay.a"), "overlay.a repair held caller", "overlay.b repair held other")
	w.alone(plan.PolicyFull, only("overlay.b"), "overlay.a repair done", "overlay.b repair held caller")
	w.alone(plan.PolicySafe, nil, "overlay.b repair done")
	w.spec(overlay("a", upper), overlay("b", `overlay.a.mountpoint`))
	w.alone(plan.PolicyFull, only("overlay.b"), "overlay.a replace held other", "overlay.b replace held caller")
	w.alone(plan.PolicyFull, nil, "overlay.a replace done", "overlay.b replace done")
}

// Nothing to do, or nothing that may be done, writes nothing.
func TestUnattendedLeavesNoTrace(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base))
	w.apply("overlay.a create done")
	stamp := func() string {
		info, err := os.Stat(unitDir)
		if err != nil {
			t.Fatal(err)
		}
		return info.ModTime().String()
	}
	before := stamp()
	w.alone(plan.PolicySafe, nil)
	w.spec(overlay("a", upper))
	w.alone(plan.PolicySafe, nil, "overlay.a replace held policy")
	w.alone(plan.PolicyFull, func(plan.Change) string { return "no" }, "overlay.a replace held caller")
	if stamp() != before {
		t.Error("the unit directory was touched")
	}
	table, err := host.ReadTable()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(table.At(w.path("m/a"))); n != 1 {
		t.Errorf("%d mounts", n)
	}
}

// A conflict keeps back nothing else, and ends by itself.
func TestUnattendedConflict(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base), overlay("b", `"@/lacking"`))
	r := w.alone(plan.PolicySafe, nil, "overlay.a create done", "overlay.b conflict skipped")
	if len(r.Results) != 2 {
		t.Fatal(r.Results)
	}
	w.mkdir("lacking")
	w.alone(plan.PolicySafe, nil, "overlay.b create done")
	w.inSync()
}

// Somebody changes the spec and applies it, before the agent has read it.
func TestUnattendedStale(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base))
	_, err := w.Apply(t.Context(), w.d, reconcile.ApplyOptions{Parallelism: 1, Unattended: &reconcile.Unattended{
		Policy: plan.PolicyFull, Hold: func(plan.Change) string { return "" }, Stale: func() bool { return true },
	}})
	if !errors.Is(err, reconcile.ErrStale) {
		t.Errorf("got %v, want that it is stale", err)
	}
	if left, _ := os.ReadDir(unitDir); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

// What was applied, and is deleted while its drift is about to be mended, stays deleted.
func TestUnattendedAppliedGone(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base))
	w.apply("overlay.a create done")
	applied, err := w.Applied()
	if err != nil {
		t.Fatal(err)
	}
	w.spec()
	w.apply("overlay.a delete done")
	w.d = applied
	w.alone(plan.PolicyFull, nil)
}

// A mount that was taken out of sight writes to its upperdir as long as somebody uses it.
func TestUnattendedLazyUnmount(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base), overlay("b", base))
	w.apply("overlay.a create done", "overlay.b create done")
	f, err := os.Create(w.path("m/a/open"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Unmount(w.path("m/a"), unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	w.alone(plan.PolicyFull, nil, "overlay.a repair held users")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	w.alone(plan.PolicySafe, nil, "overlay.a repair done")
	w.wantFile("m/a/open", "")
	w.inSync()
}
