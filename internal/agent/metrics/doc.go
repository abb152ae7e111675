// Package metrics keeps the numbers of the agent and writes them to a file for the textfile collector of
// node_exporter. It also measures in the background what the clients store, slowly enough that nobody notices.
//
// Nothing is served and nothing listens: who has no node_exporter does without. The names of the metrics are an
// interface; renaming one breaks dashboards and alerts. Metrics of the process (process_*, go_*) are left out on
// purpose: node_exporter has them of itself, and the same series twice spoil a scrape.
//
// Do not use this package for decisions: its numbers may be old, and those of clients are of no single moment.
package metrics
