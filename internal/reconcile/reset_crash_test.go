package reconcile_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// resetInChild is the reset that TestResetKilled kills: what to reset, and whether to keep it.
func resetInChild(what string) int {
	keep, addresses, _ := strings.Cut(what, " ")
	r, err := resetOn(context.Background(), newHost(), plan.Reset{Keep: keep == "keep"}, strings.Fields(addresses))
	if err != nil || !r.OK() {
		fmt.Fprintln(os.Stderr, err, r)
		return 1
	}
	return 0
}

// TestResetKilled kills resets at any moment, over and over. Nothing but what was to go is gone, what was to be kept is
// there once and whole, and the next run finishes.
func TestResetKilled(t *testing.T) {
	w := newWorld(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	const files, rounds = 300, 24
	w.spec(overlay("a", base), overlay("b", `"@/m/a"`), overlay("other", base))
	w.run(reconcile.ApplyOptions{})
	fill := func(name, text string) {
		w.mkdir("m/" + name + "/d")
		for i := range files {
			w.write(fmt.Sprintf("m/%s/d/%d", name, i), text)
		}
	}
	fill("other", "other")
	fill("b", "b")
	fill("a", "first")
	begun := time.Now()
	if err := child(t, resetEnv+"=keep overlay.a", nil); err != nil {
		t.Fatal(err)
	}
	most := time.Since(begun)
	killed := 0
	for round := range rounds {
		how := []string{"keep", "delete"}[round%2]
		text := fmt.Sprint("round ", round)
		fill("a", text)
		if child(t, resetEnv+"="+how+" overlay.a", time.After(time.Duration(chance.Int64N(int64(most))))) != nil {
			killed++
		}
		w.all("b/u", files, "b")
		w.all("other/u", files, "other")
		w.wantFile("base/file", "base")
		if how == "keep" && w.holding("a", text, files) != 1 {
			t.Fatalf("round %d: what the client wrote is in %d places, want one: %v", round, w.holding("a", text, files),
				w.beside("a"))
		}
		if _, err := resetOn(t.Context(), w.Host, plan.Reset{Keep: how == "keep"}, []string{"overlay.a"}); err != nil {
			t.Fatal(err)
		}
		if chance.IntN(4) == 0 || len(w.stack(w.path("m/b"))) == 0 {
			w.run(reconcile.ApplyOptions{})
		}
		w.inSync()
		if exists(w.path("a/u/d")) {
			t.Fatalf("round %d: the client is not pristine", round)
		}
		for _, name := range w.beside("a") {
			if _, kept, _ := reconcile.SetAside(name); !kept {
				t.Fatalf("round %d: %s stays", round, name)
			}
		}
		if how == "keep" && w.holding("a", text, files) != 1 {
			t.Fatalf("round %d: what the client wrote is not kept: %v", round, w.beside("a"))
		}
	}
	t.Logf("%d of %d resets were killed", killed, rounds)
	if killed == 0 {
		t.Error("no reset was killed: this tested nothing")
	}
}

// all asks for n files that hold text below d in a directory.
func (w *world) all(rel string, n int, text string) {
	w.t.Helper()
	for i := range n {
		w.wantFile(fmt.Sprintf("%s/d/%d", rel, i), text)
	}
}

// holding counts the directories in rel that hold all n files of this text.
func (w *world) holding(rel, text string, n int) int {
	w.t.Helper()
	found := 0
	for _, name := range append(w.beside(rel), "u") {
		whole := 0
		for i := range n {
			got, err := os.ReadFile(w.path(fmt.Sprintf("%s/%s/d/%d", rel, name, i)))
			if err == nil && string(got) == text {
				whole++
			}
		}
		if whole == n {
			found++
		}
	}
	return found
}
