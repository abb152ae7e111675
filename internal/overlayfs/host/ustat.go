//go:build !arm64 && !riscv64 && !loong64

package host

import "golang.org/x/sys/unix"

// ustat waits for a super block that is just being ended, and is EINVAL when there is none (fs/statfs.c, 5.10 to 6.18).
func ustat(dev uint32) error {
	var buf unix.Ustat_t
	return unix.Ustat(int(dev), &buf)
}
