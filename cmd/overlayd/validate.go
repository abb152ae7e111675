package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) validateCommand() *cobra.Command {
	var f specFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "validate [OPTION...] [PATH...]",
		Short: "Check a spec, touch nothing",
		Long: `Validate reads the spec and checks all that can be checked without looking at
the host. It needs no privileges. PATH is a file or a directory, by default
/etc/overlayd. Warnings do not make it fail.

With --as it checks what the spec would be if PATH lay at PLACE: a directory
instead of the whole directory there, a file among the other files of its
directory. It exits 1 if there are errors.`,
		Example: "  overlayd validate\n  overlayd validate --json site.hcl\n" +
			"  overlayd validate --as /etc/overlayd/site.hcl new.hcl",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.checkAs(cmd, args); err != nil {
				return err
			}
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
	f.registerAs(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}
