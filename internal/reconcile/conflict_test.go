package reconcile_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/reconcile"
)

func TestConflicts(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(w *world)
		spec    string
		reason  string
	}{
		"lowerdir missing":   {nil, overlay("bad", `"@/nowhere"`), "does not exist: create it"},
		"lowerdir is a file": {nil, overlay("bad", `"@/base/file"`), "is not a directory"},
		"one directory twice": {
			func(w *world) { link(w, "base", "link") }, overlay("bad", `"@/base", "@/link"`), "the same directory",
		},
		"layers of two mounts": {func(w *world) {
			w.mkdir("bad/w")
			w.mount("tmpfs", "tmpfs", "bad/w", "", 0)
			w.mkdir("bad/w/w")
		}, strings.Replace(overlay("bad", base), "@/bad/w", "@/bad/w/w", 1), "are on different mounts"},
		"upper on an overlay": {
			nil,
			strings.ReplaceAll(overlay("bad", base), "@/bad/", "@/m/good0/"), "cannot be the upperdir of another overlay",
		},
		"upper on proc": {nil, strings.NewReplacer("@/bad/u", "/proc/fs/u", "@/bad/w", "/proc/fs/w").
			Replace(overlay("bad", base)), "holds no files"},
		"upper on a read-only mount": {func(w *world) {
			w.mkdir("bad")
			w.mount("tmpfs", "tmpfs", "bad", "", unix.MS_RDONLY)
		}, overlay("bad", base), "read-only"},
		"symlink in the mountpoint": {func(w *world) {
			w.mkdir("real")
			link(w, "real", "m/bad")
		}, overlay("bad", base), "is a symlink: name the real path /run/w/real"},
		"symlink in the upperdir": {func(w *world) {
			w.mkdir("real/u")
			link(w, "real", "bad")
		}, overlay("bad", base), "is a symlink: name the real path /run/w/real/u"},
		"mountpoint is a file": {func(w *world) {
			w.mkdir("m")
			w.write("m/bad", "")
		}, overlay("bad", base), "is not a directory"},
		"foreign mount": {func(w *world) {
			w.mkdir("m/bad")
			w.mount("mine", "tmpfs", "m/bad", "", 0)
		}, overlay("bad", base), "mine (tmpfs) is mounted at /run/w/m/bad"},
		"foreign unit": {func(w *world) {
			if err := os.WriteFile(unitPath("bad"), []byte("[Mount]\nWhat=x\nWhere=/run/w/m/bad\n"), 0o644); err != nil {
				w.t.Fatal(err)
			}
		}, overlay("bad", base), "is not overlayd's"},
		"masked unit": {func(w *world) {
			if err := os.Symlink("/dev/null", unitPath("bad")); err != nil {
				w.t.Fatal(err)
			}
		}, overlay("bad", base), "is masked: systemctl unmask it"},
		"drop-in": {func(w *world) {
			if err := errors.Join(
				os.Mkdir(unitPath("bad")+".d", 0o755),
				os.WriteFile(unitPath("bad")+".d/x.conf", []byte("[Mount]\nOptions=suid\n"), 0o644),
			); err != nil {
				w.t.Fatal(err)
			}
		}, overlay("bad", base), "changes the [Mount] section"},
		"parent that others can write to": {func(w *world) {
			w.mkdir("bad")
			if err := os.Chmod(w.path("bad"), 0o777); err != nil {
				w.t.Fatal(err)
			}
		}, overlay("bad", base), "allow_unsafe_parent = true"},
		"unknown owner": {
			nil, overlay("bad", base, `owner = "no-such-account"`), `user "no-such-account" is not in /etc/passwd`,
		},
		"upper of a live overlay of somebody else": {func(w *world) {
			w.mkdir("bad/u", "bad/w", "x")
			w.mount("overlay", "overlay", "x", "lowerdir=@/base,upperdir=@/bad/u,workdir=@/bad/w", 0)
		}, overlay("bad", base), "/run/w/x"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.spec(overlay("good0", base)).apply("overlay.good0 create done")
			if c.prepare != nil {
				c.prepare(w)
			}
			var blocks, want []string
			for i := range 10 {
				good := fmt.Sprintf("good%d", i)
				blocks = append(blocks, overlay(good, base))
				if i > 0 {
					want = append(want, "overlay."+good+" create done")
				}
			}
			w.spec(append(blocks, c.spec)...)
			r := w.run(reconcile.ApplyOptions{})
			w.wantResults(r, append(want, "overlay.bad conflict skipped")...)
			if err := failure(t, r, "overlay.bad"); !strings.Contains(err.Error(), c.reason) {
				t.Errorf("reason %q, want %q in it", err, c.reason)
			}
			w.wantPlan("overlay.bad conflict")
		})
	}
}

func link(w *world, to, at string) {
	w.t.Helper()
	w.mkdir(at)
	if err := errors.Join(os.Remove(w.path(at)), os.Symlink(w.path(to), w.path(at))); err != nil {
		w.t.Fatal(err)
	}
}

func TestForeignOnTop(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base)).apply("overlay.a create done")
	w.mount("mine", "tmpfs", "m/a", "", 0)
	for _, spec := range []string{overlay("a", base), overlay("a", upper), ""} {
		w.spec(spec).wantPlan("overlay.a conflict")
		w.wantResults(w.run(reconcile.ApplyOptions{}), "overlay.a conflict skipped")
	}
	if got := len(w.stack(w.path("m/a"))); got != 2 {
		t.Fatalf("%d mounts at m/a, want 2", got)
	}
	w.umount("m/a")
	w.spec(overlay("a", base)).apply()
}
