// Package systemd is the machine's side of units: [Dir] is the directory with the unit files, [Manager] the running
// systemd, and [Watch] tells what that does.
//
// A Dir works on any tree, also where no systemd runs. It takes no lock: whoever changes a unit directory holds the
// one of overlayd. Neither knows what an overlay is; they move texts that package units made, and refuse to replace or
// remove one that it did not.
//
// Do not use Manager or Watch to learn what is mounted. systemd hears of a mount up to a second late; the mount table
// does not.
package systemd
