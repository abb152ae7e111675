package probe

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Ways to bring overlays up and down.
const (
	ByOverlayd = "overlayd"
	ByFstab    = "fstab"
	ByBare     = "bare"
	ByAnsible  = "ansible" // and BySystemctl
)

// What is done with them, one after the other. Only Capture, Drop and Clean are not worth a clock.
const (
	Capture = "capture" // have overlayd write the units that the others need
	Apply   = "apply"   // all of them, from nothing
	Plan    = "plan"    // nothing has changed
	Again   = "again"   // apply, and nothing has changed
	Status  = "status"
	Drift   = "drift"
	Add     = "add"    // one more
	Change  = "change" // the one gets another layer
	Remove  = "remove" // the one
	Destroy = "destroy"
	Clean   = "clean" // whatever there is, by force
)

// Step is one thing that is done in one way.
type Step struct {
	Way      string
	Do       string
	Overlays int
	Patience time.Duration // when it is given up
}

// Took is how long a step took, in seconds from its beginning, and what its command needed.
type Took struct {
	Ended   float64 `json:"ended"`   // until the last command had ended
	Seen    float64 `json:"seen"`    // until a file could be seen through the one mount that is added or changed
	Settled float64 `json:"settled"` // until systemd knew of all mounts, and the command had ended
	Peak    int64   `json:"peak"`    // bytes resident at most, of the last command
}

// work is a step, taken apart.
type work struct {
	before   func(ctx context.Context) error // off the clock
	commands [][]string                      // on the clock, one after the other
	call     func(ctx context.Context) error // on the clock, in place of commands
	watch    string                          // a file that shows when the one mount is there
	up, down bool                            // whether all units have to be active or inactive in the end
	quiet    bool                            // it changes nothing, so that systemd has nothing to do afterwards
}

// window is how long systemd remembers events of the mount table: it takes in 5 of them at once, and the others when
// the window ends (since version 252). A clock starts with a new one.
const window = time.Second

// Run does it. The machine is at rest when it returns.
func (s Step) Run(ctx context.Context) (took Took, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.Patience, fmt.Errorf("not done after %v", s.Patience))
	defer cancel()
	f := site{overlays: s.Overlays}
	w, err := f.work(s.Way, s.Do)
	if err != nil {
		return took, err
	}
	if w.before != nil {
		if err := w.before(ctx); err != nil {
			return took, fmt.Errorf("cannot prepare it: %w", err)
		}
	}
	if w.up || w.down {
		if err := sleep(ctx, window); err != nil {
			return took, err
		}
	}
	took, err = f.clock(ctx, w)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%w (%w)", cause, err)
		}
		return took, err
	}
	if w.quiet {
		return took, nil
	}
	return took, f.rest(ctx)
}

func (f site) work(way, do string) (work, error) {
	switch do {
	case Capture:
		return work{call: f.capture}, nil
	case Clean:
		return work{call: f.clean}, nil
	}
	ways := map[string]func(string) (work, error){
		ByOverlayd: f.byOverlayd, ByFstab: f.byFstab, BySystemctl: f.bySystemctl, ByBare: f.byBare, ByAnsible: f.byAnsible,
	}
	if ways[way] == nil {
		return work{}, fmt.Errorf("there is no way %q", way)
	}
	w, err := ways[way](do)
	if err == nil && w.commands == nil && w.call == nil {
		err = fmt.Errorf("%s has no step %q", way, do)
	}
	return w, err
}

// Spec is a spec of so many overlays, each with directories of its own on one lowerdir.
func Spec(overlays int) []byte {
	return fmt.Appendf(nil, `overlay "client" {
  for_each   = toset([for i in range(%d) : format("%%05d", i)])
  lowerdirs  = ["%[2]s/lower"]
  upperdir   = "%[2]s/upper/${each.key}"
  workdir    = "%[2]s/scratch/${each.key}"
  mountpoint = "%[2]s/m/${each.key}"
}
`, overlays, Base)
}

// SpecOfOne is a spec of one overlay.
func SpecOfOne(name string, lowerdirs ...string) []byte {
	return fmt.Appendf(nil, `overlay "%[2]s" {
  lowerdirs  = %[3]s
  upperdir   = "%[1]s/upper/%[2]s"
  workdir    = "%[1]s/scratch/%[2]s"
  mountpoint = "%[1]s/m/%[2]s"
}
`, Base, name, list(lowerdirs))
}

func list(paths []string) string {
	quoted := make([]string, len(paths))
	for i, p := range paths {
		quoted[i] = strconv.Quote(p)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

const (
	specOfAll = "/etc/overlayd/bench.hcl"
	specOfOne = "/etc/overlayd/one.hcl"
)

func (f site) byOverlayd(do string) (work, error) {
	overlayd := func(args ...string) [][]string { return [][]string{append([]string{"overlayd"}, args...)} }
	apply := overlayd("apply", "--auto-approve")
	write := func(file string, text []byte) func(context.Context) error {
		return func(context.Context) error { return os.WriteFile(file, text, 0o644) }
	}
	switch do {
	case Apply:
		return work{before: write(specOfAll, Spec(f.overlays)), commands: apply, up: true}, nil
	case Plan, Status, Drift:
		return work{commands: overlayd(do), quiet: true}, nil
	case Again:
		return work{commands: apply}, nil
	case Add:
		return work{before: write(specOfOne, SpecOfOne(one, lower)), commands: apply, watch: inLower}, nil
	case Change:
		return work{before: write(specOfOne, SpecOfOne(one, extra, lower)), commands: apply, watch: inExtra}, nil
	case Remove:
		return work{before: func(context.Context) error { return os.Remove(specOfOne) }, commands: apply}, nil
	case Destroy:
		return work{commands: overlayd("destroy", "--auto-approve"), down: true}, nil
	}
	return work{}, nil
}
