// Package scale knows what the measurements of many overlays are called, which
// goals they have, and how they are told: as a page of Markdown and as curves.
// It measures nothing, and judges nothing in tests: it only writes how far from
// a goal a run was.
package scale
