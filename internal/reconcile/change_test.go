package reconcile_test

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/reconcile"
)

func TestMove(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base)).apply("overlay.a create done")
	w.write("m/a/data", "of the client")
	w.spec(strings.Replace(overlay("a", base), "@/m/a", "@/m/b", 1))
	p := w.wantPlan("overlay.a replace")
	want := "mountpoint changed: " + w.path("m/a") + " → " + w.path("m/b")
	if got := reasons(t, p, "overlay.a"); !strings.Contains(got, want) {
		t.Errorf("reasons: %s", got)
	}
	w.apply("overlay.a replace done")
	w.wantFile("m/b/data", "of the client")
	if len(w.stack(w.path("m/a"))) > 0 || exists(unitPath("a")) || exists(w.path("m/a")) {
		t.Error("something stays at the old place")
	}
	// the new mountpoint is overlayd's own, and goes with the overlay
	w.spec().apply("overlay.a delete done")
	if exists(w.path("m/b")) {
		t.Error("the mountpoint stays")
	}
}

func TestSwap(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base), overlay("b", base)).apply("overlay.a create done", "overlay.b create done")
	w.write("m/a/data", "a")
	w.write("m/b/data", "b")
	swap := strings.NewReplacer("@/m/a", "@/m/b", "@/m/b", "@/m/a")
	w.spec(swap.Replace(overlay("a", base)), swap.Replace(overlay("b", base)))
	w.apply("overlay.a replace done", "overlay.b replace done")
	w.wantFile("m/b/data", "a")
	w.wantFile("m/a/data", "b")
	w.spec(overlay("a", base), overlay("b", base))
	w.apply("overlay.a replace done", "overlay.b replace done")
	w.wantFile("m/a/data", "a")
	w.wantFile("m/b/data", "b")
}

func TestStacked(t *testing.T) {
	w := newWorld(t)
	child := overlay("child", `overlay.parent.mountpoint`)
	w.spec(child, overlay("parent", base)).apply("overlay.parent create done", "overlay.child create done")
	w.write("m/child/data", "of the child")
	w.wantFile("m/child/file", "base")

	unmounted := w.watch("m/child")
	w.spec(child, overlay("parent", upper)).apply("overlay.parent replace done", "overlay.child replace done")
	if !unmounted() {
		t.Error("the child stayed on the layer of before")
	}
	w.wantFile("m/child/file", "more")
	w.wantFile("m/child/data", "of the child")

	// the parent taken away by hand: the child has it still, but a new child would not
	if err := unix.Unmount(w.path("m/parent"), 0); err != nil {
		t.Fatal(err)
	}
	w.run(reconcile.ApplyOptions{})
	w.inSync()
	w.wantFile("m/child/file", "more")

	// the parent cannot go alone, both together can
	w.spec(strings.Replace(child, "overlay.parent.mountpoint", `"@/m/parent"`, 1)).wantPlan("overlay.parent conflict")
	w.spec().apply("overlay.child delete done", "overlay.parent delete done")
}

func TestBusy(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base), overlay("b", base)).apply("overlay.a create done", "overlay.b create done")
	unit := w.unit("a")
	release := w.hold("m/a")
	w.spec(overlay("a", upper), overlay("b", upper))
	r := w.run(reconcile.ApplyOptions{})
	w.wantResults(r, "overlay.a replace failed", "overlay.b replace done")
	err := failure(t, r, "overlay.a")
	if want := fmt.Sprintf("%d (", release.Process.Pid); !strings.Contains(err.Error(), want) {
		t.Errorf("the error does not name process %s...): %v", want, err)
	}
	if w.unit("a") != unit {
		t.Error("the unit was rewritten, and does not say any more what is mounted")
	}
	w.wantFile("m/a/file", "base")
	w.wantFile("m/b/file", "more")

	// neither goes one that is to be deleted, but for on_busy = "detach"
	w.spec(overlay("b", upper))
	w.wantResults(w.run(reconcile.ApplyOptions{}), "overlay.a delete failed")
	if w.unit("a") != unit || len(w.stack(w.path("m/a"))) != 1 {
		t.Error("the unit or the mount is gone")
	}
	w.spec(overlay("a", base, "lifecycle {\non_busy = \"detach\"\n}"), overlay("b", upper)).
		apply("overlay.a update done")
	w.spec(overlay("b", upper)).apply("overlay.a delete done")

	// detached it is out of sight, but its upperdir has a writer as long as the process lives
	w.spec(overlay("a", base), overlay("b", upper))
	if r = w.run(reconcile.ApplyOptions{}); r.OK() || len(w.stack(w.path("m/a"))) > 0 {
		t.Error("an upperdir is live twice")
	}
	if err := failure(t, r, "overlay.a"); !strings.Contains(err.Error(), strconv.Itoa(release.Process.Pid)) {
		t.Errorf("the error does not name the process: %v", err)
	}
	w.stop(release)
	w.run(reconcile.ApplyOptions{})
	w.inSync()
}

func TestMountBelow(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base)).apply("overlay.a create done")
	w.mkdir("m/a/below")
	w.mount("tmpfs", "tmpfs", "m/a/below", "", 0)
	w.spec(overlay("a", upper))
	r := w.run(reconcile.ApplyOptions{})
	w.wantResults(r, "overlay.a replace failed")
	if err := failure(t, r, "overlay.a"); !strings.Contains(err.Error(), w.path("m/a/below")) {
		t.Errorf("the error does not name the mount below: %v", err)
	}
	w.wantFile("m/a/file", "base")
	w.umount("m/a/below")
	w.apply("overlay.a replace done")
}

func (w *world) hold(rel string) *exec.Cmd {
	w.t.Helper()
	cmd := exec.Command("sleep", "infinity")
	cmd.Dir = w.path(rel)
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

func (w *world) stop(cmd *exec.Cmd) {
	w.t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		w.t.Fatal(err)
	}
	_ = cmd.Wait() // killed, as it should be
}

func TestLinkSwitched(t *testing.T) {
	w := newWorld(t)
	link(w, "base", "current")
	w.spec(overlay("a", `"@/current"`)).apply("overlay.a create done")
	if !strings.Contains(w.unit("a"), "lowerdir="+w.path("base")+",") {
		t.Errorf("the link is not resolved:\n%s", w.unit("a"))
	}
	if err := os.Remove(w.path("current")); err != nil {
		t.Fatal(err)
	}
	link(w, "more", "current")
	p := w.wantPlan("overlay.a replace")
	if got := reasons(t, p, "overlay.a"); !strings.Contains(got, w.path("current")) {
		t.Errorf("the reason does not name the link: %s", got)
	}
	w.apply("overlay.a replace done")
	w.wantFile("m/a/file", "more")
}

func TestFlagsTakenOver(t *testing.T) {
	w := newWorld(t)
	w.mkdir("hard")
	w.mount("tmpfs", "tmpfs", "hard", "", unix.MS_NOSUID|unix.MS_NODEV)
	w.mkdir("hard/base")
	w.spec(overlay("a", `"@/hard/base"`), overlay("b", `"@/hard/base"`, "options {\nnosuid = false\n}"),
		overlay("c", "overlay.a.mountpoint")).
		apply("overlay.a create done", "overlay.b create done", "overlay.c create done")
	for name, want := range map[string]string{"a": "nodev nosuid", "b": "nodev", "c": "nodev nosuid"} {
		var got []string
		for _, f := range []string{"nodev", "noexec", "nosuid"} {
			if has(w.mounted(w.path("m/"+name)).Flags, f) {
				got = append(got, f)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: flags %q, want %q", name, got, want)
		}
	}
}

var nasty = []string{
	"a,b", "a:b", "a b", "a  b", `a\b`, `a\,b`, `a\:b`, "a%b", "a%nb", "a'b", "$=#;@*()~!{}-", ".hidden", "é",
	"日本語", "a%%i", "-dash", "a=b", `x2d\x2d`, "lowerdir=x,upperdir=y",
}

func TestNastyNames(t *testing.T) {
	w := newWorld(t)
	var blocks, want []string
	for i, name := range nasty {
		w.mkdir("base " + name)
		w.write("base "+name+"/file", name)
		q := strings.NewReplacer("@", "\\u0040", `\`, `\\`, `"`, `\"`, "${", "$${", "%{", "%%{").Replace(name)
		blocks = append(blocks, fmt.Sprintf("overlay \"n%d\" {\nlowerdirs = [\"@/base %s\", \"@/base\"]\n"+
			"upperdir = \"@/up %s\"\nworkdir = \"@/work %s\"\nmountpoint = \"@/m/%s\"\nunit {\ndescription = \"%s\"\n}\n}\n",
			i, q, q, q, q, q))
		want = append(want, fmt.Sprintf("overlay.n%d create done", i))
	}
	// a quote no layer can have, but a mountpoint
	blocks = append(blocks, strings.Replace(overlay("quote", base), "@/m/quote", `@/m/a\"b`, 1))
	want = append(want, "overlay.quote create done")
	w.spec(blocks...)
	w.apply(want...)
	for _, name := range nasty {
		w.wantFile("m/"+name+"/file", name)
		w.write("m/"+name+"/data", name)
		w.wantFile("up "+name+"/data", name)
		w.umount("m/" + name)
	}
	w.umount(`m/a"b`)
	for i := range want {
		want[i] = strings.Replace(want[i], "create", "repair", 1)
	}
	w.apply(want...)
	r := w.spec().run(reconcile.ApplyOptions{})
	if !r.OK() || len(r.Kept) != len(want) {
		t.Errorf("ok %t, kept %d of %d", r.OK(), len(r.Kept), len(want))
	}
}
