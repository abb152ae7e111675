package main

import (
	"runtime"
	"runtime/debug"
	"testing"
)

// gcPercent reads what debug.SetGCPercent has set.
func gcPercent() int {
	was := debug.SetGCPercent(gcUsual)
	debug.SetGCPercent(was)
	return was
}

// collect runs the collector until what goes after a collection has been done. Finalizers run one after another, so one
// that was set later tells.
func collect(t *testing.T) {
	t.Helper()
	done := make(chan struct{})
	afterCollection(func() bool { close(done); return false })
	runtime.GC()
	<-done
}

func TestDeferCollection(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(gcUsual))
	deferCollection(streams{})
	if got := gcPercent(); got != gcPatient {
		t.Fatalf("GOGC is %d, want %d", got, gcPatient)
	}
	many := make([]byte, 2*muchMemory)
	for range 3 { // the order of the finalizers of one collection is not said
		collect(t)
	}
	runtime.KeepAlive(many)
	if got := gcPercent(); got != gcUsual {
		t.Errorf("GOGC is %d with %d bytes in use, want %d", got, len(many), gcUsual)
	}
}

func TestDeferCollectionNot(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(gcUsual))
	deferCollection(streams{environ: []string{"GOGC=", "GOMEMLIMIT=1GiB"}})
	if got := gcPercent(); got != gcUsual {
		t.Errorf("GOGC is %d where GOMEMLIMIT is set, want %d", got, gcUsual)
	}
}

func TestAfterCollection(t *testing.T) {
	calls := make(chan int, 3)
	n := 0
	afterCollection(func() bool {
		n++
		calls <- n
		return n < 2
	})
	for range 5 {
		collect(t)
	}
	if len(calls) != 2 {
		t.Errorf("called %d times, want 2: as often as it returned true, and once more", len(calls))
	}
}
