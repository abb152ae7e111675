package state

import "time"

// Dir is where the state of the agent of this host is.
const Dir = "/run/overlayd"

// State is what the agent knows and does. Times that are zero have not come.
type State struct {
	// PID and StartTime say which process it is; see Self.
	PID       int    `json:"pid"`
	StartTime uint64 `json:"start_time"`

	Version  string    `json:"version"`
	Since    time.Time `json:"since"` // when the agent started
	Policy   string    `json:"policy"`
	Paths    []string  `json:"paths"` // of the spec
	Stopping bool      `json:"stopping"`
	Spec     Spec      `json:"spec"`
	// Reconciled is when the agent last looked at the host as a whole.
	Reconciled time.Time `json:"reconciled,omitzero"`

	// Pending is what waits for an administrator: held back by the policy, stopped
	// by systemctl, in use. Conflicts is what the host makes impossible.
	Pending   []Pending `json:"pending"`
	Conflicts []Pending `json:"conflicts"`
	// Failed is what went wrong and is tried again.
	Failed []Failure `json:"failed"`
	// Omitted counts what Write left out of these lists.
	Omitted Omitted `json:"omitted"`

	// LastChange is the last thing that the agent did, nil for nothing yet.
	LastChange *Done `json:"last_change"`

	// Written is when the file was written. Read sets it.
	Written time.Time `json:"-"`
}

// Spec is how the agent stands to the spec.
type Spec struct {
	// Loaded is when the one in force was read. It is zero when none could be
	// since the agent started; then what is applied is in force.
	Loaded   time.Time `json:"loaded,omitzero"`
	Overlays int       `json:"overlays"` // in force
	// Error is why the spec as it is now is not in force, "" if it is.
	Error      string    `json:"error"`
	ErrorSince time.Time `json:"error_since,omitzero"`
}

// Pending is a change that the agent does not make.
type Pending struct {
	Address    string `json:"address"`
	Change     string `json:"change"` // a plan.Kind
	Mountpoint string `json:"mountpoint"`
	// Reason is why there is something to change. Held is why the agent does not
	// do it, "" for a conflict.
	Reason string    `json:"reason"`
	Held   string    `json:"held"`
	Since  time.Time `json:"since"`
}

// Failure is a change that failed, or that was undone right after it was made.
type Failure struct {
	Address    string    `json:"address"`
	Change     string    `json:"change"`
	Mountpoint string    `json:"mountpoint"`
	Error      string    `json:"error"`
	At         time.Time `json:"at"`            // the last time
	Times      int       `json:"times"`         // in a row
	Next       time.Time `json:"next,omitzero"` // when it is tried again
}

// Done is a change that was made.
type Done struct {
	Address    string    `json:"address"`
	Change     string    `json:"change"`
	Mountpoint string    `json:"mountpoint"`
	Reason     string    `json:"reason"`
	At         time.Time `json:"at"`
}

// Omitted counts entries that are not in the file.
type Omitted struct {
	Pending   int `json:"pending"`
	Conflicts int `json:"conflicts"`
	Failed    int `json:"failed"`
}

// The file is written often and kept in memory, so it stays small whatever
// happens on a host of 10,000 overlays.
const (
	maxEntries = 100
	maxText    = 1000
	maxError   = 8000 // of a spec, which may have many errors
)

// bounded is s without what would make the file too large.
func (s State) bounded() State {
	s.Spec.Error = cut(s.Spec.Error, maxError)
	s.Paths, _ = head(s.Paths)
	var left int
	s.Pending, left = head(s.Pending)
	s.Omitted.Pending += left
	s.Conflicts, left = head(s.Conflicts)
	s.Omitted.Conflicts += left
	s.Failed, left = head(s.Failed)
	s.Omitted.Failed += left
	for _, list := range [][]Pending{s.Pending, s.Conflicts} {
		for i := range list {
			list[i].Reason, list[i].Held = cut(list[i].Reason, maxText), cut(list[i].Held, maxText)
		}
	}
	for i := range s.Failed {
		s.Failed[i].Error = cut(s.Failed[i].Error, maxText)
	}
	if s.LastChange != nil {
		last := *s.LastChange
		last.Reason = cut(last.Reason, maxText)
		s.LastChange = &last
	}
	return s
}

// head returns a copy of the first entries, never nil, and how many there are
// more.
func head[T any](list []T) ([]T, int) {
	n := min(len(list), maxEntries)
	return append([]T{}, list[:n]...), len(list) - n
}

// cut shortens a text to about limit bytes.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	// Half a character at the end becomes U+FFFD in JSON.
	for limit > 0 && s[limit]&0xc0 == 0x80 {
		limit--
	}
	return s[:limit] + "…"
}
