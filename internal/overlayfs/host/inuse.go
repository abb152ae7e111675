package host

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// goingLimit is how long a super block may take to go after its last mount has. The kernel takes a mount out of the
// table first; umount(2) then writes back what the clients wrote, and ends the super block on its way out.
const goingLimit = 100 * time.Millisecond

// InUse gives those of the directories that some overlay has as its upperdir or workdir, whether it is in a mount table
// or not: somebody may use, and write to, what "umount --lazy" took out of sight. For those that are just going it
// waits a moment, for all together. What cannot be found out counts as free.
//
// Each try leaves a line in the kernel's log.
func InUse(uppers []string) map[string]bool {
	used := map[string]bool{}
	for _, u := range uppers {
		if inUse(u) {
			used[u] = true
		}
	}
	for pause := 2 * time.Millisecond; len(used) > 0 && pause < goingLimit; pause *= 3 {
		time.Sleep(pause)
		for u := range used {
			if !inUse(u) {
				delete(used, u)
			}
		}
	}
	return used
}

// inUse asks the kernel. With index=on it says EBUSY to a second mount on an upperdir; only after that it looks at the
// workdir, and an upperdir that is its own workdir is no good to it. So this mounts nothing, and changes nothing
// (fs/overlayfs/super.c, ovl_fill_super(), 5.10 to 6.18).
func inUse(upper string) bool {
	c := overlayfs.Config{
		Lower: []string{upper}, Upper: upper, Work: upper, Options: overlayfs.Options{"index": "on"},
	}
	fd, err := openDir(upper)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return errors.Is(unix.Mount("overlayd", fdPath(fd), "overlay", 0, c.KernelData()), unix.EBUSY)
}
