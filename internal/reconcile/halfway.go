package reconcile

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
)

// halfway is the note that an overlay is down for a reset. A killed reset leaves it, and the next run, of reset or
// apply, brings back what the reset took down. After a reboot systemd has done so, and /run is empty.
type halfway struct {
	Unit       string   `json:"unit"`
	Mountpoint string   `json:"mountpoint"`
	Units      []string `json:"units,omitempty"`  // that were stopped with the mount
	Mounts     []string `json:"mounts,omitempty"` // mountpoints of overlays that stand on it, and went down with it
	Kept       []string `json:"kept,omitempty"`   // where what the client wrote is set aside
}

func halfwayDir() string { return filepath.Join(runDir, "reset") }

// halfwayFile is named by a hash: with a suffix, the name of a unit can be too long for a file.
func halfwayFile(unit string) string {
	return filepath.Join(halfwayDir(), fmt.Sprintf("%x.json", sha256.Sum256([]byte(unit))))
}

func (n halfway) write() error {
	text, err := json.Marshal(n)
	if err == nil {
		err = os.MkdirAll(halfwayDir(), 0o700)
	}
	if err == nil {
		err = renameio.WriteFile(halfwayFile(n.Unit), text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot note the reset of %s: %w", n.Mountpoint, err)
	}
	return nil
}

// readHalfway reads the note about a unit's overlay, if there is one.
func readHalfway(unit string) (n halfway, found bool, err error) {
	text, err := os.ReadFile(halfwayFile(unit))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return n, false, nil // none, or not root, who alone could go on with it
	}
	if err == nil {
		err = json.Unmarshal(text, &n)
	}
	if err != nil {
		return n, false, fmt.Errorf("cannot read the note about an interrupted reset %s: %w", halfwayFile(unit), err)
	}
	return n, true, nil
}

// halfways reads all notes. One that cannot be read is nobody's any more.
func halfways() []halfway {
	entries, err := os.ReadDir(halfwayDir())
	if err != nil {
		return nil // none, or not root
	}
	var out []halfway
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(halfwayDir(), e.Name()))
		var n halfway
		if err == nil && strings.HasSuffix(e.Name(), ".json") && json.Unmarshal(text, &n) == nil {
			out = append(out, n)
		}
	}
	return out
}

func clearHalfway(unit string) error {
	if err := os.Remove(halfwayFile(unit)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove the note about a reset: %w", err)
	}
	return nil
}
