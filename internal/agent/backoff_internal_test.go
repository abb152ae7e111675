package agent

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

func change(address string, kind plan.Kind, reasons ...string) *plan.Change {
	return &plan.Change{Address: address, Kind: kind, Reasons: reasons, Mountpoint: "/m/" + address}
}

func TestBackoffOfFailures(t *testing.T) {
	b, now := backoff{}, noon
	c := change("a", plan.Repair, "not mounted")
	want := []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300}
	for i, w := range want {
		if why := b.hold(c, now); why != "" {
			t.Fatalf("try %d: held: %s", i+1, why)
		}
		n, next := b.fail(c, now)
		if n != i+1 || next.Sub(now) != w*time.Second {
			t.Fatalf("failure %d: %d, next in %s, want %ds", i+1, n, next.Sub(now), w)
		}
		if b.hold(c, next.Add(-1)) == "" {
			t.Fatalf("failure %d: may be tried before its time", i+1)
		}
		if got := b.next(); !got.Equal(next) {
			t.Fatalf("next %s, want %s", got, next)
		}
		if got := b.due(next); !slices.Equal(got, []string{"a"}) {
			t.Fatalf("due %q", got)
		}
		now = next
	}
	if b.hold(change("b", plan.Repair), now) != "" {
		t.Error("one that never failed is held")
	}
	b.fail(c, now)
	b.fine("a")
	if b.hold(c, now) != "" || !b.next().IsZero() {
		t.Error("one that is in order is held")
	}
	if n, _ := b.fail(c, now); n != 1 {
		t.Errorf("counts on: %d", n)
	}
}

// What is planned now and did not fail before is tried at once, but not in turns for ever.
func TestBackoffResetByChange(t *testing.T) {
	b := backoff{}
	one, other := change("a", plan.Repair, "not mounted"), change("a", plan.Update, "options changed")
	b.fail(one, noon)
	b.fail(one, noon)
	if b.hold(other, noon) != "" {
		t.Fatal("something else is held")
	}
	if n, _ := b.fail(other, noon); n != 1 {
		t.Fatalf("something else failed %d times", n)
	}
	if b.hold(one, noon) == "" || b.hold(other, noon) == "" {
		t.Error("two that fail in turns are tried without a pause")
	}
	view := change("a", plan.Repair, "not mounted")
	view.After = &plan.View{Lowerdirs: []string{"/new"}}
	if b.hold(view, noon) != "" {
		t.Error("other layers are held")
	}
}

func TestBackoffOfRepairs(t *testing.T) {
	b := backoff{}
	c := change("a", plan.Repair, "not mounted")
	for i := range free {
		if b.hold(c, noon) != "" {
			t.Fatalf("repair %d is held", i+1)
		}
		if begins := b.did(c, noon); begins != (i == free-1) {
			t.Fatalf("repair %d: begins to wait: %t", i+1, begins)
		}
	}
	if b.hold(c, noon) == "" {
		t.Fatalf("repair %d is made at once", free+1)
	}
	if b.waits("a", noon); b.next() != after(firstPause) {
		t.Fatalf("next %s", b.next())
	}
	b.fine("a") // mounted again, and undone once more
	if b.hold(c, noon) == "" {
		t.Error("a moment in order is enough to be trusted")
	}
	if b.hold(c, after(time.Hour)) != "" {
		t.Error("an hour later it is held")
	}
	if b.did(c, after(time.Hour)) {
		t.Error("an hour later it is suspect at once")
	}
}

// However fast somebody undoes repairs, they are bounded: the first ones, and then at most two a minute.
func TestBackoffBoundsRepairs(t *testing.T) {
	for s := range uint64(20) {
		r := rand.New(rand.NewPCG(s, 0))
		b, repairs, warned := backoff{}, 0, 0
		c := change("a", plan.Repair, "not mounted")
		now := noon
		for now.Sub(noon) < time.Hour {
			if b.hold(c, now) == "" {
				repairs++
				if b.did(c, now) {
					warned++
				}
			}
			now = now.Add(time.Duration(r.IntN(300)+1) * time.Millisecond)
		}
		if repairs < 30 || repairs > 60+free+10 || warned != 1 {
			t.Errorf("seed %d: %d repairs in an hour, %d warnings", s, repairs, warned)
		}
	}
}

// What a stop job took down stays down until it is up again, by whoever's hand.
func TestBackoffStopped(t *testing.T) {
	b := backoff{}
	down := change("a", plan.Repair, "not mounted")
	down.Do.Mount = &overlayfs.Config{}
	b.stopped("a")
	b.forget(func(string) bool { return true }, noon)
	if b.hold(down, after(time.Hour)) != reconcile.WhyStopped {
		t.Error("it is mounted again")
	}
	if why := b.hold(change("a", plan.Delete), noon); why != "" {
		t.Errorf("its unit is kept: %s", why)
	}
	b.fine("a")
	if b.hold(down, noon) != "" {
		t.Error("it is held although it was up again")
	}
}

func TestBackoffForgets(t *testing.T) {
	b := backoff{}
	for i := range 100 {
		b.did(change(fmt.Sprint("a", i), plan.Repair), noon)
	}
	b.fail(change("failing", plan.Repair), noon)
	b.later("busy", after(time.Hour))
	all := func(string) bool { return true }
	b.forget(all, after(2*time.Minute))
	if len(b) != 2 {
		t.Errorf("%d left, want the one that fails and the one that waits", len(b))
	}
	b.forget(func(a string) bool { return a != "failing" }, noon)
	if len(b) != 1 || b["busy"] == nil {
		t.Errorf("left: %v", b)
	}
	if got := b.due(after(time.Hour)); !slices.Equal(got, []string{"busy"}) {
		t.Errorf("due %q", got)
	}
}
