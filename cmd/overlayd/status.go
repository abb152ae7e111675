package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/overlayd/overlayd/internal/agent/state"
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
	var asJSON, watch bool
	cmd := &cobra.Command{
		Use:   "status [OPTION...] [PATH...]",
		Short: "Show how every overlay is",
		Long: `Status shows a line per overlay, of the spec in PATH (by default /etc/overlayd)
and of all that was applied. A spec that has errors is left out, and it exits 1.

  mounted   as applied, and as the spec says
  pending   the spec asks for something that is not applied yet
  drifted   mounted or written otherwise than it was applied
  missing   applied, but not mounted
  stopped   taken down with systemctl stop
  failed    systemd could not mount it
  conflict  something is in the way; "overlayd plan" says what

Below it says whether the agent runs, and what it holds back, could not do, and
did last. The exit code does not depend on that.

With --watch it stays on the terminal and shows every change as it happens, what
is not mounted first, until Ctrl-C.`,
		Example: "  overlayd status --watch\n  overlayd status --json | jq '.overlays[] | select(.state != \"mounted\")'",
		RunE: func(cmd *cobra.Command, args []string) error {
			if watch {
				return a.watchStatus(cmd, args, f, asJSON)
			}
			l, rows, err := a.status(cmd.Context(), args, f)
			a.showDiagnostics(l)
			if err != nil {
				return a.fail(err, asJSON)
			}
			if asJSON {
				err = a.writeJSON(a.newStatusJSON(rows))
			} else {
				a.writeStatus(rows, l.explains())
			}
			if err == nil && l.diags.HasErrors() {
				return exitCode(exitError)
			}
			return err
		},
	}
	f.register(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the states as JSON")
	cmd.Flags().BoolVar(&watch, "watch", false, "stay on the terminal and show changes as they happen, until Ctrl-C")
	return cmd
}

// status looks at the host. One without a spec, or with a broken one, has overlays all the same.
func (a *app) status(ctx context.Context, args []string, f specFlags) (l loaded, rows []reconcile.Row, err error) {
	if !a.withoutSpec(args) {
		l = a.load(args, f)
	}
	rows, err = a.host().Status(ctx, l.desired)
	return l, rows, err
}

type statusJSON struct {
	FormatVersion string     `json:"format_version"`
	Overlays      []rowJSON  `json:"overlays"`
	Agent         *agentJSON `json:"agent"`
}

func (a *app) newStatusJSON(rows []reconcile.Row) statusJSON {
	out := statusJSON{FormatVersion: formatVersion, Overlays: []rowJSON{}}
	for _, r := range rows {
		out.Overlays = append(out.Overlays, rowJSON{
			r.Address, r.Mountpoint, r.State, r.Unit, orEmpty(r.View.Lowerdirs), r.View.Upperdir, r.View.Workdir,
		})
	}
	if a.treeRoot() == "" {
		out.Agent = newAgentJSON(readAgent(state.Dir))
	}
	return out
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

// writeStatus shows the states to people. A tree has no agent.
func (a *app) writeStatus(rows []reconcile.Row, explains string) {
	paint, width := painter(a.colour(a.out)), columns(a.out)
	printStatus(a.out, paint, width, rows)
	var agent agentView
	if a.treeRoot() == "" {
		agent = readAgent(state.Dir)
	}
	hint := unexplained(rows, agent, explains)
	if hint != "" || a.treeRoot() == "" {
		fmt.Fprintln(a.out)
	}
	if hint != "" {
		fmt.Fprintln(a.out, hint)
	}
	if a.treeRoot() == "" {
		printAgent(a.out, paint, width, agent, time.Now())
	}
}

// explains is the command that tells why there is a conflict. Without a spec that can be read, plan does not.
func (l loaded) explains() string {
	if l.spec == nil || l.diags.HasErrors() {
		return "overlayd drift"
	}
	return "overlayd plan"
}

// unexplained says how many conflicts there are whose reason the agent does not tell below, and which command does; ""
// if there are none.
func unexplained(rows []reconcile.Row, agent agentView, explains string) string {
	told := map[string]bool{} // mountpoints
	if agent.running {
		for _, c := range first(agent.state.Conflicts) {
			told[c.Mountpoint] = true
		}
	}
	n := 0
	for _, r := range rows {
		if r.State == reconcile.StateConflict && !told[r.Mountpoint] {
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%s: %s says why.", count(n, "conflict"), explains)
}

const noOverlays = "No overlays: nothing is declared, and nothing is applied."

func printStatus(w io.Writer, paint painter, width int, rows []reconcile.Row) {
	if len(rows) == 0 {
		fmt.Fprintln(w, noOverlays)
		return
	}
	for _, l := range statusLines(width, rows, true) {
		fmt.Fprintln(w, l.print(paint))
	}
}

// statusLine is a line of the table of states.
type statusLine struct{ colour, state, text string }

// statusMargin is what the states take.
const statusMargin = len("conflict") + 2

func (l statusLine) print(paint painter) string {
	return paint.paint(l.colour, fmt.Sprintf("%-8s", l.state)) + "  " + l.text
}

// statusLines is the table of states, with its head, with or without the layers.
func statusLines(width int, rows []reconcile.Row, withLayers bool) []statusLine {
	out := []statusLine{{colour: "1", state: "STATE"}}
	table := [][]string{{"ADDRESS", "LAYERS", "MOUNTPOINT"}}
	for _, r := range rows {
		out = append(out, statusLine{colour: stateColours[r.State], state: string(r.State)})
		var layers []string
		for _, l := range r.View.Lowerdirs {
			layers = append(layers, quoted(l))
		}
		table = append(table, []string{plain(r.Address), list(layers), quoted(r.Mountpoint)})
	}
	if !withLayers {
		for i, row := range table {
			table[i] = []string{row[0], row[2]}
		}
	}
	if width > 0 {
		width = max(width-statusMargin, 1)
	}
	for i, text := range align(table, width) {
		out[i].text = text
	}
	return out
}

// list joins a few items and counts the rest.
func list(items []string) string {
	const most = 3
	if len(items) <= most {
		return strings.Join(items, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(items[:most], ", "), len(items)-most)
}
