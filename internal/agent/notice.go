package agent

import (
	"sync"

	"github.com/overlayd/overlayd/internal/agent/state"
)

// notice is the state file. That the agent is stopping is told at once, by another goroutine than the one at work.
type notice struct {
	dir string

	mu       sync.Mutex
	last     *state.State // nil before the first
	stopping bool
	ended    bool
}

// tell writes how things stand.
func (n *notice) tell(s state.State) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last = &s
	return n.write()
}

// stop tells that the agent ends when the action under way has.
func (n *notice) stop() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stopping = true
	return n.write()
}

func (n *notice) write() error {
	if n.last == nil || n.ended {
		return nil
	}
	s := *n.last
	s.Stopping = n.stopping
	return state.Write(n.dir, s)
}

// end takes the file away; nothing is told after it.
func (n *notice) end() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ended = true
	return state.Remove(n.dir)
}
