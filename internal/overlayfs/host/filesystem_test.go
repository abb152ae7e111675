package host_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs/host"
)

// TestMayFold: only a kernel that says what it can, and does not say this, is known not to fold case.
func TestMayFold(t *testing.T) {
	sysfs := t.TempDir()
	for _, dir := range []string{"ext4/features/casefold", "f2fs/features"} {
		if err := os.MkdirAll(filepath.Join(sysfs, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for magic, want := range map[int64]bool{
		unix.EXT4_SUPER_MAGIC: true,
		unix.F2FS_SUPER_MAGIC: false,
		unix.TMPFS_MAGIC:      true,
		unix.XFS_SUPER_MAGIC:  false,
	} {
		if got := host.MayFold(sysfs, magic); got != want {
			t.Errorf("filesystem %#x: %t, want %t", magic, got, want)
		}
	}
}
