package machine

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Suite is the code name of a Debian release.
type Suite string

// The releases that overlayd is tested on.
const (
	Bookworm Suite = "bookworm" // Debian 12: systemd 252, util-linux 2.38
	Trixie   Suite = "trixie"   // Debian 13: systemd 257, util-linux 2.41
)

// Suites lists the releases that overlayd is tested on.
func Suites() []Suite { return []Suite{Bookworm, Trixie} }

// packages is what a server has at least; the rest comes with minbase.
var packages = []string{"systemd", "systemd-sysv", "dbus", "mount", "util-linux", "procps"}

// leaveOut keeps files that no test reads out of the tree: a third of the
// files, and so a third of the time that each copy takes.
var leaveOut = []string{
	"/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/zoneinfo/*",
}

// masked units cost boot time or work in the background, and have nothing to
// do with mounts.
var masked = []string{
	"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer",
	"console-getty.service",
}

// recipe is the command that makes the tree of a suite at dir.
func (s Suite) recipe(dir string) []string {
	args := []string{"mmdebstrap", "--quiet", "--variant=minbase", "--include=" + strings.Join(packages, ",")}
	for _, pattern := range leaveOut {
		args = append(args, "--dpkgopt=path-exclude="+pattern)
	}
	return append(args, string(s), dir)
}

// key names the tree of a suite. It changes with the recipe, so that an old
// tree is never taken for a new one.
func (s Suite) key() string {
	text := strings.Join(slices.Concat(s.recipe(""), masked, []string{finishVersion}), "\n")
	return fmt.Sprintf("%s-%x", s, sha256.Sum256([]byte(text)))[:len(s)+13]
}

// finishVersion stands for the code of finish in the key: raise it with each change there.
const finishVersion = "1"

// finish turns what mmdebstrap made into the tree of a machine.
func finish(dir string) error {
	// mmdebstrap copies the name of the host it runs on.
	if err := os.Remove(filepath.Join(dir, "etc/hostname")); err != nil && !os.IsNotExist(err) {
		return err
	}
	// Empty, not missing and not "uninitialized": each copy gets an ID of its
	// own at its first boot, and that boot does not count as a first boot,
	// which would apply presets and ask questions on the console.
	if err := os.WriteFile(filepath.Join(dir, "etc/machine-id"), nil, 0o644); err != nil {
		return err
	}
	// The journal of all boots is dumped when a test fails.
	if err := os.MkdirAll(filepath.Join(dir, "var/log/journal"), 0o755); err != nil {
		return err
	}
	for _, unit := range masked {
		link := filepath.Join(dir, "etc/systemd/system", unit)
		if err := os.Remove(link); err != nil && !os.IsNotExist(err) {
			return err
		}
		if err := os.Symlink("/dev/null", link); err != nil {
			return err
		}
	}
	return nil
}
