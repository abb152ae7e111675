// Package commit makes a layer of what a client changed: a lowerdir, or a layer of an OCI image. Put on top of the
// lowerdirs that the client has, it gives the client's view.
//
// The layers are read, never mounted, so a client at work is not disturbed; what it writes meanwhile may be in the new
// layer or not. What takes options of the overlay to be read is resolved: moved directories (redirect_dir) and files
// whose contents are elsewhere (metacopy) are there in full, names of one file (index) are hard links. A file that was
// copied up, and is as it was in every respect, is left to the lowerdirs.
//
// Not kept are: the chattr(1) flags that overlayfs stores for itself; and, where only some names of a file in the
// lowerdirs were moved with their directory, that they are names of one file, since the others stay below. In an
// archive, further: sockets, and holes. And readers of archives have limits of their own: podman, umoci and Docker do
// not set xattrs without a value, podman no times before 1970, and it lets files without an ACL inherit one.
//
// Do not use this package to copy what a client sees as a whole: cp -a from the mountpoint does that. And not for a
// backup of an upperdir to put back later: a plain copy with all xattrs keeps the overlay's own marks, which a layer
// must not have.
package commit
