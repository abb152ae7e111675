package reconcile_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
)

// shortLived is a context that is cancelled once it was asked some times: in the midst of a deletion.
type shortLived struct {
	context.Context
	left int
}

func (c *shortLived) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// An interrupt stops a deletion where it is. What is left is out of every client's way, and the next prune finds it.
func TestPruneStopped(t *testing.T) {
	t.Run("data", func(t *testing.T) {
		w := forgotten(t)
		for i := range 3000 {
			w.write(fmt.Sprintf("state/a/upper/a file with a long name, so that they are not listed at once, %d", i), "")
		}
		dirs := w.wantUnused("state/a")
		r, err := w.Prune(&shortLived{t.Context(), 3}, w.d, []string{w.path("state")}, dirs, 0)
		if err != nil {
			t.Fatal(err)
		}
		left := w.unused().Dirs
		if len(left) != 1 || !left[0].Leftover || left[0].Address != "overlay.a" || exists(w.path("state/a")) {
			t.Fatalf("left: %+v", left)
		}
		want := w.path("state/a") + " is not all deleted, the rest is in " + left[0].Path + ": interrupted; prune again"
		if r[0].Err == nil || r[0].Err.Error() != want {
			t.Errorf("error %v, want %s", r[0].Err, want)
		}
		if files, err := os.ReadDir(left[0].Path + "/upper"); err != nil || len(files) == 0 || len(files) > 3000 {
			t.Errorf("%d files are left: %v", len(files), err)
		}
		w.pruneAll()
		w.wantUnused()
	})
	t.Run("set aside", func(t *testing.T) {
		w := forgotten(t)
		w.pruneAll()
		const dir = "state/b/upper.reset-20260102T030405Z"
		w.mkdir(dir + "/x")
		dirs := w.wantUnused(dir + " (kept)")
		if at := dirs[0].SetAside.Format("2006-01-02 15:04:05 MST"); at != "2026-01-02 03:04:05 UTC" {
			t.Errorf("set aside at %s", at)
		}
		r, err := w.Prune(&shortLived{t.Context(), 1}, w.d, []string{w.path("state")}, dirs, 0)
		if err != nil {
			t.Fatal(err)
		}
		if r[0].Err == nil || !strings.HasSuffix(r[0].Err.Error(), " is not all deleted: interrupted; prune again") {
			t.Errorf("error %v", r[0].Err)
		}
		w.wantUnused(dir + " (kept)")
	})
}
