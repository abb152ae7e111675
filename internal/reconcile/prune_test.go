package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/safedir"
)

const stateDir = "settings { state_dir = \"@/state\" }\n"

// client gives the block of an overlay whose data lies in the state directory.
func client(name string, lines ...string) string {
	return fmt.Sprintf("overlay %q {\nlowerdirs = [%s]\nmountpoint = \"@/m/%s\"\n%s\n}\n", name, base, name,
		strings.Join(lines, "\n"))
}

// destroy takes an overlay down; its data stays.
func (w *world) destroy(name string) {
	w.t.Helper()
	d, found, err := w.Doomed(w.path("m/" + name))
	if err != nil || !found {
		w.t.Fatal(found, err)
	}
	r, err := w.Apply(w.t.Context(), d, reconcile.ApplyOptions{Parallelism: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	w.wantResults(r, "overlay."+name+" delete done")
}

func (w *world) unused() reconcile.Unused {
	w.t.Helper()
	u, err := w.Unused(w.d, w.path("state"))
	if err != nil {
		w.t.Fatal(err)
	}
	return u
}

// wantUnused asks for these directories: "state/a", "state/a (kept)", "state/a (leftover)".
func (w *world) wantUnused(want ...string) []reconcile.DataDir {
	w.t.Helper()
	u := w.unused()
	var got []string
	for _, dir := range u.Dirs {
		name, _ := strings.CutPrefix(dir.Path, w.dir+"/")
		if dir.Kept {
			name += " (kept)"
		}
		if dir.Leftover {
			name += " (leftover)"
		}
		got = append(got, name)
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("unused: %q, want %q", got, want)
	}
	return u.Dirs
}

func (w *world) prune(dirs []reconcile.DataDir) []reconcile.Pruned {
	w.t.Helper()
	out, err := w.Prune(w.t.Context(), w.d, []string{w.path("state")}, dirs, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(out) != len(dirs) {
		w.t.Fatalf("%d results for %d directories", len(out), len(dirs))
	}
	return out
}

// pruneAll prunes what is unused and not kept, and asks that it is gone.
func (w *world) pruneAll() {
	w.t.Helper()
	dirs := slices.DeleteFunc(w.unused().Dirs, func(d reconcile.DataDir) bool { return d.Kept })
	for _, r := range w.prune(dirs) {
		if r.Err != nil {
			w.t.Error(r.Err)
		}
		if exists(r.Real) {
			w.t.Errorf("%s is still there", r.Real)
		}
	}
}

// stayed asks that a prune of one directory that was found before leaves it as it is, for a reason.
func (w *world) stayed(dirs []reconcile.DataDir, reason string) {
	w.t.Helper()
	for _, r := range w.prune(dirs) {
		if r.Err == nil || !strings.Contains(r.Err.Error(), reason) {
			w.t.Errorf("error %v, want one about %q", r.Err, reason)
		}
	}
}

// forgotten is a world with the data of the destroyed client "a" in state/a, and of the live client "b" in state/b.
func forgotten(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.spec(stateDir, client("a"), client("b")).apply("overlay.a create done", "overlay.b create done")
	w.write("m/a/written", "a")
	w.write("m/b/written", "b")
	w.destroy("a")
	w.spec(stateDir, client("b"))
	return w
}

func TestPrune(t *testing.T) {
	w := forgotten(t)
	w.mkdir("state/theirs/upper")
	w.write("state/file", "")
	dirs := w.wantUnused("state/a")
	if d := dirs[0]; d.Address != "overlay.a" || d.Mountpoint != w.path("m/a") || d.Real != d.Path {
		t.Errorf("got %+v", d)
	}
	w.pruneAll()
	w.wantUnused()
	w.wantFile("state/b/upper/written", "b")
	if exists(w.path("state/a")) || !exists(w.path("state/theirs/upper")) || !exists(w.path("state/file")) {
		t.Error("it deleted too much or too little")
	}
	entries, err := os.ReadDir(w.path("state"))
	if err != nil || len(entries) != 3 {
		t.Errorf("left in the state directory: %v, %v", entries, err)
	}
	w.inSync()
}

// The state directory of what is applied counts even where no spec names it.
func TestPruneWithoutSpec(t *testing.T) {
	w := forgotten(t)
	u, err := w.Unused(plan.Desired{})
	if err != nil {
		t.Fatal(err)
	}
	if len(u.Dirs) != 1 || u.Dirs[0].Path != w.path("state/a") {
		t.Errorf("got %+v", u.Dirs)
	}
	if u, err := w.Unused(plan.Desired{}, w.path("nowhere")); err != nil || len(u.Dirs) != 1 {
		t.Errorf("got %+v, %v", u, err)
	}
}

// What others could have planted is not overlayd's.
func TestPrunePlanted(t *testing.T) {
	mark := func(w *world, dir string) {
		w.t.Helper()
		w.mkdir(dir)
		if err := safedir.WriteMarker(w.path(dir), safedir.Marker{Address: "overlay.x", Mountpoint: "/x"}); err != nil {
			w.t.Fatal(err)
		}
	}
	chown := func(w *world, p string) {
		w.t.Helper()
		if err := os.Chown(w.path(p), 65534, 65534); err != nil {
			w.t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		plant func(w *world)
		why   string // "" where it does not even look like one
	}{
		"no mark":         {func(w *world) { w.mkdir("state/p/upper") }, ""},
		"mark of another": {func(w *world) { mark(w, "state/p"); chown(w, "state/p/.overlayd") }, "belongs to nobody"},
		"damaged mark":    {func(w *world) { mark(w, "state/p"); w.write("state/p/.overlayd", "{") }, "damaged"},
		"mark is a link": {func(w *world) {
			mark(w, "real")
			w.mkdir("state/p")
			if err := os.Symlink(w.path("real/.overlayd"), w.path("state/p/.overlayd")); err != nil {
				w.t.Fatal(err)
			}
		}, "symlink"},
		"link in its place": {func(w *world) {
			mark(w, "real")
			if err := os.Symlink(w.path("real"), w.path("state/p")); err != nil {
				w.t.Fatal(err)
			}
		}, ""},
		"directory of another": {func(w *world) { mark(w, "state/p"); chown(w, "state/p") }, "belongs to uid 65534"},
		"writable by others": {func(w *world) {
			mark(w, "state/p")
			if err := os.Chmod(w.path("state/p"), 0o777); err != nil {
				w.t.Fatal(err)
			}
		}, "others than root"},
		"name of a leftover": {func(w *world) { mark(w, "state/.overlayd-prune-1") }, ""},
		"hidden":             {func(w *world) { mark(w, "state/.p") }, ""},
		"state directory is a link": {func(w *world) {
			mark(w, "real/p")
			if err := errors.Join(os.RemoveAll(w.path("state")), os.Symlink(w.path("real"), w.path("state"))); err != nil {
				w.t.Fatal(err)
			}
		}, "state is a symlink"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.mkdir("state")
			test.plant(w)
			u := w.unused()
			if len(u.Dirs) > 0 {
				t.Errorf("it takes %s for overlayd's", u.Dirs[0].Path)
			}
			if test.why == "" && len(u.Ignored) > 0 ||
				test.why != "" && (len(u.Ignored) != 1 || !strings.Contains(u.Ignored[0].Error(), test.why)) {
				t.Errorf("ignored %v, want %q", u.Ignored, test.why)
			}
		})
	}
}

// What is swapped between looking and deleting stays.
func TestPruneSwapped(t *testing.T) {
	w := forgotten(t)
	before := w.wantUnused("state/a")
	if err := os.Rename(w.path("state/a"), w.path("state/was-a")); err != nil {
		t.Fatal(err)
	}
	w.stayed(before, "no longer the directory")
	w.mkdir("state/a/upper")
	w.stayed(before, "no longer the directory")
	if err := safedir.WriteMarker(w.path("state/a"), safedir.Marker{Address: "overlay.a"}); err != nil {
		t.Fatal(err)
	}
	w.stayed(before, "no longer the directory")
	w.wantFile("state/was-a/upper/written", "a")
	w.wantUnused("state/a", "state/was-a")
}

// A unit of ours that cannot be read may need anything.
func TestPruneUnitUnreadable(t *testing.T) {
	w := forgotten(t)
	before := w.wantUnused("state/a")
	text := strings.Replace(w.unit("b"), "Version=1", "Version=99", 1)
	if err := os.WriteFile(unitPath("b"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Unused(w.d, w.path("state")); err == nil || !strings.Contains(err.Error(), unitPath("b")) {
		t.Errorf("error %v", err)
	}
	_, err := w.Prune(t.Context(), w.d, nil, before, 0)
	if err == nil || !strings.Contains(err.Error(), "nothing was deleted") {
		t.Errorf("error %v", err)
	}
	w.wantFile("state/a/upper/written", "a")
}

// What "reset --keep" set aside goes only with the directory it was asked for.
func TestPruneSetAside(t *testing.T) {
	const date = "20261123T131500Z"
	w := forgotten(t)
	w.mkdir("state/b/upper.reset-"+date, "state/b/work.reset-"+date, "state/b/upper.trash-"+date,
		"state/b/upper.reset-tomorrow", "x")
	w.write("state/b/upper.reset-"+date+".3", "a file")
	dirs := w.wantUnused("state/a", "state/b/upper.reset-"+date+" (kept)", "state/b/upper.trash-"+date+" (leftover)",
		"state/b/work.reset-"+date+" (kept)")
	if d := dirs[1]; d.Address != "overlay.b" || d.Mountpoint != w.path("m/b") {
		t.Errorf("got %+v", d)
	}
	// one that somebody mounts is used, and so is its directory
	w.mount("x", "overlay", "x", "lowerdir=@/state/b/upper.reset-"+date+":@/base", 0)
	w.wantUnused("state/a", "state/b/upper.trash-"+date+" (leftover)", "state/b/work.reset-"+date+" (kept)")
	w.umount("x")

	// with nobody left to use the directory it lies in, it is one with that
	w.destroy("b")
	w.spec(stateDir)
	whole := w.wantUnused("state/a", "state/b (kept)")
	early := whole[1]
	early.Kept = false
	w.stayed([]reconcile.DataDir{early}, "set aside in it")
	w.pruneAll()
	w.wantUnused("state/b (kept)")
	if r := w.prune(whole[1:]); r[0].Err != nil {
		t.Error(r[0].Err)
	}
	w.wantUnused()
}

// Beside an upperdir that the spec names and overlayd made there is no mark.
func TestPruneSetAsideBesideNamed(t *testing.T) {
	const date = "20261123T131500Z"
	w := newWorld(t)
	w.mkdir("theirs/u", "theirs/w")
	w.spec(overlay("made", base), overlay("theirs", base)).apply("overlay.made create done", "overlay.theirs create done")
	w.mkdir("made/u.reset-"+date, "made/u2.reset-"+date, "theirs/u.reset-"+date)
	w.write("made/u.reset-"+date+"/file", "old")
	dirs := w.wantUnused("made/u.reset-" + date + " (kept)")
	if r := w.prune(dirs); r[0].Err != nil {
		t.Error(r[0].Err)
	}
	w.wantUnused()
	if !exists(w.path("made/u")) || !exists(w.path("made/u2.reset-"+date)) || !exists(w.path("theirs/u.reset-"+date)) {
		t.Error("it deleted too much")
	}
}

// A file that cannot be deleted leaves the rest under a name of its own, and the next prune goes on with it.
func TestPruneStuck(t *testing.T) {
	w := forgotten(t)
	immutable := w.path("state/a/upper/written")
	set := func(flags int) error {
		f, err := os.Open(immutable)
		if err != nil {
			return err
		}
		defer f.Close()
		return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags)
	}
	if err := set(unix.STATX_ATTR_IMMUTABLE); err != nil {
		t.Fatal(err) // tmpfs has it since 6.6
	}
	r := w.prune(w.wantUnused("state/a"))
	if r[0].Err == nil || !strings.Contains(r[0].Err.Error(), "chattr -i") ||
		!strings.Contains(r[0].Err.Error(), ".overlayd-prune-") {
		t.Errorf("error %v", r[0].Err)
	}
	dirs := w.unused().Dirs
	if len(dirs) != 1 || !dirs[0].Leftover || dirs[0].Address != "overlay.a" || exists(w.path("state/a")) {
		t.Fatalf("got %+v", dirs)
	}
	immutable = filepath.Join(dirs[0].Real, "upper/written")
	if err := set(0); err != nil {
		t.Fatal(err)
	}
	w.pruneAll()
	w.wantUnused()
}

func TestPruneInterrupted(t *testing.T) {
	w := forgotten(t)
	dirs := w.wantUnused("state/a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f, err := os.OpenFile("/run/overlayd/lock", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	out, err := w.Prune(ctx, w.d, []string{w.path("state")}, dirs, 0)
	if err != nil || len(out) != 1 || out[0].Err == nil || !exists(w.path("state/a/upper/written")) {
		t.Errorf("got %+v, %v", out, err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Prune(t.Context(), w.d, nil, dirs, time.Millisecond); !errors.Is(err, reconcile.ErrLocked) {
		t.Errorf("error %v", err)
	}
}
