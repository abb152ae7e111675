package watch

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// mostHeard is how many names are remembered until somebody looks; with more, it is as if events had been lost.
const mostHeard = 1 << 14

// heard is what fsnotify told and nobody looked at yet. It has a lock of its own, so that listening never waits for a
// walk.
type heard struct {
	some chan struct{} // room for one

	mu     sync.Mutex
	events map[string]fsnotify.Op
	lost   bool
	err    error
}

func newHeard() *heard {
	return &heard{some: make(chan struct{}, 1), events: map[string]fsnotify.Op{}}
}

func (h *heard) event(e fsnotify.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.events) < mostHeard {
		h.events[e.Name] |= e.Op
	} else {
		h.lost = true
	}
	tell(h.some)
}

func (h *heard) error(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lost = true
	// A full queue loses events and nothing else. EINVAL is about the watch of a directory that was moved, then deleted.
	if !errors.Is(err, fsnotify.ErrEventOverflow) && !errors.Is(err, unix.EINVAL) {
		h.err = fmt.Errorf("cannot follow what changes in the watched directories: %w", err)
	}
	tell(h.some)
}

// take takes all that was heard: what happened by path, whether there was more, and an error.
func (h *heard) take() (events map[string]fsnotify.Op, lost bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	events, lost, err = h.events, h.lost, h.err
	h.events, h.lost, h.err = map[string]fsnotify.Op{}, false, nil
	return events, lost, err
}

// news is what events mean for the paths watched.
type news struct {
	look    bool            // something that matters may have changed
	changed bool            // it did
	lost    bool            // anything may have changed, and any watch may be wrong
	doubt   map[string]bool // directories that may be others by now, and what is below them
}

// judge tells what events mean.
func (v *view) judge(events map[string]fsnotify.Op) news {
	n := news{doubt: map[string]bool{}}
	const moved = fsnotify.Create | fsnotify.Remove | fsnotify.Rename
	for path, op := range events {
		// fsnotify does not tell an event of a watched directory itself from one of the entry that it is in the directory
		// above. Of / and of what is mounted there is only the first kind. One that was moved or deleted lost its watch.
		if len(v.by[path]) > 0 {
			n.look = true
		}
		name := filepath.Base(path) // of "//name" too, which is what fsnotify makes of an entry of /
		for _, at := range v.by[filepath.Dir(path)] {
			if !v.dirs[at].matters(name) {
				continue
			}
			n.look = true
			// Attributes can be compared, and atime is of no interest. The rest is a change even if all looks as before: what
			// is written within one tick of the clock leaves no trace, and what was replaced may be back.
			if op&^fsnotify.Chmod != 0 {
				n.changed = true
			}
			if below := filepath.Join(at, name); op&moved != 0 && v.dirs[below] != nil {
				n.doubt[below] = true
			}
		}
	}
	return n
}
