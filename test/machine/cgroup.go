package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// cgroups are the folders of the control group that this process is in: one in
// the unified hierarchy, and, where systemd's version 1 hierarchy is mounted
// besides, one there too.
//
// Each machine gets a group of its own below it. Without one, systemd-nspawn
// calls the group of every machine "payload", and two systemds would then
// manage, and kill, each other's processes.
type cgroups struct{ unified, legacy string }

func ownCgroups() (cgroups, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return cgroups{}, err
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return cgroups{}, err
	}
	var c cgroups
	for line := range strings.Lines(string(own)) {
		id, group, ok := strings.Cut(strings.TrimSpace(line), ":/")
		if !ok {
			continue
		}
		switch {
		case id == "0:":
			c.unified = below(string(table), "/"+group, "cgroup2", "")
		case strings.HasSuffix(id, ":name=systemd"):
			c.legacy = below(string(table), "/"+group, "cgroup", "name=systemd")
		}
	}
	if c.unified == "" {
		return c, errors.New("booting machines needs a cgroup2 filesystem, at /sys/fs/cgroup or /sys/fs/cgroup/unified")
	}
	return c, nil
}

// below finds the folder of a group in the mount table.
func below(table, group, fstype, option string) string {
	for line := range strings.Lines(table) {
		before, after, ok := strings.Cut(line, " - ")
		fields, super := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(super) < 3 || super[0] != fstype || !strings.Contains(super[2], option) {
			continue
		}
		// A mount of a part of the hierarchy shows paths below its root.
		if rest, ok := strings.CutPrefix(group, strings.TrimSuffix(fields[3], "/")); ok {
			return filepath.Join(fields[4], rest)
		}
	}
	return ""
}

func (c cgroups) dir(name string) string { return filepath.Join(c.unified, "overlayd-"+name) }

// make creates the group of a machine and opens it, for clone(2).
func (c cgroups) make(name string) (*os.File, error) {
	if err := os.Mkdir(c.dir(name), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("cannot make a control group: %w", err)
	}
	return os.Open(c.dir(name))
}

// remove removes the groups of a machine whose processes are gone. What the
// kernel still holds is left to the next sweep.
func (c cgroups) remove(name string) {
	roots := []string{c.dir(name)}
	if c.legacy != "" {
		roots = append(roots, filepath.Join(c.legacy, "overlayd-"+name))
	}
	for _, root := range roots {
		var dirs []string
		// A group that is not there is as good as removed.
		_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for _, dir := range slices.Backward(dirs) {
			_ = os.Remove(dir)
		}
	}
}
