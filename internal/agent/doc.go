// Package agent is the event loop around reconcile: it waits until something happens, finds out which overlays that
// concerns, and has them made as the spec says, as far as the policy goes.
//
// What to do about a difference is decided in package plan and done by package reconcile, under the lock that the
// command line takes, too. Here is decided when to look, at what, and when to try again; that part is pure: schedule,
// budget, backoff, book and outline get the time and what was seen as values.
//
// It is no library for other daemons, and one host has one agent.
package agent
