package probe

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Overlay is one of those that are measured.
type Overlay struct {
	Mountpoint string
	Unit       string
	Options    string // for mount(2)
}

// Overlays reads the mount units of overlayd from systemd's directory, sorted by mountpoint. It takes them by the word:
// nothing in them is escaped as long as the benchmarks use plain names.
func Overlays(dir string) ([]Overlay, error) {
	files, err := filepath.Glob(dir + "/*.mount")
	if err != nil {
		return nil, err
	}
	var out []Overlay
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("cannot read a unit: %w", err)
		}
		if o := overlayOf(text); o.Mountpoint != "" {
			o.Unit = filepath.Base(file)
			out = append(out, o)
		}
	}
	slices.SortFunc(out, func(a, b Overlay) int { return strings.Compare(a.Mountpoint, b.Mountpoint) })
	return out, nil
}

// overlayOf reads a unit; of one that is not overlayd's there is no mountpoint.
func overlayOf(text []byte) Overlay {
	var o Overlay
	ours := false
	for line := range bytes.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(string(line)), "=")
		switch key {
		case "[X-Overlayd]":
			ours = true
		case "Where":
			o.Mountpoint = value
		case "Options":
			// nofail is a word between systemd and mount(8).
			options := slices.DeleteFunc(strings.Split(value, ","), func(o string) bool { return o == "nofail" })
			o.Options = strings.Join(options, ",")
		}
	}
	if !ours {
		return Overlay{}
	}
	return o
}

// countMounts counts the mounts of overlayd's.
func countMounts() (int, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return 0, fmt.Errorf("cannot read the mount table: %w", err)
	}
	return bytes.Count(text, []byte(" - overlay overlayd ")), nil
}
