// Package doctor says what this host's kernel, filesystems, mount(8) and systemd can do for overlays, and what of
// that would fail. [Look] finds out, [Judge] thinks; between them are [Facts], plain values.
//
// What fails because of a spec is found by others (a plan's conflicts) and handed to Look with the [Question]: here it
// only becomes a [Finding]. Do not use the package to decide whether something may be done: an apply checks for itself,
// at the moment it acts, and a doctor that was asked a minute ago knows nothing.
//
// Look makes a directory on each filesystem that is to hold upperdirs, and removes it again; with root it mounts, in a
// namespace of its own. It changes nothing else but its note of what the kernel said, below /run.
package doctor
