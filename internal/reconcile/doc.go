// Package reconcile brings a host to what a spec desires. It looks ([Host.Observe]), lets package plan think, and acts
// ([Host.Apply]); each answers with a report of what was done, failed and skipped, and running it again finishes the
// job. It owns the one translation from the language of package config to units.
//
// It is no place for decisions: what differs and what may be done about it is package plan's. Nor for printing: the
// commands show what it returns.
package reconcile
