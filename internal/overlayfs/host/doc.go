// Package host is the machine's side of package overlayfs: it reads the mount table, mounts and unmounts, and looks
// at the directories that are to become layers.
//
// Mounts are made by mount(2) with the very string that systemd hands to mount(8), so that what is mounted now and
// what is mounted at boot is the same, to the letter of the mount table. Paths to act on are opened without following
// any symlink. Do not use this package where systemd must do more than mount (start dependents, for one), and do not
// take a nil error for a writable overlay: the kernel falls back to read-only silently, see [SuperReadOnly].
//
// Nothing here logs, and nothing keeps state between calls but [Prober], which is to live as long as one observation.
package host
