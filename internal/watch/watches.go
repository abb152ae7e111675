package watch

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// watches keeps fsnotify's watches in step with the directories that matter. fsnotify (1.10) names a watch by the path
// it was added by, its label, and follows symlinks to get there. What one has to know of it:
//
//   - inotify has one watch for an inode. Adding a second path of it (a bind mount) succeeds and is forgotten: its
//     events come under the first label, and removing that ends both. So a directory is added once, and the first label
//     is dropped before the second takes its place.
//   - Adding a label again, when its path leads to another inode by now, leaves the old inode watched for ever; or, if
//     the new one has a label already, breaks the table, and the next Remove panics. So a label is always removed
//     before it is added. In between, things can go unnoticed: end tells of that.
//   - The watch of a directory that is moved or deleted is gone, and that of one whose filesystem is unmounted is gone
//     without a word. That of one whose ancestor is moved stays, under the wrong name. So each ancestor is watched too,
//     and WatchList asked what is left.
//   - If the kernel has removed a watch already that fsnotify wants to remove, the error is sent with the lock held
//     that Add needs: who reads Errors must not be who calls Add.
type watches struct {
	notify *fsnotify.Watcher
	held   map[string]fileID // by label
	label  map[fileID]string

	// Of the walk under way:
	left    map[string]bool   // what fsnotify still has, by label
	entered map[fileID]string // labels
	doubt   func(label string) bool
	renewed bool
}

func newWatches(notify *fsnotify.Watcher) *watches {
	return &watches{notify: notify, held: map[string]fileID{}, label: map[fileID]string{}}
}

// begin begins a walk. A watch that is in doubt may be on an inode that is not the one at its path.
func (w *watches) begin(doubt func(label string) bool) {
	w.left = map[string]bool{}
	for _, label := range w.notify.WatchList() {
		w.left[label] = true
	}
	w.entered = map[fileID]string{}
	w.doubt = doubt
	w.renewed = false
}

// add watches the directory at a path without symlinks, which was the inode id a moment ago. It returns the label that
// its events come under. If it is not that inode any more, or gone, there is an event about it in the directory above,
// and the next walk has it in doubt.
func (w *watches) add(path string, id fileID) (label string, err error) {
	if label, ok := w.entered[id]; ok {
		return label, nil
	}
	if old, ok := w.label[id]; ok {
		if old == path && w.left[path] && !w.doubt(path) {
			w.entered[id] = path
			return path, nil
		}
		w.drop(old)
		w.renewed = true
	}
	w.drop(path)
	switch err := w.notify.Add(path); {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return path, nil
	case errors.Is(err, unix.ENOSPC):
		return "", fmt.Errorf("no inotify watch is left, raise the sysctl fs.inotify.max_user_watches: %w", err)
	case err != nil:
		return "", err
	}
	w.held[path], w.label[id], w.entered[id] = id, path, path
	return path, nil
}

// end ends a walk: what it did not add is watched no longer. It tells whether there was a moment in which a directory
// that is watched was not.
func (w *watches) end() (renewed bool) {
	for label, id := range w.held {
		if w.entered[id] != label {
			w.drop(label)
		}
	}
	return w.renewed
}

// drop removes a watch, if there is one. That it is gone already is no error.
func (w *watches) drop(label string) {
	id, ok := w.held[label]
	if !ok {
		return
	}
	_ = w.notify.Remove(label)
	delete(w.held, label)
	delete(w.label, id)
}

// below returns a function that tells whether a path is one of the given, or below one.
func below(tops map[string]bool) func(path string) bool {
	return func(path string) bool {
		for len(tops) > 0 {
			if tops[path] {
				return true
			}
			if path == "/" {
				break
			}
			path = filepath.Dir(path)
		}
		return false
	}
}
