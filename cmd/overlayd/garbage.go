package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// The collector's pace, as GOGC: how much garbage may come, in percent of what is in use.
const (
	gcPatient = 400 // for a command, which ends soon, and its memory with it
	gcUsual   = 100 // what Go takes by itself
)

// muchMemory is what a command may have in use, in bytes, until the collector goes at its usual pace. From there on,
// being patient would take more memory than it is worth.
const muchMemory = 16 << 20

// deferCollection lets a command go on for longer before garbage is collected: by Go's usual pace a plan of 10,000
// overlays spends a third of its time at that, most of it while next to nothing is garbage yet. Who sets GOGC or
// GOMEMLIMIT has his way.
func deferCollection(s streams) {
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		if _, ok := s.env(name); ok {
			return
		}
	}
	debug.SetGCPercent(gcPatient)
	afterCollection(func() bool {
		if inUse() < muchMemory {
			return true
		}
		debug.SetGCPercent(gcUsual)
		return false
	})
}

// afterCollection calls f after each collection of garbage, until it returns false.
func afterCollection(f func() bool) {
	// A finalizer runs when a collection has found that nobody uses its object. See runtime.SetFinalizer for why this
	// has a pointer: objects without one may be put together with others.
	type canary struct{ self *func() bool }
	var again func(*canary)
	again = func(c *canary) {
		if f() {
			runtime.SetFinalizer(c, again)
		}
	}
	runtime.SetFinalizer(&canary{&f}, again)
}

// inUse is what the last collection found in use, in bytes.
func inUse() uint64 {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	if live[0].Value.Kind() != metrics.KindUint64 {
		return muchMemory // a Go that does not tell
	}
	return live[0].Value.Uint64()
}
