package reconcile_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/config"
	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/test/apart"
)

const (
	crashEnv = "OVERLAYD_TEST_CRASH" // set where this is an apply that is going to be killed
	resetEnv = "OVERLAYD_TEST_RESET" // or a reset
	unitDir  = "/etc/systemd/system"
)

// TestMain runs the tests apart, where /etc/systemd/system and /run are empty: what they apply is mounted for real, and
// no systemd runs.
func TestMain(m *testing.M) {
	if spec := os.Getenv(crashEnv); spec != "" {
		os.Exit(applyInChild(spec))
	}
	if what := os.Getenv(resetEnv); what != "" {
		os.Exit(resetInChild(what))
	}
	os.Exit(apart.Run(func() error { return unix.Mount("units", unitDir, "tmpfs", 0, "mode=0755") }, m.Run))
}

func newHost() *reconcile.Host {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return &reconcile.Host{Log: log}
}

// world is a host for one test: directories below dir, and a spec.
type world struct {
	*reconcile.Host
	t   *testing.T
	dir string
	d   plan.Desired
}

// newWorld gives an empty host. What the test leaves on it is taken away at its end.
func newWorld(t *testing.T) *world {
	t.Helper()
	apart.NeedRoot(t)
	w := &world{Host: newHost(), t: t, dir: "/run/w"}
	if err := os.Mkdir(w.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w.mkdir("base", "more")
	w.write("base/file", "base")
	w.write("more/file", "more")
	t.Cleanup(w.tidy)
	return w
}

func (w *world) tidy() {
	table, err := host.ReadTable()
	if err != nil {
		w.t.Error(err)
		return
	}
	for _, m := range slices.Backward(table.Below(w.dir)) {
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			w.t.Errorf("cannot clean up %s: %v", m.Mountpoint, err)
		}
	}
	left, err := filepath.Glob(unitDir + "/*")
	if err != nil {
		w.t.Error(err)
	}
	for _, p := range append(left, w.dir, "/run/overlayd") {
		if err := os.RemoveAll(p); err != nil {
			w.t.Error(err)
		}
	}
}

// path gives a path below the test's directory.
func (w *world) path(rel string) string { return filepath.Join(w.dir, rel) }

func (w *world) mkdir(rel ...string) {
	w.t.Helper()
	for _, r := range rel {
		if err := os.MkdirAll(w.path(r), 0o755); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) write(rel, text string) {
	w.t.Helper()
	if err := os.WriteFile(w.path(rel), []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// wantFile asks for a file's text, "" for one that does not exist.
func (w *world) wantFile(rel, text string) {
	w.t.Helper()
	got, err := os.ReadFile(w.path(rel))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	if string(got) != text {
		w.t.Errorf("%s holds %q, want %q", rel, got, text)
	}
}

// overlay gives the block of an overlay NAME: lowerdirs as given, its own upperdir and workdir, mounted at m/NAME.
// Further lines come after the paths.
func overlay(name, lowerdirs string, lines ...string) string {
	return fmt.Sprintf("overlay %q {\nlowerdirs = [%s]\nupperdir = \"@/%s/u\"\nworkdir = \"@/%s/w\"\n"+
		"mountpoint = \"@/m/%s\"\n%s\n}\n", name, lowerdirs, name, name, name, strings.Join(lines, "\n"))
}

const (
	base  = `"@/base"`
	more  = `"@/more"`
	upper = `"@/more", "@/base"`
)

// spec sets the spec, in which @ is the test's directory.
func (w *world) spec(blocks ...string) *world {
	w.t.Helper()
	w.mkdir("spec")
	w.write("spec/s.hcl", strings.ReplaceAll(strings.Join(blocks, ""), "@", w.dir))
	w.d = load(w.t, w.path("spec"))
	return w
}

func load(t *testing.T, paths ...string) plan.Desired {
	t.Helper()
	spec, diags := config.Load(paths, config.Inputs{HostName: "test"})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	d, diags := reconcile.Desire(spec, "")
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return d
}

func (w *world) run(opt reconcile.ApplyOptions) reconcile.Report {
	w.t.Helper()
	opt.Parallelism = 4
	r, err := w.Apply(w.t.Context(), w.d, opt)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// apply applies the spec and asks for these results, "overlay.a create done"; then nothing is left to do.
func (w *world) apply(want ...string) reconcile.Report {
	w.t.Helper()
	r := w.run(reconcile.ApplyOptions{})
	w.wantResults(r, want...)
	w.inSync()
	return r
}

func (w *world) wantResults(r reconcile.Report, want ...string) {
	w.t.Helper()
	var got []string
	for _, each := range r.Results {
		line := fmt.Sprintf("%s %s %s", each.Change.Address, each.Change.Kind, each.Status)
		got = append(got, line)
		if each.Err != nil {
			w.t.Logf("%s: %v", line, each.Err)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		w.t.Fatalf("results:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func (w *world) plan() plan.Plan {
	w.t.Helper()
	p, _, err := w.Plan(w.t.Context(), w.d, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// inSync asks for a host as the spec says, with one mount per overlay, and no drift either.
func (w *world) inSync() {
	w.t.Helper()
	if p := w.plan(); !p.InSync() {
		w.t.Errorf("not in sync: %s", describe(p))
	}
	applied, err := w.Applied()
	if err != nil {
		w.t.Fatal(err)
	}
	drift, _, err := w.Plan(w.t.Context(), applied, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if !drift.InSync() {
		w.t.Errorf("drift: %s", describe(drift))
	}
	for _, o := range w.d.Overlays {
		w.mounted(o.Mountpoint)
	}
	if w.Unfinished() {
		w.t.Error("a reload is owed")
	}
}

// wantPlan asks for these changes, "overlay.a repair", no-ops left out.
func (w *world) wantPlan(want ...string) plan.Plan {
	w.t.Helper()
	p := w.plan()
	if got := describe(p); got != strings.Join(want, "; ") {
		w.t.Fatalf("plan: %s\nwant: %s", got, strings.Join(want, "; "))
	}
	return p
}

func describe(p plan.Plan) string {
	var out []string
	for _, c := range p.Changes {
		if c.Kind != plan.NoOp {
			out = append(out, fmt.Sprintf("%s %s", c.Address, c.Kind))
		}
	}
	return strings.Join(out, "; ")
}

// reasons gives the reasons of the change at an address.
func reasons(t *testing.T, p plan.Plan, address string) string {
	t.Helper()
	c, ok := p.Find(address)
	if !ok {
		t.Fatalf("no change at %s", address)
	}
	return strings.Join(c.Reasons, "; ")
}

// failure gives why a change failed or was skipped.
func failure(t *testing.T, r reconcile.Report, address string) error {
	t.Helper()
	for _, each := range r.Results {
		if each.Change.Address == address {
			return each.Err
		}
	}
	t.Fatalf("no result for %s", address)
	return nil
}

// mounted asks for one overlay at a path, and gives it.
func (w *world) mounted(at string) overlayfs.Mount {
	w.t.Helper()
	stack := w.stack(at)
	if len(stack) != 1 {
		w.t.Fatalf("%d mounts at %s, want 1", len(stack), at)
	}
	return stack[0]
}

func (w *world) stack(at string) []overlayfs.Mount {
	w.t.Helper()
	table, err := host.ReadTable()
	if err != nil {
		w.t.Fatal(err)
	}
	return table.At(at)
}

func (w *world) umount(rel string) {
	w.t.Helper()
	if err := unix.Unmount(w.path(rel), unix.UMOUNT_NOFOLLOW); err != nil {
		w.t.Fatal(err)
	}
}

// mount mounts by hand, as somebody else.
func (w *world) mount(source, fstype, rel, data string, flags uintptr) {
	w.t.Helper()
	data = strings.ReplaceAll(data, "@", w.dir)
	if err := unix.Mount(source, w.path(rel), fstype, flags, data); err != nil {
		w.t.Fatal(err)
	}
}

// unit gives the text of the unit of the overlay at m/NAME.
func (w *world) unit(name string) string {
	w.t.Helper()
	text, err := os.ReadFile(unitPath(name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

func unitPath(name string) string { return unitDir + "/run-w-m-" + name + ".mount" }

func exists(p string) bool {
	_, err := os.Lstat(p)
	return err == nil
}

// watch tells later whether the mount that stands at a path now was taken down. The kernel gives the ids of mounts out
// again, so those do not tell.
func (w *world) watch(rel string) func() bool {
	w.t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { unix.Close(fd) })
	if _, err := unix.InotifyAddWatch(fd, w.path(rel), unix.IN_DELETE_SELF); err != nil {
		w.t.Fatal(err)
	}
	return func() bool {
		// Of the events that nobody asked for there is IN_UNMOUNT.
		n, err := unix.Read(fd, make([]byte, 4096))
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			w.t.Fatal(err)
		}
		return n > 0
	}
}
