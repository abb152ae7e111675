package reconcile

// NoteReset leaves the note that a reset leaves that is killed while its overlay is down.
func NoteReset(unit, mountpoint string, mounts, kept []string) error {
	return halfway{Unit: unit, Mountpoint: mountpoint, Mounts: mounts, Kept: kept}.write()
}
