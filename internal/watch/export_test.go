package watch

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Stepped is a Files that runs when a test says so: whether a hint follows on something is then no question of time.
type Stepped struct {
	*Files
	marks string
	n     int
}

// NewStepped makes one. What is done in the directory marks is of no interest to it.
func NewStepped(t *testing.T, marks string) *Stepped {
	t.Helper()
	f, err := newFiles()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := f.notify.Add(marks); err != nil {
		t.Fatal(err)
	}
	f.running.Go(func() {
		for err := range f.notify.Errors {
			f.heard.error(err)
		}
	})
	return &Stepped{Files: f, marks: marks}
}

// Marks is the directory of no interest.
func (s *Stepped) Marks() string { return s.marks }

// Step lets it handle all that happened up to now, and tells whether there is a hint.
func (s *Stepped) Step(t *testing.T) bool {
	t.Helper()
	s.n++
	mark := filepath.Join(s.marks, fmt.Sprint(s.n))
	if err := os.Mkdir(mark, 0o700); err != nil {
		t.Fatal(err)
	}
	late := time.After(time.Minute)
	for heard := false; !heard; {
		select {
		case e := <-s.notify.Events: // in the order in which things happened, for all watches
			s.heard.event(e)
			heard = e.Name == mark
		case <-late:
			t.Fatal("fsnotify does not tell of the mark")
		}
	}
	s.handle()
	select {
	case <-s.changes:
		return true
	default:
		return false
	}
}

// Overflow is what a full queue of events looks like.
func (s *Stepped) Overflow() { s.heard.error(fsnotify.ErrEventOverflow) }

// Event is an event of fsnotify's.
type Event = fsnotify.Event

// Judge tells which directories are in doubt after events.
func (f *Files) Judge(events ...Event) []string {
	h := newHeard()
	for _, e := range events {
		h.event(e)
	}
	all, _, _ := h.take()
	return slices.Sorted(maps.Keys(f.view.judge(all).doubt))
}

// Watches are watches by themselves.
type Watches struct{ *watches }

// NewWatches makes them.
func NewWatches(notify *fsnotify.Watcher) Watches { return Watches{newWatches(notify)} }

// Walk adds directories, each as the inode that is at another path, with those in doubt that are at or below the
// given. It tells whether a moment went unwatched.
func (w Watches) Walk(t *testing.T, doubt []string, dirs ...[2]string) bool {
	t.Helper()
	tops := map[string]bool{}
	for _, top := range doubt {
		tops[top] = true
	}
	w.begin(below(tops))
	for _, dir := range dirs {
		if _, err := w.add(dir[0], lookAt(dir[1]).id); err != nil {
			t.Fatal(err)
		}
	}
	return w.end()
}

// Watched returns the directories watched.
func (f *Files) Watched() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.watches.held))
}

// Kept returns the directories that fsnotify watches.
func (f *Files) Kept() []string {
	list := f.notify.WatchList()
	slices.Sort(list)
	return list
}

// MountTable is what Mounts waits with.
type MountTable = mountTable

// OpenMountTable opens it.
var OpenMountTable = openMountTable

// Wait waits for one of its two events.
func (m mountTable) Wait() (changed, ended bool, err error) { return m.wait() }

// Stop makes Wait end.
func (m mountTable) Stop() { m.stop() }

// Close closes it.
func (m mountTable) Close() { m.close() }
