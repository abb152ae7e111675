package reconcile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/safedir"
)

// planFormat is the version of the plan file; another one is refused.
const planFormat = "1.0"

// Agreed is what somebody agrees to who says yes to one change of a plan, or saves it. Where processes come and go
// meanwhile the agreement holds.
type Agreed struct {
	Address    string     `json:"address"`
	Change     plan.Kind  `json:"change"`
	Unit       string     `json:"unit"`
	Mountpoint string     `json:"mountpoint"`
	Via        plan.Via   `json:"via"`
	Disruptive bool       `json:"disruptive"`
	Before     *plan.View `json:"before"`
	UnitText   string     `json:"unit_text,omitempty"`
	Removes    []string   `json:"removes,omitempty"`
	Unmounts   []string   `json:"unmounts,omitempty"`
	Stops      []string   `json:"stops,omitempty"` // dependent units
	Reasons    []string   `json:"reasons,omitempty"`
}

func (a Agreed) equal(b Agreed) bool {
	return a.Address == b.Address && a.Change == b.Change && a.Unit == b.Unit && a.Mountpoint == b.Mountpoint &&
		a.Via == b.Via && a.Disruptive == b.Disruptive && a.UnitText == b.UnitText &&
		sameLayers(a.Before, b.Before) &&
		slices.Equal(a.Removes, b.Removes) && slices.Equal(a.Unmounts, b.Unmounts) && slices.Equal(a.Stops, b.Stops)
}

// sameLayers tells whether what stands there is the same overlay.
func sameLayers(a, b *plan.View) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Mountpoint == b.Mountpoint && slices.Equal(a.Lowerdirs, b.Lowerdirs) && a.Upperdir == b.Upperdir &&
		a.Workdir == b.Workdir
}

// Agree gives what a yes to the plan means.
func Agree(p plan.Plan) []Agreed {
	out := []Agreed{} // not nil: agreeing to nothing is not agreeing to anything
	for _, c := range p.Changes {
		if c.Kind == plan.NoOp {
			continue
		}
		a := Agreed{
			Address: c.Address, Change: c.Kind, Unit: c.Unit, Mountpoint: c.Mountpoint, Via: c.Via,
			Disruptive: c.Disruptive, Before: c.Before, Removes: c.Do.Remove, Stops: c.Impact.Units, Reasons: c.Reasons,
		}
		if c.Do.Write != nil {
			a.UnitText = string(c.Do.Write.Render())
		}
		for _, l := range c.Do.Unmount {
			a.Unmounts = append(a.Unmounts, l.Mountpoint)
		}
		out = append(out, a)
	}
	return out
}

// otherwise says in what a plan differs from the one agreed to: the first address that does.
func otherwise(agreed, now []Agreed) string {
	find := func(in []Agreed, address string) *Agreed {
		i := slices.IndexFunc(in, func(a Agreed) bool { return a.Address == address })
		if i < 0 {
			return nil
		}
		return &in[i]
	}
	for _, a := range slices.Concat(agreed, now) {
		was, is := find(agreed, a.Address), find(now, a.Address)
		switch {
		case was == nil:
			return fmt.Sprintf("%s: nothing was planned, it needs %s now", a.Address, is.Change)
		case is == nil:
			return fmt.Sprintf("%s: %s was planned, it needs nothing now", a.Address, was.Change)
		case was.Change != is.Change:
			return fmt.Sprintf("%s: %s was planned, it needs %s now", a.Address, was.Change, is.Change)
		case !was.equal(*is):
			return fmt.Sprintf("%s: %s was planned, and it needs another one now", a.Address, was.Change)
		}
	}
	return "the changes would come in another order"
}

// SavedPlan is what a plan file holds: all that an apply needs, so that it uses nothing of the spec.
type SavedPlan struct {
	FormatVersion string       `json:"format_version"`
	Kind          string       `json:"kind"` // "overlayd plan", which tells it from a spec
	Version       string       `json:"overlayd_version"`
	MachineID     string       `json:"machine_id"`
	Desired       plan.Desired `json:"desired"`
	Targets       []string     `json:"targets,omitempty"`
	Changes       []Agreed     `json:"changes"`
}

const planKind = "overlayd plan"

// Save writes a plan file, readable by nobody else: it says where everything on the host lies.
func (h *Host) Save(file, version string, d plan.Desired, targets []string, p plan.Plan) error {
	id, err := h.machineID()
	if err != nil {
		return fmt.Errorf("cannot save plan to %s: %w", file, err)
	}
	s := SavedPlan{
		FormatVersion: planFormat, Kind: planKind, Version: version, MachineID: id, Desired: d, Targets: targets,
		Changes: Agree(p),
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot save plan to %s: %w", file, err)
	}
	if err := renameio.WriteFile(file, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("cannot save plan to %s: %w", file, err)
	}
	return nil
}

// IsPlanFile tells a plan file from a spec, by what it begins with.
func IsPlanFile(file string) bool {
	text, err := os.ReadFile(file)
	if err != nil || !bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		return false
	}
	var s struct{ Kind string }
	return json.Unmarshal(text, &s) == nil && s.Kind == planKind
}

// Open reads a plan file and refuses one that was made elsewhere, by another version, or that others can write.
func (h *Host) Open(file, version string) (SavedPlan, error) {
	var s SavedPlan
	if err := safedir.CheckOwner(absPath(file)); err != nil {
		return s, fmt.Errorf("cannot use plan %s: %w", file, err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return s, fmt.Errorf("cannot read plan: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, fmt.Errorf("cannot read plan %s: %w; plan again", file, err)
	}
	id, err := h.machineID()
	switch {
	case err != nil:
		return s, err
	case s.FormatVersion != planFormat:
		return s, fmt.Errorf("cannot use plan %s: its format is %s, this overlayd reads %s; plan again", file,
			s.FormatVersion, planFormat)
	case s.Version != version:
		return s, fmt.Errorf("cannot use plan %s: overlayd %s made it, this is %s; plan again", file, s.Version, version)
	case s.MachineID != id:
		return s, fmt.Errorf("cannot use plan %s: it was made on another machine; plan again here", file)
	case s.Changes == nil:
		return s, errors.New("cannot use plan " + file + ": it has no changes; plan again")
	}
	return s, nil
}

// machineID reads machine-id(5). A tree that is prepared, or a container, may have none.
func (h *Host) machineID() (string, error) {
	text, err := os.ReadFile(filepath.Join("/", h.Root, "etc/machine-id"))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot read machine id: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
