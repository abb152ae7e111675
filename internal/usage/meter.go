package usage

import "sync"

// meter keeps account of how far a measurement is.
type meter struct {
	report func(done, steps int, entries int64)

	mu      sync.Mutex
	done    int
	steps   int
	entries int64
}

func (m *meter) add(entries int) { m.tell(0, entries) }

func (m *meter) step() { m.tell(1, 0) }

func (m *meter) tell(steps, entries int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += steps
	m.entries += int64(entries)
	if m.report != nil {
		m.report(m.done, m.steps, m.entries)
	}
}
