package reconcile_test

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// What somebody may still want stays, mounted or not.
func TestPruneUsed(t *testing.T) {
	for name, use := range map[string]func(w *world){
		"declared": func(w *world) { w.spec(stateDir, client("a"), client("b")) },
		"declared by its paths": func(w *world) {
			w.spec(stateDir, client("b"), strings.ReplaceAll(overlay("x", base), "@/x/", "@/state/a/deep/"))
		},
		"declared as a layer": func(w *world) { w.spec(stateDir, client("b"), overlay("x", `"@/state/a/upper", "@/base"`)) },
		"declared as a layer by a link": func(w *world) {
			if err := os.Symlink(w.path("state/a/upper"), w.path("link")); err != nil {
				w.t.Fatal(err)
			}
			w.spec(stateDir, client("b"), overlay("x", `"@/link", "@/base"`))
		},
		"declared as a layer by a bind mount": func(w *world) {
			w.mkdir("bind")
			w.mount(w.path("state/a/upper"), "", "bind", "", unix.MS_BIND)
			w.spec(stateDir, client("b"), overlay("x", `"@/bind", "@/base"`))
		},
		"declared as part of a layer": func(w *world) {
			w.d.Overlays = append(w.d.Overlays, plan.Overlay{
				Address: "overlay.x", Lower: []string{w.path("state"), w.path("base")}, Mountpoint: w.path("m/x"),
			})
		},
		"applied, not mounted": func(w *world) {
			with := w.spec(stateDir, client("b"), overlay("x", `"@/state/a/upper"`))
			with.apply("overlay.x create done")
			w.umount("m/x")
			w.spec(stateDir, client("b"))
		},
		"protected by a unit": func(w *world) {
			w.spec(stateDir, client("b"), overlay("a", base, "lifecycle { prevent_destroy = true }")).
				apply("overlay.a create done")
			w.spec(stateDir, client("b"))
		},
		"protected by the spec": func(w *world) {
			w.spec(stateDir, client("b"), overlay("a", base, "lifecycle { prevent_destroy = true }"))
		},
		"mounted without a unit": func(w *world) {
			w.spec(stateDir, client("a"), client("b")).apply("overlay.a create done")
			if err := os.Remove(unitPath("a")); err != nil {
				w.t.Fatal(err)
			}
			w.spec(stateDir, client("b"))
		},
		"upperdir of a mount by hand": func(w *world) {
			w.mkdir("x")
			w.mount("x", "overlay", "x", "lowerdir=@/base,upperdir=@/state/a/upper,workdir=@/state/a/work", 0)
		},
		"layer of a mount by hand": func(w *world) {
			w.mkdir("x")
			w.mount("x", "overlay", "x", "lowerdir=@/state/a/upper:@/base", 0)
		},
		"mounted inside": func(w *world) { w.mount("x", "tmpfs", "state/a/upper", "", 0) },
		"mounted on it":  func(w *world) { w.mount(w.path("state/a"), "", "state/a", "", unix.MS_BIND) },
		"bind mounted elsewhere": func(w *world) {
			w.mkdir("bind")
			w.mount(w.path("state/a/upper"), "", "bind", "", unix.MS_BIND)
		},
		"a file of it bind mounted elsewhere": func(w *world) {
			w.write("bind", "")
			w.mount(w.path("state/a/upper/written"), "", "bind", "", unix.MS_BIND)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := forgotten(t)
			before := w.wantUnused("state/a")
			use(w)
			w.wantUnused()
			w.stayed(before, "used meanwhile by")
			if !exists(w.path("state/a/upper")) || !exists(w.path("state/a/.overlayd")) {
				t.Error("something of it is gone")
			}
		})
	}
}

// Another mount namespace keeps a directory in use that nothing of ours uses, and an rmdir of its mountpoint would
// take a mount down there.
func TestPruneUsedElsewhere(t *testing.T) {
	for name, script := range map[string]string{
		"upperdir":    "mount -t overlay -o lowerdir=base,upperdir=$PWD/state/a/upper,workdir=$PWD/state/a/work x x",
		"layer":       "mount -t overlay -o lowerdir=$PWD/state/a/upper:$PWD/base x x",
		"layer, link": "ln -s $PWD/state/a/upper link; mount -t overlay -o lowerdir=$PWD/link:$PWD/base x x",
		"mountpoint":  "mount -t tmpfs x state/a/upper",
		"bind mount":  "mount --bind state/a/upper x",
		"layer behind a bind mount": "mount --bind state/a x; mkdir y; " +
			"mount -t overlay -o lowerdir=$PWD/x/upper:$PWD/base x y",
	} {
		t.Run(name, func(t *testing.T) {
			w := forgotten(t)
			w.mkdir("x")
			before := w.wantUnused("state/a")
			leave := w.elsewhere(script)
			w.wantUnused()
			if in := w.unused().InUse; len(in) != 1 || in[0].Path != w.path("state/a") || in[0].Address != "overlay.a" ||
				!strings.Contains(in[0].By, "in the mount namespace of process") {
				t.Errorf("in use: %+v", in)
			}
			w.stayed(before, "in the mount namespace of process")
			leave()
			w.wantUnused("state/a")
			w.pruneAll()
		})
	}
}

// elsewhere runs a script in a mount namespace of its own, which lives until the function it gives is called.
func (w *world) elsewhere(script string) (leave func()) {
	w.t.Helper()
	cmd := exec.Command("sh", "-ec", script+"\necho ready; exec cat")
	cmd.Dir = w.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	var errs strings.Builder
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	leave = func() {
		in.Close()
		_ = cmd.Wait()
		in = os.Stdin
	}
	w.t.Cleanup(func() {
		if in != os.Stdin {
			leave()
		}
	})
	line := make([]byte, 64)
	if n, _ := out.Read(line); string(line[:n]) != "ready\n" {
		w.t.Fatalf("the script failed: %s%s", line[:n], errs.String())
	}
	return leave
}

// Who detached a busy mount goes on writing to its upperdir, and no mount table shows that.
func TestPruneDetached(t *testing.T) {
	w := newWorld(t)
	w.spec(stateDir, client("a", `lifecycle { on_busy = "detach" }`)).apply("overlay.a create done")
	f, err := os.Create(w.path("m/a/open"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command("cat")
	cmd.Dir = w.path("m/a")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.destroy("a")
	w.spec(stateDir)
	w.wantUnused()
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	w.wantUnused("state/a")
}

// TestPruneElsewhereMounted: the data of an applied client that is not mounted is its data also where its filesystem is
// seen under another name just now.
func TestPruneElsewhereMounted(t *testing.T) {
	w := newWorld(t)
	w.mkdir("disk", "state")
	w.mount(w.path("disk"), "", "state", "", unix.MS_BIND)
	w.spec(stateDir, client("a")).apply("overlay.a create done")
	w.write("m/a/file", "mine")
	w.umount("m/a")
	w.umount("state")
	u, err := w.Unused(plan.Desired{}, w.path("disk"))
	if err != nil || len(u.Dirs) > 0 {
		t.Errorf("unused: %v, %v", u.Dirs, err)
	}
	w.wantFile("disk/a/upper/file", "mine")
}

// TestPruneSparesCopies: a copy of a data directory bears its mark, and is its maker's.
func TestPruneSparesCopies(t *testing.T) {
	w := newWorld(t)
	w.spec(stateDir, client("a")).apply("overlay.a create done")
	if out, err := exec.Command("cp", "-a", w.path("state/a"), w.path("state/a.bak")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.destroy("a")
	w.spec(stateDir, client("other"))
	w.wantUnused("state/a")
	if ignored := w.unused().Ignored; len(ignored) != 1 || !strings.Contains(ignored[0].Error(), "a.bak") {
		t.Errorf("ignored: %v", ignored)
	}
}
