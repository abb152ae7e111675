package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/watch"
)

// load reads the spec. One that cannot be used leaves the one before in force.
func (a *agent) load(why trigger) {
	now := time.Now()
	a.stamp = a.specStamp()
	file := a.beingWritten()
	if file == "" {
		l := a.Load()
		if file = a.beingWritten(); file == "" {
			a.writing = time.Time{}
			a.take(l, why, now)
			return
		}
	}
	// Half a spec can be a whole one to the parser, with half the clients. There is no event when a file is closed that
	// fsnotify would pass on, so it is looked at again, less and less often.
	if a.writing.IsZero() {
		a.writing = now
	}
	a.schedule.spec.happened(now.Add(min(now.Sub(a.writing), patience)))
	if now.Sub(a.writing) >= patience || why == triggerStart {
		a.refuse(fmt.Errorf("%s is being written: a process has it open for writing", file), now)
	}
}

// specFilesNow gives all files that the spec is read from, directories included.
func (a *agent) specFilesNow() []string {
	var files []string
	for _, p := range a.Paths {
		files = append(files, p)
		entries, err := os.ReadDir(p)
		if err != nil {
			continue // a file, or nothing at all
		}
		for _, e := range entries {
			if isSpecName(e.Name()) {
				files = append(files, filepath.Join(p, e.Name()))
			}
		}
	}
	return files
}

// specStamp tells one state of the files of the spec from another, without reading them.
func (a *agent) specStamp() string {
	var b strings.Builder
	for _, file := range a.specFilesNow() {
		var st unix.Stat_t
		if err := unix.Stat(file, &st); err != nil {
			fmt.Fprintf(&b, "%q %v\n", file, err)
			continue
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			fmt.Fprintf(&b, "%q %d:%d\n", file, st.Dev, st.Ino) // other entries come and go
			continue
		}
		fmt.Fprintf(&b, "%q %d:%d %d %v %v\n", file, st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim)
	}
	return b.String()
}

// stale tells whether the spec is not the one any more that was read last. An event that says so may still be on its
// way.
func (a *agent) stale() bool { return a.stamp != a.specStamp() }

// beingWritten gives a file of the spec that somebody has open for writing, "" for none.
func (a *agent) beingWritten() string {
	for _, file := range a.specFilesNow() {
		if writing, known := watch.BeingWritten(file); writing && known {
			return file
		}
	}
	return ""
}

// take puts a spec in force, if it can be used.
func (a *agent) take(l Loaded, why trigger, now time.Time) {
	if text := strings.Join(l.Warnings, "\n"); text != a.warned {
		a.warned = text
		for _, w := range l.Warnings {
			a.Log.Warn(w)
		}
	}
	a.empty = false
	if l.Err == nil && len(l.Desired.Overlays) == 0 {
		if l.Err = a.deletesAll(l.Desired.Scope); l.Err != nil {
			a.empty, a.settings = true, l.Settings
		}
	}
	if l.Err != nil {
		if a.spec.Loaded.IsZero() {
			a.settings = l.Settings // what can be told of them
		}
		a.refuse(l.Err, now)
		return
	}
	if a.spec.Error != "" {
		a.Log.Info("the spec can be used again")
	}
	if why == triggerHangup {
		a.backoff.forgive() // somebody wants it tried now
	}
	if a.spec.Loaded.IsZero() || a.settings != l.Settings {
		declared := fmt.Sprintf("%d overlays", len(l.Desired.Overlays))
		if len(l.Desired.Overlays) == 1 {
			declared = "1 overlay"
		}
		a.Log.Infof("policy %s, a look at everything each %s, %s declared", l.Settings.Policy, l.Settings.Resync, declared)
	}
	a.inForce = a.stamp
	a.settings, a.desired, a.index = l.Settings, l.Desired, plan.NewIndex(l.Desired)
	a.spec.Loaded, a.spec.Overlays, a.spec.Error, a.spec.ErrorSince = now, len(l.Desired.Overlays), "", time.Time{}
}

// deletesAll gives an error if a spec without any overlay would delete some: more often than not, its files are just
// not where they should be.
func (a *agent) deletesAll(s plan.Scope) error {
	applied, err := a.applied(s)
	if err != nil || len(applied) == 0 {
		return err
	}
	return fmt.Errorf("the spec has no overlay, and %d applied from it stay as they are; if they are to go, say "+
		"overlayd apply --allow-empty", len(applied))
}

// refuse says why the spec cannot be used, once.
func (a *agent) refuse(err error, now time.Time) {
	if a.spec.Error == err.Error() {
		return
	}
	if a.spec.Error == "" {
		a.spec.ErrorSince = now
	}
	a.spec.Error = err.Error()
	stays := "the one before stays in force"
	if a.spec.Loaded.IsZero() {
		stays = "what was applied is kept as it is"
	}
	a.Log.WithError(err).Error("cannot use the spec; " + stays)
}

// fallBack puts in force what was applied, where there is no spec to go by: none could be read so far, or it has no
// overlay. In that case it is no error any more when the last one has been deleted by somebody who meant it.
func (a *agent) fallBack() {
	if !a.spec.Loaded.IsZero() && !a.empty {
		return
	}
	overlays, err := a.applied(a.Scope)
	if err != nil {
		a.Log.WithError(err).Error("cannot tell what was applied")
	}
	a.desired = plan.Desired{Overlays: overlays}
	a.index = plan.NewIndex(a.desired)
	a.spec.Overlays = len(overlays)
	if a.empty && err == nil && len(overlays) == 0 {
		a.empty, a.inForce = false, a.stamp
		a.spec.Loaded, a.spec.Error, a.spec.ErrorSince = time.Now(), "", time.Time{}
	}
}

// applied gives what was applied from the spec, as it is applied.
func (a *agent) applied(s plan.Scope) ([]plan.Overlay, error) {
	d, err := a.Host.Applied()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(d.Overlays, func(o plan.Overlay) bool { return !s.Contains(o.Source) }), nil
}
