package probe

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// byBare is the least that leads to the same: a loop that knows what to do, checks nothing, and syncs nothing. It reads
// what it needs before the clock starts, and does without a process of its own.
func (f site) byBare(do string) (work, error) {
	if do == Plan {
		return work{call: func(context.Context) error { return readAll() }, quiet: true}, nil
	}
	all, err := f.files()
	if err != nil {
		return work{}, err
	}
	switch do {
	case Apply:
		return work{call: func(ctx context.Context) error { return all.bareApply(ctx) }, up: true}, nil
	case Add:
		return work{call: func(ctx context.Context) error {
			return all.One.bare(ctx, func() error { return all.One.write() }, false)
		}, watch: inLower}, nil
	case Change:
		changed := all.One.changed()
		return work{call: func(ctx context.Context) error {
			return changed.bare(ctx, changed.rewrite, true)
		}, watch: inExtra}, nil
	case Remove:
		return work{call: func(ctx context.Context) error {
			if err := all.One.bareRemove(); err != nil {
				return err
			}
			return reload(ctx)
		}}, nil
	case Destroy:
		return work{call: func(ctx context.Context) error { return all.bareDestroy(ctx) }, down: true}, nil
	}
	return work{}, nil
}

func (all files) bareApply(ctx context.Context) error {
	for _, dir := range []string{"upper", "scratch"} {
		if err := os.Mkdir(filepath.Join(Base, dir), 0o755); err != nil {
			return err
		}
	}
	for _, c := range all.Clients {
		if err := c.bareDirectories(); err != nil {
			return err
		}
	}
	if err := all.write(); err != nil {
		return err
	}
	if err := reload(ctx); err != nil {
		return err
	}
	for _, c := range all.Clients {
		if err := c.mount(); err != nil {
			return err
		}
	}
	return nil
}

func (all files) bareDestroy(ctx context.Context) error {
	for _, c := range all.Clients {
		if err := unix.Unmount(c.Mountpoint, unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("cannot unmount %s: %w", c.Mountpoint, err)
		}
		if err := os.Remove(c.Mountpoint); err != nil {
			return err
		}
	}
	if err := all.remove(); err != nil {
		return err
	}
	return reload(ctx)
}

// bare writes the unit of one client and mounts it, at once: systemd need not know of it before. What is mounted there
// goes away first, if there is something.
func (c client) bare(ctx context.Context, write func() error, mounted bool) error {
	if !mounted {
		if err := c.bareDirectories(); err != nil {
			return err
		}
	}
	if err := write(); err != nil {
		return err
	}
	if mounted {
		if err := unix.Unmount(c.Mountpoint, unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("cannot unmount %s: %w", c.Mountpoint, err)
		}
	}
	if err := c.mount(); err != nil {
		return err
	}
	return reload(ctx)
}

func (c client) bareRemove() error {
	if err := unix.Unmount(c.Mountpoint, unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("cannot unmount %s: %w", c.Mountpoint, err)
	}
	return c.remove()
}

func (c client) bareDirectories() error {
	for _, dir := range c.directories() {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

func (c client) mount() error {
	if err := unix.Mount("overlayd", c.Mountpoint, "overlay", 0, c.Options); err != nil {
		return fmt.Errorf("cannot mount %s: %w", c.Mountpoint, err)
	}
	return nil
}

func reload(ctx context.Context) error {
	m, err := connect(ctx)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := m.ReloadContext(ctx); err != nil {
		return fmt.Errorf("cannot have systemd reload: %w", err)
	}
	return nil
}

// readAll reads what has to be read to know that nothing has changed: the units and the mount table.
func readAll() error {
	entries, err := os.ReadDir(unitDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		if _, err := os.ReadFile(filepath.Join(unitDir, e.Name())); err != nil {
			return err
		}
	}
	_, err = os.ReadFile("/proc/self/mountinfo")
	return err
}
