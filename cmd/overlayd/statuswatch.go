package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/agent/state"
	"github.com/overlayd/overlayd/internal/watch"
)

const (
	// watchPause is how long the screen stays as it is at least. Eyes are not faster.
	watchPause = 200 * time.Millisecond
	// watchTick is how long at most: a net under events that get lost.
	watchTick = time.Minute
)

// watchStatus shows the states until it is interrupted.
func (a *app) watchStatus(cmd *cobra.Command, args []string, f specFlags, asJSON bool) error {
	file, _ := fileOf(a.out)
	switch t, _ := a.env("TERM"); {
	case asJSON:
		return usageError{errors.New("--watch is for people, so there is no --json of it"), cmd}
	case a.treeRoot() != "":
		return usageError{errors.New("--watch follows what is mounted on this host; nothing is in a tree of --root"), cmd}
	case !isTerminal(a.out):
		return usageError{errors.New("--watch needs a terminal, and standard output is none"), cmd}
	case t == "" || t == "dumb":
		return usageError{fmt.Errorf("--watch cannot draw on this terminal (TERM=%s)", t), cmd}
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	mounts, err := watch.Mounts(ctx)
	if err != nil {
		return err
	}
	files, err := watch.NewFiles()
	if err != nil {
		return err
	}
	defer files.Close()
	paths := a.watchedPaths(args, f)
	look := func(ctx context.Context) (watchView, error) {
		// Before the looking, so that what happens meanwhile is heard; each time, since no event tells that something
		// was mounted over a path.
		unseen := files.Set(paths)
		v, err := a.watchView(ctx, args, f)
		if unseen != nil {
			v.notes = append(v.notes, fmt.Sprintf("changes show only once in %s: %v", watchTick, unseen))
		}
		return v, err
	}
	first, err := look(ctx)
	if err != nil {
		return err
	}
	resized, stopped := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(resized, unix.SIGWINCH)
	defer signal.Stop(resized)
	signal.Notify(stopped, unix.SIGTSTP)
	defer signal.Stop(stopped)
	tick := time.NewTicker(watchTick)
	defer tick.Stop()

	s := &screen{f: file}
	defer s.leave()
	if err := s.enter(); err != nil {
		return err
	}
	loop := watchLoop{
		mounts: mounts, files: files.Changes(), resized: resized, stopped: stopped, tick: tick.C, after: time.After,
		look: func(ctx context.Context) (watchView, error) {
			defer func() {
				if p := recover(); p != nil {
					s.leave() // else nobody could read it
					panic(p)
				}
			}()
			return look(ctx)
		},
		draw: func(v watchView) error {
			width, height := s.size()
			return s.show(v.frame(painter(a.colour(a.out)), width, height))
		},
		suspend: func() error { return suspend(s) },
	}
	return loop.run(ctx, first)
}

// watchedPaths are the files that the states depend on.
func (a *app) watchedPaths(args []string, f specFlags) []watch.Path {
	spec := func(name string) bool { return strings.HasSuffix(name, ".hcl") && !strings.HasPrefix(name, ".") }
	unit := func(name string) bool { return strings.HasSuffix(name, ".mount") || name == "overlayd.target" }
	var out []watch.Path
	for _, p := range a.paths(args) {
		out = append(out, watch.Path{Path: p, Match: spec})
	}
	for _, v := range f.values {
		if v.File {
			out = append(out, watch.Path{Path: v.Arg})
		}
	}
	const units = "/etc/systemd/system"
	wants := filepath.Join(units, "overlayd.target.wants")
	return append(out, watch.Path{Path: units, Match: unit}, watch.Path{Path: wants, Match: unit},
		watch.Path{Path: state.Path(state.Dir)})
}

// watchView looks at the host.
func (a *app) watchView(ctx context.Context, args []string, f specFlags) (watchView, error) {
	l, rows, err := a.status(ctx, args, f)
	v := watchView{at: time.Now(), host: a.hostName(), rows: rows, agent: readAgent(state.Dir), explains: l.explains()}
	broken := slices.DeleteFunc(slices.Clone(l.diags), func(d *hcl.Diagnostic) bool { return d.Severity != hcl.DiagError })
	if len(broken) > 0 {
		v.notes = append(v.notes, fmt.Sprintf("The spec is left out, as it has %s (overlayd validate). The first: %s",
			count(len(broken), "error"), oneLine(broken[0])))
	}
	return v, err
}

// oneLine is a diagnostic without the source it is about.
func oneLine(d *hcl.Diagnostic) string {
	text := strings.ReplaceAll(d.Summary+": "+d.Detail, "\n", " ")
	if d.Subject != nil {
		text = fmt.Sprintf("%s:%d: %s", d.Subject.Filename, d.Subject.Start.Line, text)
	}
	return text
}

// suspend does what Ctrl-Z asks for, with the screen given back meanwhile.
func suspend(s *screen) error {
	s.leave()
	goOn := make(chan os.Signal, 1)
	signal.Notify(goOn, unix.SIGCONT)
	defer signal.Stop(goOn)
	if err := unix.Kill(unix.Getpid(), unix.SIGSTOP); err != nil {
		return fmt.Errorf("cannot stop this process: %w", err)
	}
	<-goOn // the signal is on its way while we run on
	return s.enter()
}

// watchLoop looks again when something has happened, and draws what it sees. At most one look is under way, and it
// never waits for it: an interrupt ends the loop at once.
type watchLoop struct {
	mounts, files    <-chan struct{}
	resized, stopped <-chan os.Signal
	tick             <-chan time.Time
	after            func(time.Duration) <-chan time.Time

	look    func(context.Context) (watchView, error)
	draw    func(watchView) error
	suspend func() error
}

// run ends when ctx does, or the terminal fails.
func (w watchLoop) run(ctx context.Context, shown watchView) error {
	type seen struct {
		view watchView
		err  error
		took time.Duration
	}
	views := make(chan seen, 1)
	var pause <-chan time.Time
	looking, due := false, false
	err := w.draw(shown)
	for err == nil {
		if due && !looking && pause == nil {
			due, looking = false, true
			go func() {
				began := time.Now()
				v, err := w.look(ctx)
				views <- seen{v, err, time.Since(began)}
			}()
		}
		select {
		case <-ctx.Done():
			return nil
		case _, open := <-w.mounts:
			due = true
			if !open {
				w.mounts = nil // the tick goes on
			}
		case <-w.files:
			due = true
		case <-w.tick:
			due = true
		case <-pause:
			pause = nil
		case <-w.resized:
			err = w.draw(shown)
		case <-w.stopped:
			if err = w.suspend(); err == nil {
				due = true
				err = w.draw(shown)
			}
		case s := <-views:
			looking = false
			// Under a storm of events half the time is left to others.
			pause = w.after(max(watchPause, s.took))
			if s.err != nil {
				shown.notes = []string{fmt.Sprintf("Cannot look at the host since: %v", s.err)}
			} else {
				shown = s.view
			}
			err = w.draw(shown)
		}
	}
	return err
}
