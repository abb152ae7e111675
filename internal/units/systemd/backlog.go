package systemd

import (
	"context"
	"slices"
	"sync"
)

// backlog holds the events that the reader has not taken yet, each once: he looks after he took one, and so sees what
// happened again meanwhile. What does not fit is folded into Anything.
type backlog struct {
	more chan struct{}

	mu   sync.Mutex
	list []Event
}

const backlogMax = 256

func newBacklog() *backlog { return &backlog{more: make(chan struct{}, 1)} }

// put never blocks.
func (b *backlog) put(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	anything := Event{Kind: Anything}
	switch {
	case slices.Contains(b.list, anything) || slices.Contains(b.list, e):
		return
	case e == anything || len(b.list) == backlogMax:
		b.list = append(b.list[:0], anything)
	default:
		b.list = append(b.list, e)
	}
	select {
	case b.more <- struct{}{}:
	default:
	}
}

func (b *backlog) take() (Event, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.list) == 0 {
		return Event{}, false
	}
	e := b.list[0]
	b.list = slices.Delete(b.list, 0, 1)
	return e, true
}

// deliver hands the events to the reader until the context ends.
func (b *backlog) deliver(ctx context.Context, events chan<- Event) {
	for {
		e, ok := b.take()
		if !ok {
			select {
			case <-b.more:
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case events <- e:
		case <-ctx.Done():
			return
		}
	}
}
