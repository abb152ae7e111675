// Package report holds what was measured, and shows it to people, as tables for
// a terminal of 80 columns, and to programs, as JSON with every single sample.
//
// It judges nothing: what is fast enough is not its business. Do not use it for
// what changes while it is watched; a [Report] is written once, at the end.
package report
