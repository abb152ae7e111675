package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/overlayd/overlayd/internal/reconcile"
)

type rowJSON struct {
	Address    string          `json:"address"`
	Mountpoint string          `json:"mountpoint"`
	State      reconcile.State `json:"state"`
	Unit       string          `json:"unit"`
	Lowerdirs  []string        `json:"lowerdirs"`
	Upperdir   string          `json:"upperdir"`
	Workdir    string          `json:"workdir"`
}

func (a *app) statusCommand() *cobra.Command {
	var f specFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status [PATH...]",
		Short: "Show how every overlay is",
		Long: `Status shows a line per overlay, of the spec in PATH (by default /etc/overlayd)
and of all that was applied. A spec that has errors is left out; then it exits 1.

  mounted   as applied, and as the spec says
  pending   the spec asks for something that is not applied yet
  drifted   mounted or written otherwise than it was applied
  missing   applied, but not mounted
  stopped   taken down with systemctl stop
  failed    systemd could not mount it
  conflict  something is in the way; "overlayd plan" says what`,
		RunE: func(cmd *cobra.Command, args []string) error {
			// A host without a spec, or with a broken one, has overlays all the same.
			var l loaded
			if !a.withoutSpec(args) {
				l = a.load(args, f)
				a.showDiagnostics(l)
			}
			rows, err := a.host().Status(cmd.Context(), l.desired)
			if err != nil {
				return a.fail(err, asJSON)
			}
			if asJSON {
				out := []rowJSON{}
				for _, r := range rows {
					out = append(out, rowJSON{
						r.Address, r.Mountpoint, r.State, r.Unit, orEmpty(r.View.Lowerdirs), r.View.Upperdir, r.View.Workdir,
					})
				}
				err = a.writeJSON(struct {
					FormatVersion string    `json:"format_version"`
					Overlays      []rowJSON `json:"overlays"`
				}{formatVersion, out})
			} else {
				a.writeStatus(rows)
			}
			if err == nil && l.diags.HasErrors() {
				return exitCode(exitError)
			}
			return err
		},
	}
	f.register(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the states as JSON")
	return cmd
}

// withoutSpec tells whether no spec is named and the default one does not exist.
func (a *app) withoutSpec(args []string) bool {
	_, err := os.Stat(a.paths(nil)[0])
	return len(args) == 0 && errors.Is(err, fs.ErrNotExist)
}

var stateColours = map[reconcile.State]string{
	reconcile.StateConflict: "31;1", reconcile.StateFailed: "31;1", reconcile.StateMissing: "31",
	reconcile.StateStopped: "33", reconcile.StateDrifted: "33", reconcile.StatePending: "36",
	reconcile.StateMounted: "32",
}

func (a *app) writeStatus(rows []reconcile.Row) {
	printStatus(a.out, painter(a.colour(a.out)), columns(a.out), rows)
}

func printStatus(w io.Writer, paint painter, width int, rows []reconcile.Row) {
	if len(rows) == 0 {
		fmt.Fprintln(w, "No overlays: nothing is declared, and nothing is applied.")
		return
	}
	states := []string{paint.bold("STATE   ")}
	table := [][]string{{"ADDRESS", "LAYERS", "MOUNTPOINT"}}
	for _, r := range rows {
		states = append(states, paint.paint(stateColours[r.State], fmt.Sprintf("%-8s", r.State)))
		var layers []string
		for _, l := range r.View.Lowerdirs {
			layers = append(layers, quoted(l))
		}
		table = append(table, []string{plain(r.Address), list(layers), quoted(r.Mountpoint)})
	}
	if width > 0 {
		width = max(width-10, 1) // the states take ten
	}
	for i, line := range align(table, width) {
		fmt.Fprintf(w, "%s  %s\n", states[i], line)
	}
}

// list joins a few items and counts the rest.
func list(items []string) string {
	const most = 3
	if len(items) <= most {
		return strings.Join(items, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(items[:most], ", "), len(items)-most)
}
