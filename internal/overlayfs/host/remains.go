package host

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// remainsLimit is how long a super block may take to go after its last mount has. The kernel takes a mount out of the
// table first; umount(2) then writes back what the clients wrote, and ends the super block on its way out.
const remainsLimit = 100 * time.Millisecond

// Remains tells whether the super block of an overlay that has left the mount table is there still: somebody uses what
// "umount --lazy" took out of sight, and writes to its upperdir. dev is its device as in the table, "0:45". One that is
// just going is waited for.
func Remains(dev, upper string) bool {
	var major, minor uint32
	if n, err := fmt.Sscanf(dev, "%d:%d", &major, &minor); n != 2 || err != nil {
		return false
	}
	end := time.Now().Add(remainsLimit)
	for ; ; time.Sleep(time.Millisecond) {
		switch err := ustat(minor&0xff | major<<8 | minor&^0xff<<12); { // new_encode_dev(), linux/kdev_t.h
		case err == nil && time.Now().After(end):
			return !shown(dev)
		case err == nil || errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM):
			return remainsUsed(upper, end)
		default: // EINVAL: there is none
			return false
		}
	}
}

// remainsUsed does without ustat(2), which arm64 never had, and which filters of containers refuse. It leaves a line in
// the kernel's log with each try.
func remainsUsed(upper string, end time.Time) bool {
	for inUse(upper) {
		if time.Now().After(end) {
			return true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return false
}

// inUse tells whether an overlay has the directory as its upperdir or workdir. With index=on the kernel says EBUSY to a
// second one; only then it looks at the workdir, and an upperdir that is its own workdir is no good to it. So this
// mounts nothing, and changes nothing (fs/overlayfs/super.c, ovl_fill_super(), 5.10 to 6.18).
func inUse(upper string) bool {
	c := overlayfs.Config{
		Lower: []string{upper}, Upper: upper, Work: upper, Options: overlayfs.Options{"index": "on"},
	}
	return errors.Is(Mount("overlayd", upper, c), unix.EBUSY)
}

// shown tells whether some mount namespace has a mount with this device: then it is another super block's by now, or
// one that all can see, of which the table tells.
func shown(dev string) bool {
	field := []byte(" " + dev + " ")
	own, err := os.ReadFile("/proc/self/mountinfo")
	found := err != nil || bytes.Contains(own, field)
	err = OtherNamespaces(func(n Namespace) { found = found || bytes.Contains(n.Table, field) })
	return found || err != nil
}
