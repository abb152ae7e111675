package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) validateCommand() *cobra.Command {
	var f specFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "validate [PATH...]",
		Short: "Check a spec, touch nothing",
		Long: `Validate reads the spec and checks all that can be checked without looking at
the host. It needs no privileges. PATH is a file or a directory, by default
/etc/overlayd. Warnings do not make it fail.`,
		Example: "  overlayd validate\n  overlayd validate --json site.hcl",
		RunE: func(_ *cobra.Command, args []string) error {
			l := a.load(args, f)
			l.diags = append(l.diags, distrust(l.files())...)
			if asJSON {
				err := a.writeJSON(struct {
					FormatVersion string           `json:"format_version"`
					Valid         bool             `json:"valid"`
					Diagnostics   []diagnosticJSON `json:"diagnostics"`
				}{formatVersion, !l.diags.HasErrors(), diagnosticsJSON(l.diags)})
				if err != nil {
					return err
				}
			} else {
				a.showDiagnostics(l)
			}
			if l.diags.HasErrors() {
				return exitCode(exitError)
			}
			if !asJSON {
				fmt.Fprintf(a.out, "Valid: %s in %s.\n", count(len(l.spec.Overlays), "overlay"),
					count(len(l.spec.Files), "file"))
			}
			return nil
		},
	}
	f.register(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}
