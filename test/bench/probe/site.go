package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Base is where everything is: on the disk of the machine, as clients are.
const Base = "/srv/bench"

const (
	unitDir = "/etc/systemd/system"
	fstab   = "/etc/fstab"
	lower   = Base + "/lower"
	extra   = Base + "/extra" // the layer that the one overlay gets
	one     = "one"           // the overlay that comes and changes among many

	// What shows which layers the one has; the disk comes with both.
	inLower = Base + "/m/one/in-lower"
	inExtra = Base + "/m/one/in-extra"

	prewritten = Base + "/prewritten.json"
	unitsOfAll = "srv-bench-m-*.mount"
	target     = "overlayd.target"
)

// site is the machine with so many overlays on it, however they came there.
type site struct{ overlays int }

// files are what overlayd wrote for all overlays and the one: what systemd has to have so that they are mounted at the
// next boot, too.
type files struct {
	Clients []client
	One     client
	Target  string // the text of overlayd.target
}

type client struct {
	Overlay
	Text string // of the unit
}

func (c client) name() string { return filepath.Base(c.Mountpoint) }

// directories of a client, none of which is there before.
func (c client) directories() []string {
	return []string{Base + "/upper/" + c.name(), Base + "/scratch/" + c.name(), c.Mountpoint}
}

func (c client) file() string { return filepath.Join(unitDir, c.Unit) }
func (c client) link() string { return filepath.Join(unitDir, target+".wants", c.Unit) }

// changed is the client with another layer on top.
func (c client) changed() client {
	c.Options = strings.Replace(c.Options, "lowerdir="+lower, "lowerdir="+extra+":"+lower, 1)
	c.Text = strings.Replace(c.Text, "lowerdir="+lower, "lowerdir="+extra+":"+lower, 1)
	c.Text = strings.Replace(c.Text, `"`+lower+`"`, `"`+extra+`" "`+lower+`"`, 1)
	return c
}

// capture has overlayd write all units, keeps what it wrote, and takes everything away again.
func (f site) capture(ctx context.Context) error {
	text := append(Spec(f.overlays), SpecOfOne(one, lower)...)
	if err := os.WriteFile(specOfAll, text, 0o644); err != nil {
		return err
	}
	if err := run(ctx, "overlayd", "apply", "--auto-approve"); err != nil {
		return err
	}
	overlays, err := Overlays(unitDir)
	if err != nil {
		return err
	}
	var all files
	for _, o := range overlays {
		text, err := os.ReadFile(filepath.Join(unitDir, o.Unit))
		if err != nil {
			return err
		}
		c := client{Overlay: o, Text: string(text)}
		if c.name() == one {
			all.One = c
			continue
		}
		all.Clients = append(all.Clients, c)
	}
	if len(all.Clients) != f.overlays || all.One.Unit == "" {
		return fmt.Errorf("overlayd has written units for %d overlays, not for %d and one", len(all.Clients), f.overlays)
	}
	text, err = os.ReadFile(filepath.Join(unitDir, target))
	if err != nil {
		return err
	}
	all.Target = string(text)
	if text, err = json.Marshal(all); err != nil {
		return err
	}
	if err := os.WriteFile(prewritten, text, 0o644); err != nil {
		return err
	}
	if err := run(ctx, "overlayd", "destroy", "--auto-approve"); err != nil {
		return err
	}
	return f.clean(ctx)
}

// files reads what capture has kept.
func (f site) files() (all files, err error) {
	text, err := os.ReadFile(prewritten)
	if err != nil {
		return all, err
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return all, fmt.Errorf("cannot read %s: %w", prewritten, err)
	}
	if len(all.Clients) != f.overlays {
		return all, fmt.Errorf("%s has %d overlays, not %d", prewritten, len(all.Clients), f.overlays)
	}
	return all, nil
}

// clean brings the machine back to what it was, whatever is there.
func (f site) clean(ctx context.Context) error {
	mounts, err := mountpoints()
	if err != nil {
		return err
	}
	for _, at := range slices.Backward(mounts) {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("cannot unmount %s: %w", at, err)
		}
	}
	units, err := filepath.Glob(filepath.Join(unitDir, unitsOfAll))
	if err != nil {
		return err
	}
	gone := append(units, filepath.Join(unitDir, target), filepath.Join(unitDir, target+".wants"),
		filepath.Join(unitDir, "multi-user.target.wants", target), specOfAll, specOfOne,
		Base+"/m", Base+"/upper", Base+"/scratch")
	// It is not there unless a step of overlayd's has failed.
	_ = exec.CommandContext(ctx, "systemctl", "stop", target).Run()
	for _, path := range gone {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	if err := errors.Join(os.Mkdir(Base+"/m", 0o755), editFstab(nil)); err != nil {
		return err
	}
	m, err := connect(ctx)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := m.ReloadContext(ctx); err != nil {
		return fmt.Errorf("cannot have systemd reload: %w", err)
	}
	// Failed ones stay known until they are forgotten on purpose.
	_ = exec.CommandContext(ctx, "systemctl", "reset-failed", unitsOfAll).Run()
	if err := m.forgotten(ctx); err != nil {
		return err
	}
	// So that nobody has to wait for what the one before him has left to be written.
	unix.Sync()
	return nil
}

// rest waits until systemd and its journal have nothing to do any more.
func (f site) rest(ctx context.Context) error {
	pids := []int{1}
	text, err := os.ReadFile("/sys/fs/cgroup/system.slice/systemd-journald.service/cgroup.procs")
	if err != nil {
		return fmt.Errorf("cannot find the journal's process: %w", err)
	}
	var journal int
	if _, err := fmt.Sscan(string(text), &journal); err == nil {
		pids = append(pids, journal)
	}
	return Rest(ctx, pids...)
}

// mountpoints are those of all overlays, in the order of the mount table.
func mountpoints() ([]string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cannot read the mount table: %w", err)
	}
	return mountpointsIn(string(text)), nil
}

func mountpointsIn(table string) []string {
	const mountpoint = 4 // counted from 0
	var out []string
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) > mountpoint && strings.HasPrefix(fields[mountpoint], Base+"/m/") {
			out = append(out, fields[mountpoint])
		}
	}
	return out
}

// editFstab makes fstab have these lines of the benchmark's, and no others.
func editFstab(lines []string) error {
	text, err := os.ReadFile(fstab)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.WriteFile(fstab, []byte(fstabWith(string(text), lines)), 0o644)
}

func fstabWith(text string, lines []string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if !strings.Contains(line, " "+Base+"/m/") {
			out.WriteString(line)
		}
	}
	for _, line := range lines {
		out.WriteString(line + "\n")
	}
	return out.String()
}
