package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) driftCommand() *cobra.Command {
	var asJSON, detailed bool
	cmd := &cobra.Command{
		Use:   "drift [OPTION...]",
		Short: "Show how the host differs from what was applied",
		Long: `Drift compares the unit files that were applied last with the mount table. It
needs no spec, and it cannot change anything. "overlayd apply" mends what it
shows.

With --detailed-exitcode it exits 2 when there is drift, 0 when there is none, 1
on errors.`,
		Example: `  overlayd drift
  overlayd drift --detailed-exitcode || echo "look at $(hostname)"`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			look := a.host().LookAhead(false)
			defer look.Close()
			d, err := a.host().Applied()
			if err != nil {
				return a.fail(err, asJSON)
			}
			b, err := look.Begin(cmd.Context(), d, nil)
			if err != nil {
				return a.fail(err, asJSON)
			}
			p := b.Plan()
			if asJSON {
				err = a.writeJSON(newPlanJSON(p, false))
			} else {
				a.writePlan(a.out, p, planWords{title: "Drift", looks: true, inSync: fmt.Sprintf(
					"The host is as it was applied: %s.", count(len(d.Overlays), "overlay"))})
			}
			if err == nil && detailed && !p.InSync() {
				return exitCode(exitDiffers)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the drift as JSON, in the form of a plan")
	cmd.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit 2 when there is drift")
	return cmd
}
