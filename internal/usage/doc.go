// Package usage counts what directory trees take on disk, as du(1) does, and from that what clients store, what their
// shared layers store, and what a full copy for each client would take.
//
// What counts is st_blocks, so holes of sparse files cost nothing, and every inode counts once, however many names it
// has and in however many of the trees measured together. Directories count too. Trees are read by descriptors: no
// symlink is followed and no mount is crossed, as overlayfs does not see what is mounted on its layers either.
//
// The trees of live clients change while they are read; what vanishes meanwhile is passed over, and the numbers are of
// no single moment. Do not use this package where the answer must hold when it is used, such as for quotas. Extents
// that a filesystem shares between files (reflinks, snapshots) count for each file: st_blocks does not tell.
package usage
