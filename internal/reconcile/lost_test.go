package reconcile_test

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/reconcile"
)

// What somebody took out of sight with "umount --lazy" writes to its upperdir as long as a process uses it.
func TestLazyUnmount(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base), overlay("b", base), overlay("on", `overlay.a.mountpoint`))
	w.apply("overlay.a create done", "overlay.b create done", "overlay.on create done")
	w.umount("m/on")
	user := w.hold("m/a")
	for _, m := range []string{"m/a", "m/b"} {
		if err := unix.Unmount(w.path(m), unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
	}
	held := func(spec ...string) {
		t.Helper()
		unit := w.unit("a")
		w.spec(spec...)
		r := w.run(reconcile.ApplyOptions{})
		err := fmt.Sprint(failure(t, r, "overlay.a"))
		if !strings.Contains(err, "umount --lazy") || !strings.Contains(err, fmt.Sprintf("likely %d (sleep", user.Process.Pid)) {
			t.Errorf("the failure says %q", err)
		}
		if r.OK() || len(w.stack(w.path("m/a"))) > 0 || w.unit("a") != unit {
			t.Error("it was mounted, or its unit was rewritten")
		}
	}
	r := w.run(reconcile.ApplyOptions{})
	w.wantResults(r, "overlay.a repair failed", "overlay.b repair done", "overlay.on repair skipped")

	// However it would come to the upperdir.
	held(overlay("a", base), overlay("b", base))
	held(overlay("a", upper), overlay("b", base))
	w.stop(user)
	w.spec(overlay("a", upper), overlay("b", base))
	w.run(reconcile.ApplyOptions{})
	w.inSync()
	w.wantFile("m/a/file", "more")
}

// The upperdir that is out of sight is given to an overlay that is mounted on another one.
func TestLazyUnmountMovedUpper(t *testing.T) {
	w := newWorld(t)
	w.spec(overlay("a", base), overlay("b", base)).apply("overlay.a create done", "overlay.b create done")
	user := w.hold("m/a")
	if err := unix.Unmount(w.path("m/a"), unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	w.spec(strings.NewReplacer("@/b/u", "@/a/u", "@/b/w", "@/a/w").Replace(overlay("b", base)))
	r := w.run(reconcile.ApplyOptions{})
	if err := failure(t, r, "overlay.b"); err == nil || !strings.Contains(err.Error(), "umount --lazy") {
		t.Errorf("overlay.b: %v", err)
	}
	if m := w.mounted(w.path("m/b")); m.Overlay.Upper != w.path("b/u") {
		t.Errorf("mounted on %s", m.Overlay.Upper)
	}
	w.stop(user)
	w.run(reconcile.ApplyOptions{})
	w.inSync()
}
