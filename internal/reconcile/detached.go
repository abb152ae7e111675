package reconcile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// detachedMount is an overlay that was taken out of the tree while processes used it (on_busy = "detach"). They go on
// writing to its upperdir, and no mount table shows it any more, so it is remembered until they are gone.
type detachedMount struct {
	Mountpoint string           `json:"mountpoint"`
	Upper      overlayfs.FileID `json:"upper"`
	Work       overlayfs.FileID `json:"work"`
	Holders    []user           `json:"holders"`
}

// user is a process, told from a later one of the same number by when it started. Files that it hands on to others
// are not followed.
type user struct {
	PID     int    `json:"pid"`
	Started string `json:"started"` // field 22 of proc_pid_stat(5), in clock ticks since boot
}

func detachedFile() string { return filepath.Join(runDir, "detached.json") }

// noteDetached remembers a mount that is about to be detached, and who uses it.
func (h *Host) noteDetached(l plan.Live, users []overlayfs.Process, o *plan.Observed) error {
	m := detachedMount{Mountpoint: l.Mountpoint, Upper: o.Paths[l.Upper].ID, Work: o.Paths[l.Work].ID}
	for _, p := range users {
		if s, ok := started(p.PID); ok {
			m.Holders = append(m.Holders, user{p.PID, s})
		}
	}
	all, err := readDetached()
	if err != nil {
		return err
	}
	text, err := json.Marshal(append(all, m))
	if err != nil {
		return fmt.Errorf("cannot note the detached mount %s: %w", l.Mountpoint, err)
	}
	if err := renameio.WriteFile(detachedFile(), text, 0o600); err != nil {
		return fmt.Errorf("cannot note the detached mount %s: %w", l.Mountpoint, err)
	}
	return nil
}

// readDetached gives the detached mounts that some process still uses.
func readDetached() ([]detachedMount, error) {
	text, err := os.ReadFile(detachedFile())
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, nil // none, or not root, who alone could mount
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read which mounts were detached: %w", err)
	}
	var all, alive []detachedMount
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("cannot read which mounts were detached: %s: %w", detachedFile(), err)
	}
	for _, m := range all {
		var left []user
		for _, p := range m.Holders {
			if s, ok := started(p.PID); ok && s == p.Started {
				left = append(left, p)
			}
		}
		if m.Holders = left; len(left) > 0 {
			alive = append(alive, m)
		}
	}
	return alive, nil
}

// started gives when a living process started.
func started(pid int) (string, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", false
	}
	// The command, in parentheses, may contain anything; the rest are numbers. State is field 3.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return "", false
	}
	return fields[19], true
}

// uses gives every live writable overlay: of this mount namespace, of all others, and those that were detached.
func (h *Host) uses(t *overlayfs.Table) ([]overlayfs.Use, error) {
	uses, err := host.OverlayUses(t)
	if err != nil {
		return nil, err
	}
	return withDetached(uses)
}

// usesButCopies gives what uses gives, but for the copies of our own overlays in other mount namespaces. It does where
// nothing is to go down.
func (h *Host) usesButCopies(o *plan.Observed) ([]overlayfs.Use, error) {
	var known *host.Namespaces
	if h.Memory != nil {
		known = &h.Memory.namespaces
	}
	uses, err := known.Uses(o.Mounts, o.ID)
	if err != nil {
		return nil, err
	}
	return withDetached(uses)
}

func withDetached(uses []overlayfs.Use) ([]overlayfs.Use, error) {
	detached, err := readDetached()
	if err != nil {
		return nil, err
	}
	for _, m := range detached {
		uses = append(uses, overlayfs.Use{
			Mountpoint: m.Mountpoint, PID: m.Holders[0].PID, Upper: m.Upper, Work: m.Work, Detached: true,
		})
	}
	return uses, nil
}
