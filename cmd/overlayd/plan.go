package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

func (a *app) planCommand() *cobra.Command {
	var f specFlags
	var t targetFlags
	var asJSON, all, detailed bool
	var out string
	cmd := &cobra.Command{
		Use:   "plan [OPTION...] [PATH...]",
		Short: "Show how the host differs from the spec",
		Long: `Plan compares the spec with the unit files and the mount table of this host and
shows what apply would do, why, and what it would hit. It never writes to the
host. PATH is a file or a directory, by default /etc/overlayd.

With --as it shows what it would say if PATH lay at PLACE: a directory instead
of the whole directory there, a file among the other files of its directory.

With --detailed-exitcode it exits 2 when the host is not in sync, conflicts
included, 0 when it is, 1 on errors.`,
		Example: `  overlayd plan
  overlayd plan --out today.plan && overlayd apply today.plan
  overlayd plan --as /etc/overlayd new-directory`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if all && !asJSON {
				return usageError{fmt.Errorf("--all goes with --json"), cmd}
			}
			if err := f.checkAs(cmd, args); err != nil {
				return err
			}
			if f.as != "" && out != "" {
				return usageError{errors.New("--out saves what apply is to do, and what is not in place cannot be " +
					"applied: use it without --as"), cmd}
			}
			look := a.host().LookAhead(false)
			defer look.Close()
			l, err := a.mustLoad(args, f, asJSON)
			if err != nil {
				return err
			}
			a.showDiagnostics(loaded{spec: l.spec, diags: distrust(l.files())})
			p, err := a.plan(cmd, look, l.desired, &t, out)
			if err != nil {
				return a.fail(err, asJSON)
			}
			if asJSON {
				err = a.writeJSON(newPlanJSON(p, all))
			} else {
				a.writePlan(a.out, p, planWords{title: "Plan", inSync: fmt.Sprintf("The host is as the spec says: %s.",
					count(len(l.desired.Overlays), "overlay"))})
				if out != "" {
					fmt.Fprintf(a.err, "Saved: overlayd apply %s does exactly this, or refuses.\n", out)
				}
			}
			if err == nil && detailed && !p.InSync() {
				return exitCode(exitDiffers)
			}
			return err
		},
	}
	f.register(cmd.Flags())
	f.registerAs(cmd.Flags())
	t.register(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the plan as JSON")
	cmd.Flags().BoolVar(&all, "all", false, "with --json: also the overlays that need nothing")
	cmd.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit 2 when the host is not as the spec says")
	cmd.Flags().StringVar(&out, "out", "", "save the plan to `FILE`, for apply")
	return cmd
}

// plan makes a plan, and saves it if asked.
func (a *app) plan(cmd *cobra.Command, look *reconcile.Ahead, d plan.Desired, t *targetFlags, out string,
) (plan.Plan, error) {
	b, err := a.begin(cmd, look, d, t)
	if err != nil {
		return plan.Plan{}, err
	}
	defer b.Close()
	p := b.Plan()
	if out != "" {
		if err := a.host().Save(out, version(), d, t.texts, p); err != nil {
			return plan.Plan{}, err
		}
	}
	return p, nil
}
