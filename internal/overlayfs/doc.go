// Package overlayfs knows the overlay filesystem as text: its options, the escaping of paths in mount(2) data,
// the kernel's mount table, and when a live overlay means the same as a wanted one.
//
// It is pure: it opens nothing and calls nothing. The machine's side (reading the table, mounting, looking at paths)
// is package host. Do not use it to write the text of a unit file either: systemd takes one more level of escaping
// away, which is the business of package units. And do not compare overlays by the text of their options: kernels
// add options nobody set and leave out options somebody did; that is what [Compare] is for.
package overlayfs
