// Package machine boots disposable Debian systems with a real systemd in
// containers (systemd-nspawn over root trees made by mmdebstrap), for the
// end-to-end tests and the demo.
//
// A [Store] keeps one pristine tree per [Image] in a cache folder. A
// [Machine] is a copy of such a tree: boot it, run commands in it, reboot it,
// cut its power, throw it away. Everything a machine consists of (processes,
// mounts, control groups, files) is gone after [Machine.Close], and its
// processes are gone even when this program is killed: they live in a process
// namespace of their own, whose first process dies with the thread that
// started it. Files that a killed program left are removed by the next [Open].
//
// Do not use it to contain anything hostile: a machine shares the kernel and
// the kernel log, and its commands run with all capabilities of the caller.
// Do not use it where a fake will do; a boot costs about a second.
package machine
