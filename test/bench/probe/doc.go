// Package probe is the part of the benchmarks that runs inside of the measured
// machine: it takes mounts away, stops the time until they are back, and reads
// what processes use.
//
// It waits for mounts as the agent does, with poll(2) on the mount table, and
// then asks statx(2) for the one mountpoint. To ask in a loop would be exact to
// the microsecond, but take one CPU away from those who are measured, and its
// path walks would contend with their changes of the mount table. So each time
// here contains one wake-up of the probe, for the agent and for what it is
// compared with alike.
//
// Do not use it on a host that matters to somebody: it unmounts things.
package probe
