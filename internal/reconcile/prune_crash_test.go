package reconcile_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// pruneEnv is set, to a state directory, where this is a prune that is going to be killed.
const pruneEnv = "OVERLAYD_TEST_PRUNE"

func init() {
	if dir := os.Getenv(pruneEnv); dir != "" {
		os.Exit(pruneInChild(dir))
	}
}

func pruneInChild(dir string) int {
	h := newHost()
	u, err := h.Unused(plan.Desired{}, dir)
	if err == nil {
		_, err = h.Prune(context.Background(), plan.Desired{}, []string{dir}, u.Dirs, 0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// TestPruneKilled kills a prune at any moment, over and over. A directory is either whole and in its place, or out of
// the way; the next prune finds all that is left; and nothing else is touched.
func TestPruneKilled(t *testing.T) {
	w := newWorld(t)
	w.spec(stateDir, client("keeps")).apply("overlay.keeps create done")
	w.write("m/keeps/written", "keeps")
	const rounds, clients, files = 12, 4, 150
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	fill := func() {
		w.spec(stateDir, client("keeps"), client("c0"), client("c1"), client("c2"), client("c3")).
			apply("overlay.c0 create done", "overlay.c1 create done", "overlay.c2 create done", "overlay.c3 create done")
		for c := range clients {
			for i := range files {
				dir := fmt.Sprintf("m/c%d/d%d", c, i%10)
				w.mkdir(dir)
				w.write(fmt.Sprintf("%s/f%d", dir, i), "data")
			}
			w.destroy(fmt.Sprintf("c%d", c))
		}
		w.spec(stateDir, client("keeps"))
	}
	fill()
	ended, most := pruneChild(t, w.path("state"), nil)
	if !ended {
		t.Fatal("a prune failed that nobody killed")
	}
	killed, halfway := 0, 0
	for round := range rounds {
		fill()
		when := time.After(time.Duration(chance.Int64N(int64(most))))
		if round%2 == 1 { // in the midst of one of the directories
			when = renamed(t, w.path("state"), 1+chance.IntN(clients))
		}
		if ended, _ := pruneChild(t, w.path("state"), when); !ended {
			killed++
		}
		for c := range clients {
			dir := w.path(fmt.Sprintf("state/c%d", c))
			if left, err := filepath.Glob(dir + "/upper/*/*"); err != nil || exists(dir) && len(left) != files {
				t.Fatalf("%d files are left in %s: %v", len(left), dir, err)
			}
		}
		found := map[string]bool{w.path("state/keeps"): true}
		for _, d := range w.unused().Dirs {
			found[d.Path] = true
			if d.Leftover {
				halfway++
			}
		}
		all, err := filepath.Glob(w.path("state") + "/*")
		if err != nil {
			t.Fatal(err)
		}
		hidden, err := filepath.Glob(w.path("state") + "/.*")
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range append(all, hidden...) {
			if !found[dir] {
				t.Errorf("%s is left, and not found", dir)
			}
		}
		w.pruneAll()
		if left, err := os.ReadDir(w.path("state")); err != nil || len(left) != 1 {
			t.Fatalf("left at the end: %v, %v", left, err)
		}
		w.wantFile("state/keeps/upper/written", "keeps")
	}
	t.Logf("%d prunes were killed, %d directories were half deleted", killed, halfway)
	if halfway == 0 {
		t.Error("no directory was ever half deleted: this tested nothing")
	}
}

// renamed tells when so many entries of a directory have been renamed.
func renamed(t *testing.T, dir string, n int) <-chan time.Time {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	t.Cleanup(func() { f.Close() })
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MOVED_TO); err != nil {
		t.Fatal(err)
	}
	when := make(chan time.Time, 1)
	go func() {
		buf := make([]byte, 4096)
		for seen := 0; seen < n; {
			got, err := f.Read(buf)
			if err != nil {
				return // closed: there were fewer
			}
			for events := buf[:got]; len(events) > 0; seen++ {
				name := binary.NativeEndian.Uint32(events[12:]) // length of the name, see inotify(7)
				events = events[unix.SizeofInotifyEvent+name:]
			}
		}
		when <- time.Now()
	}()
	return when
}

// pruneChild runs a prune in a process of its own, and kills it when the time comes, nil for never. It tells whether it
// came to its end, and how long it took.
func pruneChild(t *testing.T, stateDir string, when <-chan time.Time) (ended bool, took time.Duration) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), pruneEnv+"="+stateDir, "GORACE=atexit_sleep_ms=0")
	var errs strings.Builder
	cmd.Stderr = &errs
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := make(chan error, 1)
	go func() { end <- cmd.Wait() }()
	var err error
	select {
	case err = <-end:
	case <-when:
		_ = cmd.Process.Kill() // it may have just ended
		err = <-end
	}
	if errs.Len() > 0 {
		t.Fatalf("%v: %s", err, errs.String())
	}
	return err == nil, time.Since(begun)
}
