package overlayfs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
)

// Limits of what one mount(2) call can carry.
const (
	// MaxOptionsLen is the longest kernel data overlayd hands out. The kernel copies one page and cuts the rest
	// silently; the difference to 4095 leaves room for a security context that is added on the way.
	MaxOptionsLen = 4000
	// MaxLayers is the kernel's OVL_MAX_STACK.
	MaxLayers = 500
)

// Config is what one overlay is made of. Paths are plain, without any escaping; lowerdirs are topmost first.
type Config struct {
	Lower []string `json:"lowerdirs"`
	// Data holds data-only layers ("::" or datadir+). They are only ever read from a live mount.
	Data    []string `json:"datadirs,omitempty"`
	Upper   string   `json:"upperdir,omitempty"`
	Work    string   `json:"workdir,omitempty"`
	Options Options  `json:"options"`
}

// Options maps an option's name to its value; a bare flag has the value "".
// It holds filesystem options, per-mount flags and options for user space alike; ClassOf tells them apart.
type Options map[string]string

// Clone returns a copy that can be changed on its own; the copy of nil is empty, not nil.
func (o Options) Clone() Options {
	c := make(Options, len(o))
	maps.Copy(c, o)
	return c
}

// MarshalJSON writes bare flags as true and all else as strings, sorted by name.
func (o Options) MarshalJSON() ([]byte, error) {
	m := make(map[string]any, len(o))
	for name, value := range o {
		if value == "" {
			m[name] = true
		} else {
			m[name] = value
		}
	}
	return json.Marshal(m)
}

// UnmarshalJSON reads what MarshalJSON writes, and nothing else.
func (o *Options) UnmarshalJSON(data []byte) error {
	var m map[string]any
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&m); err != nil {
		return fmt.Errorf("cannot read options: %w", err)
	}
	if m == nil {
		*o = nil
		return nil
	}
	out := make(Options, len(m))
	for name, value := range m {
		switch v := value.(type) {
		case string:
			if v == "" {
				return fmt.Errorf("cannot read option %q: the value is empty, a bare flag is written as true", name)
			}
			out[name] = v
		case bool:
			if !v {
				return fmt.Errorf("cannot read option %q: a flag is true or absent, not false", name)
			}
			out[name] = ""
		default:
			return fmt.Errorf("cannot read option %q: %v is neither a string nor true", name, value)
		}
	}
	*o = out
	return nil
}
