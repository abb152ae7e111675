package doctor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs/host"
)

// cacheFile keeps what the kernel said about its options. /run does not outlive a boot, but a container may have it
// from another kernel, or a suspended machine's image; so the note says which boot it is about.
const cacheFile = "/run/overlayd/kernel-options.json"

type optionCache struct {
	BootID  string          `json:"boot_id"`
	Kernel  string          `json:"kernel"`
	Options map[string]bool `json:"options"`
}

// kernelOptions gives what the running kernel takes, from the note or else by trying, which takes root.
func kernelOptions(release string) (map[string]bool, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("cannot tell this boot from others: %w", err)
	}
	key := optionCache{BootID: string(bytes.TrimSpace(boot)), Kernel: release}
	if options, ok := readCache(cacheFile, key); ok {
		return options, nil
	}
	if key.Options, err = host.TrialOptions(); err != nil {
		return nil, err
	}
	// Without the note the next run tries again, which is no harm.
	_ = writeCache(cacheFile, key)
	return key.Options, nil
}

// readCache reads a note that root wrote in this boot. One that is damaged, or that does not tell of all there is to
// know, from another version of overlayd, is none.
func readCache(file string, key optionCache) (map[string]bool, bool) {
	const most = 1 << 20
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Uid != 0 || st.Mode&unix.S_IFMT != unix.S_IFREG ||
		st.Mode&0o022 != 0 {
		return nil, false
	}
	text, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return nil, false
	}
	var c optionCache
	if json.Unmarshal(text, &c) != nil || c.BootID != key.BootID || c.Kernel != key.Kernel {
		return nil, false
	}
	names := host.Options()
	for _, name := range names {
		if _, ok := c.Options[name]; !ok {
			return nil, false
		}
	}
	return c.Options, len(c.Options) == len(names)
}

func writeCache(file string, c optionCache) error {
	text, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("cannot note what the kernel takes: %w", err)
	}
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot note what the kernel takes: %w", err)
	}
	err = renameio.WriteFile(file, append(text, '\n'), 0o644, renameio.IgnoreUmask(), renameio.WithTempDir(dir))
	if err != nil {
		return fmt.Errorf("cannot note what the kernel takes: %w", err)
	}
	return nil
}
