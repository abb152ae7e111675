package watch

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// Path is something to watch.
type Path struct {
	// Path may be a file, a directory, or not be there yet. Symlinks are followed, also where they change. A relative one
	// is relative to the working directory at [Files.Set].
	Path string
	// Match says which entries matter if Path is a directory, nil means all. Where such an entry is a symlink, what it
	// leads to matters too; what is in a subdirectory does not. Match is called by any goroutine; it must be quick and
	// always say the same of one name.
	Match func(name string) bool
}

// share is how much of one CPU walking the paths may take under a storm of events: a tenth. What happens while it rests
// is not lost, only told later, at most by longestRest.
const (
	share       = 10
	longestRest = time.Second
)

// Files tells when something changed at paths: the files themselves, written, replaced, deleted, chmod and chown
// included, and every directory and symlink on the way to them. Each walk of a path watches the directories that it
// comes through, up from /, so a file that appears, a symlink that is swapped, or a directory that is moved away
// and made anew is seen, and what is there then is watched from then on.
type Files struct {
	notify  *fsnotify.Watcher
	heard   *heard
	changes chan struct{}
	errs    chan error
	closing chan struct{}
	once    sync.Once
	running sync.WaitGroup

	mu      sync.Mutex // of all below
	closed  bool
	paths   []Path
	watches *watches
	view    *view
	told    string // what the last walk could not watch
}

// NewFiles returns one that watches nothing yet. It has to be closed.
func NewFiles() (*Files, error) {
	f, err := newFiles()
	if err != nil {
		return nil, err
	}
	f.running.Go(f.listen)
	f.running.Go(f.follow)
	return f, nil
}

func newFiles() (*Files, error) {
	notify, err := fsnotify.NewWatcher()
	switch {
	case errors.Is(err, unix.EMFILE):
		return nil, fmt.Errorf("cannot watch files: no descriptor or no inotify instance is left, "+
			"raise the limit or the sysctl fs.inotify.max_user_instances: %w", err)
	case err != nil:
		return nil, fmt.Errorf("cannot watch files: %w", err)
	}
	return &Files{
		notify:  notify,
		heard:   newHeard(),
		changes: make(chan struct{}, 1),
		errs:    make(chan error, 1),
		closing: make(chan struct{}),
		watches: newWatches(notify),
		view:    newWalk(nil).view,
	}, nil
}

// Changes has a hint in it when something changed since Set. It has room for one: changes while nobody reads are one. A
// hint comes when what is there now is watched already, so who reads the files after taking it misses nothing. Close
// closes the channel.
func (f *Files) Changes() <-chan struct{} { return f.changes }

// Errors has what goes wrong after Set: something that appeared cannot be watched. The same is told once. It has room
// for one, and what comes while nobody reads is dropped. Close closes it. A lost event is not an error but a change.
func (f *Files) Errors() <-chan error { return f.errs }

// Set says what to watch from now on, instead of what was before. What happens to the paths after Set returned is told,
// and so is what happened to those that were watched before; other paths should be read after Set, not before.
//
// No event tells that something was mounted over a path, or away from it: call Set with the same paths after [Mounts]
// told of a change. Set finds it, and gives a hint if it changed anything.
//
// It looks at every component of the paths and every entry that matters, some microseconds for each: with many entries,
// call it when there is a reason to.
//
// With an error, all that can be watched is: it says what cannot. One reason is a directory that the caller may not
// read; for root, that fs.inotify.max_user_watches is reached.
func (f *Files) Set(paths []Path) error {
	list := make([]Path, len(paths))
	for i, p := range paths {
		if p.Path == "" {
			return errors.New("cannot watch a path that is empty")
		}
		if !filepath.IsAbs(p.Path) {
			wd, err := filepath.Abs(".")
			if err != nil {
				return fmt.Errorf("cannot watch %q: %w", p.Path, err)
			}
			p.Path = wd + "/" + p.Path // filepath.Join would take "link/.." for nothing
		}
		list[i] = p
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return fmt.Errorf("cannot watch files: %w", fsnotify.ErrClosed)
	}
	f.paths = list
	err := f.walk(news{})
	f.told = text(err)
	return err
}

// Close ends the watching and closes the channels. It waits for a walk under way. A second Close does nothing.
func (f *Files) Close() error {
	var err error
	f.once.Do(func() {
		close(f.closing)
		// Under the lock: fsnotify's Close does not wait for an Add under way, which would then use a descriptor that is
		// something else by now.
		f.mu.Lock()
		f.closed = true
		err = f.notify.Close()
		f.mu.Unlock()
		f.running.Wait()
		close(f.changes)
		close(f.errs)
	})
	return err
}

// listen takes what fsnotify has, at once and always: events that wait in the kernel are lost when there are too many
// (fs.inotify.max_queued_events).
func (f *Files) listen() {
	for {
		select {
		case e, ok := <-f.notify.Events:
			if !ok {
				return
			}
			f.heard.event(e)
		case err, ok := <-f.notify.Errors:
			if !ok {
				return
			}
			f.heard.error(err)
		}
	}
}

// follow walks the paths again when something happened to them.
func (f *Files) follow() {
	for {
		select {
		case <-f.heard.some:
		case <-f.closing:
			return
		}
		rest := time.NewTimer(min((share-1)*f.handle(), longestRest))
		select {
		case <-rest.C:
		case <-f.closing:
			rest.Stop()
			return
		}
	}
}

// handle handles what was heard. It returns how long that took.
func (f *Files) handle() time.Duration {
	start := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return 0
	}
	events, lost, err := f.heard.take()
	f.complain(err)
	n := f.view.judge(events)
	n.lost = lost
	if n.look || n.lost {
		err := f.walk(n)
		if s := text(err); s != f.told {
			f.told = s
			f.complain(err)
		}
	}
	return time.Since(start)
}

func (f *Files) complain(err error) {
	if err == nil {
		return
	}
	select {
	case f.errs <- err:
	default:
	}
}

// walk walks all paths and gives a hint if there is reason to.
func (f *Files) walk(n news) error {
	doubt := below(n.doubt)
	if n.lost { // then all watches are made anew, which is reason for a hint
		doubt = func(string) bool { return true }
	}
	f.watches.begin(doubt)
	w := newWalk(f.watches.add)
	for _, p := range f.paths {
		w.path(p)
	}
	renewed := f.watches.end()
	if n.changed || renewed || f.view.differs(w.view) {
		tell(f.changes)
	}
	f.view = w.view
	return errors.Join(w.problems...)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
