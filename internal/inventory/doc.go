// Package inventory knows which overlays are on a host, mounted or only applied, whose they are, and which one somebody
// means who names an address or a path.
//
// Do not use it to learn what differs from what was applied, or what may be done about an overlay: that is plan.Diff's
// to say, by way of reconcile.Host. Nor as evidence of ownership: Managed is, Owner is a guess from paths.
package inventory
