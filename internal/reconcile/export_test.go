package reconcile

import (
	"time"

	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// NoteReset leaves the note that a reset leaves that is killed while its overlay is down.
func NoteReset(unit, mountpoint string, mounts, kept []string) error {
	return halfway{Unit: unit, Mountpoint: mountpoint, Mounts: mounts, Kept: kept}.write()
}

// Trusting gives a memory that relies on unit files that were written this very moment, for tests that cannot wait.
func Trusting() *Memory {
	return &Memory{now: func() time.Time { return time.Now().Add(time.Hour) }}
}

// Remembered tells how many unit files a memory would not read again.
func (m *Memory) Remembered() int { return len(m.ours) }

// ObserveAround is Observe of what desire gives, which is called in the middle of it.
func (h *Host) ObserveAround(desire func() plan.Desired) (*plan.Observed, error) {
	g, err := h.glance()
	if err != nil {
		return nil, err
	}
	return h.observe(g, desire())
}
