// Package watch tells when something happened on this host that somebody should look at again: in the mount table
// ([Mounts]), at files and what leads to them ([Files]), and whether a file is just being written ([BeingWritten]).
//
// It gives hints, not news: a channel says that there is something to look at, not what, and says it rather once too
// often than not at all. Whoever hears it reads the thing itself. Nothing here reads what is in a file or decides
// anything.
//
// Do not use this package as the only reason to look. inotify(7) says nothing about what is written through a memory
// mapping or another hard link of a file, to the layers below an overlay, by other hosts to a network filesystem, or
// about what is mounted over a path: a timer has to catch the first three, [Mounts] and another [Files.Set] the last.
// Nor to watch trees: a directory is watched for what is in it, not below.
package watch
