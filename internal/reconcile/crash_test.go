package reconcile_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/config"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile"
)

// applyInChild is the apply that TestKilled kills.
func applyInChild(spec string) int {
	s, diags := config.Load([]string{spec}, config.Inputs{})
	if !diags.HasErrors() {
		d, more := reconcile.Desire(s, "")
		diags = append(diags, more...)
		if !diags.HasErrors() {
			_, err := newHost().Apply(context.Background(), d, reconcile.ApplyOptions{Parallelism: 4})
			if err == nil {
				return 0
			}
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	fmt.Fprintln(os.Stderr, diags)
	return 1
}

// TestKilled kills an apply at any moment, over and over. The next one converges: all that is declared is mounted once,
// nothing else is, and no client has lost a byte. Each round changes, moves, adds and deletes overlays.
func TestKilled(t *testing.T) {
	w := newWorld(t)
	const clients, rounds = 12, 16
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	variant := func(round int) string {
		var blocks []string
		for i := range clients {
			name := fmt.Sprintf("c%d", i)
			lowerdirs, mountpoint := base, "@/m/"+name
			if (i+round)%3 == 0 {
				lowerdirs = upper
			}
			switch {
			case (i+round)%5 == 0:
				continue
			case (i+round)%4 == 0:
				mountpoint = "@/moved/" + name
			}
			blocks = append(blocks, fmt.Sprintf("overlay %q {\nlowerdirs = [%s]\nupperdir = \"@/%s/u\"\n"+
				"workdir = \"@/%s/w\"\nmountpoint = %q\n}\n", name, lowerdirs, name, name, mountpoint))
		}
		return strings.Join(blocks, "")
	}
	w.spec(variant(0))
	w.run(reconcile.ApplyOptions{})
	for i := range clients {
		// Through the mount for those that have one; the data of the others lies in their upperdir all the same.
		w.mkdir(fmt.Sprintf("c%d/u", i))
		w.write(fmt.Sprintf("c%d/u/data", i), fmt.Sprint("client ", i))
	}

	whole := time.Now()
	w.spec(variant(1))
	if err := child(t, crashEnv+"="+w.path("spec"), nil); err != nil {
		t.Fatal(err)
	}
	most := time.Since(whole)
	killed := 0
	for round := 2; round < rounds; round++ {
		w.spec(variant(round))
		for range 2 {
			if child(t, crashEnv+"="+w.path("spec"), time.After(time.Duration(chance.Int64N(int64(most))))) != nil {
				killed++
			}
		}
		w.run(reconcile.ApplyOptions{})
		w.inSync()
		for i := range clients {
			w.wantFile(fmt.Sprintf("c%d/u/data", i), fmt.Sprint("client ", i))
		}
		w.nothingElse()
	}
	t.Logf("%d of %d applies were killed", killed, 2*(rounds-2))
	if killed == 0 {
		t.Error("no apply was killed: this tested nothing")
	}
}

// child runs what a setting of the environment says in a process of its own, and kills it when the time comes.
func child(t *testing.T, setting string, when <-chan time.Time) error {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), setting, "GORACE=atexit_sleep_ms=0")
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Fatalf("%v: %s", err, out.String())
		}
		return nil
	case <-when:
		if err := cmd.Process.Signal(unix.SIGKILL); err != nil {
			t.Log(err) // it had just ended
		}
		return <-ended
	}
}

// nothingElse asks that nothing is mounted, written or linked but what the spec declares.
func (w *world) nothingElse() {
	w.t.Helper()
	wanted := map[string]bool{}
	for _, o := range w.d.Overlays {
		wanted[o.Mountpoint] = true
	}
	table, err := host.ReadTable()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, m := range table.Below(w.dir) {
		if !wanted[m.Mountpoint] {
			w.t.Errorf("%s is mounted, and not declared", m.Mountpoint)
		}
	}
	for _, pattern := range []string{"*.mount", "overlayd.target.wants/*.mount"} {
		files, err := filepath.Glob(filepath.Join(unitDir, pattern))
		if err != nil {
			w.t.Fatal(err)
		}
		if len(files) != len(wanted) {
			w.t.Errorf("%d units at %s, want %d", len(files), pattern, len(wanted))
		}
	}
	left, err := filepath.Glob(filepath.Join(unitDir, ".*"))
	if err != nil || len(left) > 0 {
		w.t.Errorf("temporary files stay: %q, %v", left, err)
	}
}
