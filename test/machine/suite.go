package machine

import (
	"context"
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

// recipe is the command that makes the tree of a suite, with more packages, at dir.
func (s Suite) recipe(more []string, dir string) []string {
	include := strings.Join(slices.Concat(packages, more), ",")
	args := []string{"mmdebstrap", "--quiet", "--variant=minbase", "--include=" + include}
	for _, pattern := range leaveOut {
		args = append(args, "--dpkgopt=path-exclude="+pattern)
	}
	return append(args, string(s), dir)
}

// tree says how the tree of a suite, with more packages, is made.
func (s Suite) tree(more []string) tree {
	name, what := string(s), "Debian "+string(s)
	if len(more) > 0 {
		name, what = name+"+"+short(more), what+" with "+strings.Join(more, ", ")
	}
	return newTree(name, what, slices.Concat(s.recipe(more, ""), masked, []string{finishVersion}),
		func(ctx context.Context, dir string) error {
			argv := s.recipe(more, dir)
			if out, err := isolated(ctx, argv...); err != nil {
				return fmt.Errorf("%s failed: %w\n%s", strings.Join(argv, " "), err, tail(out, 20))
			}
			return finish(dir)
		})
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
