// Package layers reads what the layers of one overlay say, as the kernel reads them, and so what its client changed.
//
// It works on the layers themselves, mounted or not, and writes nothing: it never mounts an upperdir a second time,
// and follows no symlink that a client made. [View.Changes] answers what differs from the base; [View.Walk] hands out
// both sides of each path that may differ, with attributes and contents, for those who copy or count. The cost is that
// of the upperdir, not of the base.
//
// The rules are those of the kernel's fs/overlayfs/namei.c (6.18): whiteouts, opaque directories, redirects and
// metacopy count in lowerdirs, too, since a lowerdir may have been an upperdir before.
//
// Do not use it for what the mounted tree tells as well: the contents of one path are cheaper to read there. Do not
// use it to learn what several clients have in common, nor for the disk space an upperdir takes: a plain walk of it
// answers that. And a client that writes meanwhile gives a result of no one moment, see [Notes].
package layers
