package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/overlayd/overlayd/internal/agent/state"
	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

func (a *app) destroyCommand() *cobra.Command {
	var t targetFlags
	var f actFlags
	var purge bool
	cmd := &cobra.Command{
		Use:   "destroy [OPTION...] [PATH... | MOUNTPOINT]",
		Short: "Unmount overlays and remove their units",
		Long: `Destroy takes down all that was applied from the spec in PATH, by default
/etc/overlayd, or the one overlay at MOUNTPOINT, also one whose unit file is
gone. It shows what it would do, and asks. What the clients wrote is kept and
listed; with --purge the directories that overlayd itself made for them are
DELETED.

It exits 1 if anything failed, was skipped or is a conflict.`,
		Example: `  overlayd destroy
  overlayd destroy --target 'overlay.client["client_1"]'
  overlayd destroy /overlaytest/merged/client_1`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			return a.fail(a.destroy(cmd, args, f, &t, purge), f.json)
		},
	}
	t.register(cmd.Flags())
	f.register(cmd.Flags())
	cmd.Flags().BoolVar(&purge, "purge", false, "delete what the clients wrote, in directories that overlayd made")
	return cmd
}

func (a *app) destroy(cmd *cobra.Command, args []string, f actFlags, t *targetFlags, purge bool) error {
	look := a.host().LookAhead(f.autoApprove)
	defer look.Close()
	d, exactly, err := a.doomed(cmd, args, t)
	if err != nil {
		return err
	}
	b, err := a.begin(cmd, look, d, t)
	if err != nil {
		return err
	}
	defer b.Close()
	p := b.Plan()
	if !exactly && len(p.Changes) == 0 && len(t.texts) == 0 {
		fmt.Fprintf(a.err, "Nothing was applied from %s.\n", list(a.paths(args)))
	}
	a.warnOfAgent(p)
	question := "Destroy these overlays? What the clients wrote is kept."
	if purge {
		question = "Destroy these overlays, and delete what the clients wrote where overlayd made the directories?"
	}
	return a.act(cmd, b, f, reconcile.ApplyOptions{Purge: purge}, actWords{
		plan:     planWords{title: "Plan", inSync: "Nothing to do.", purge: purge},
		question: question, title: "Destroy",
	})
}

// warnOfAgent says that what is destroyed comes back, where an agent runs by a spec that declares it still.
func (a *app) warnOfAgent(p plan.Plan) {
	v := readAgent(state.Dir)
	if a.treeRoot() != "" || !v.running || v.state.Policy == string(plan.PolicyObserve) {
		return
	}
	scope := plan.Scope{Files: v.state.Paths, Dirs: v.state.Paths}
	for _, c := range p.Changes {
		if _, err := os.Stat(c.Source); c.Kind == plan.Delete && err == nil && scope.Contains(c.Source) {
			fmt.Fprintf(a.err, "Warning: the agent (process %d) mounts again what %s declares. Remove it there instead, or first "+
				"systemctl stop overlayd.\n", v.state.PID, plain(c.Source))
			return
		}
	}
}

// doomed says what is to go: what stands at one mountpoint (exactly), or all that came from the spec files named. The
// spec itself is not read, so that what a broken one declared can be destroyed, and what one declared that is gone.
func (a *app) doomed(cmd *cobra.Command, args []string, t *targetFlags) (d plan.Desired, exactly bool, err error) {
	if len(args) == 1 {
		d, found, err := a.host().Doomed(args[0])
		if found && len(t.texts) > 0 {
			err = usageError{errors.New("--target does not go with a MOUNTPOINT"), cmd}
		}
		if err != nil || found {
			return d, found, err
		}
	}
	var files, dirs, trusted []string
	var missing error
	for _, p := range a.paths(args) {
		info, err := os.Stat(p)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			files, dirs = append(files, p), append(dirs, p)
			missing = fmt.Errorf("cannot destroy what %s declares: there is no such file, and nothing was applied from "+
				"it; name a spec file, a directory of them, or the mountpoint of an overlay", p)
		case err != nil:
			return d, false, fmt.Errorf("cannot destroy what %s declares: %w", p, err)
		case info.IsDir():
			dirs = append(dirs, p)
			below, err := hclFiles([]string{p})
			if err != nil {
				return d, false, err
			}
			trusted = append(append(trusted, p), below...)
		default:
			files, trusted = append(files, p), append(trusted, p)
		}
	}
	if err := trust(trusted); err != nil {
		return d, false, err
	}
	d, err = a.host().DoomedFrom(reconcile.ScopeOf(files, dirs, a.treeRoot()))
	if err == nil && len(d.Scope.Mountpoints) == 0 && missing != nil && len(args) > 0 {
		err = missing
	}
	return d, false, err
}
