// Package scramble makes random trees, does random things to them, and says what came of it. It is for tests of what
// overlayd concludes from an upperdir: the tree is a lowerdir, the random things happen through a real overlay, and
// [Diff] and [Same] walk the views in full, with nothing in common with the code under test.
//
// The same seed does the same. Run it as root, since owners, devices and trusted xattrs are among the random things.
// Do not point Diff or Same at a raw upperdir: to them an overlay's marks are xattrs and devices like others. Base and
// merged are to be views, which for several lowers means a read-only overlay of them.
package scramble

// Options say what a tree may hold besides what every overlay can.
type Options struct {
	// OCI leaves out what a layer of an OCI image cannot hold (sockets, xattrs with a = in their names) or what some of
	// its readers do not put back: xattrs without a value, default ACLs (podman 4 lets files inherit them that have no
	// ACL), and times before 1970.
	OCI bool
	// WhiteoutNames adds names that begin with ".wh.", which an OCI layer takes for deletions.
	WhiteoutNames bool
	// Private is an xattr prefix, "trusted.overlay." or "user.overlay.". Xattrs with it are set through the mount;
	// since Linux 6.7 the kernel escapes them, before that it refuses them. "" sets none.
	Private string
	// OneName gives every file that Tree makes one name only.
	OneName bool
	// SameTimes adds changes of contents that leave size and mtime as they were.
	SameTimes bool
}
