package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/overlayd/overlayd/internal/inventory"
	"github.com/overlayd/overlayd/internal/overlayfs"
)

type listedJSON struct {
	Address    *string         `json:"address"`
	Managed    bool            `json:"managed"`
	Owner      overlayfs.Owner `json:"owner"`
	Mountpoint string          `json:"mountpoint"`
	Lowerdirs  []string        `json:"lowerdirs"`
	Upperdir   string          `json:"upperdir"`
	Workdir    string          `json:"workdir"`
	Unit       *string         `json:"unit"`
	Hidden     bool            `json:"hidden"`
}

func (a *app) listCommand() *cobra.Command {
	var all, asJSON bool
	cmd := &cobra.Command{
		Use:   "list [OPTION...]",
		Short: "List the overlays that are mounted on this host",
		Long: `List shows the overlays of overlayd that are mounted, a line each: address,
number of lowerdirs, rw or ro (nobody can write), mountpoint. One whose unit
file is gone has no address. With --all those of others are there as well, with
whose they are: docker, podman, containerd, told by the paths they use, or
other.

What is applied and not mounted is in "overlayd status".`,
		Example: "  overlayd list\n  overlayd list --all --json",
		Args:    atMost(0),
		RunE: func(*cobra.Command, []string) error {
			i, err := inventory.Read(a.host())
			if err != nil {
				return a.fail(err, asJSON)
			}
			mounted := slices.DeleteFunc(i.All(), func(o inventory.Overlay) bool { return !o.Mounted })
			listed := slices.DeleteFunc(slices.Clone(mounted), func(o inventory.Overlay) bool {
				return !all && o.Owner != overlayfs.OwnerOverlayd
			})
			if asJSON {
				return a.writeJSON(newListJSON(listed))
			}
			switch {
			case len(listed) > 0:
				printList(a.out, painter(a.colour(a.out)), columns(a.out), listed, all)
			case a.treeRoot() != "":
				fmt.Fprintf(a.out, "No overlay is mounted: %s is a prepared tree, not a running host.\n",
					quoted(a.treeRoot()))
			case len(mounted) > 0:
				fmt.Fprintf(a.out, "No overlay of overlayd is mounted. There are %d of others: overlayd list --all\n",
					len(mounted))
			default:
				fmt.Fprintln(a.out, "No overlay is mounted.")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "show also those of others: of container engines, or mounted by hand")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the overlays as JSON")
	return cmd
}

func newListJSON(overlays []inventory.Overlay) any {
	out := []listedJSON{}
	for _, o := range overlays {
		out = append(out, listedJSON{
			Address: orNull(o.Address), Managed: o.Managed, Owner: o.Owner, Mountpoint: o.Mountpoint,
			Lowerdirs: orEmpty(o.Config.Lower), Upperdir: o.Config.Upper, Workdir: o.Config.Work, Unit: orNull(o.Unit),
			Hidden: o.Hidden,
		})
	}
	return struct {
		FormatVersion string       `json:"format_version"`
		Overlays      []listedJSON `json:"overlays"`
	}{formatVersion, out}
}

// orNull is null in JSON for a text that is empty.
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// printList puts the mountpoint last: those of container engines are longer than a line.
func printList(w io.Writer, paint painter, width int, overlays []inventory.Overlay, owners bool) {
	rows := [][]string{{"OWNER", "ADDRESS", "LOWER", "MODE", "MOUNTPOINT"}}
	for _, o := range overlays {
		mode := "rw"
		if readOnly(o) {
			mode = "ro"
		}
		at := quoted(o.Mountpoint)
		if o.Hidden {
			at += " (hidden)"
		}
		layers := strconv.Itoa(len(o.Config.Lower) + len(o.Config.Data))
		rows = append(rows, []string{string(o.Owner), plain(cmp.Or(o.Address, "-")), layers, mode, at})
	}
	if !owners {
		for i := range rows {
			rows[i] = rows[i][1:]
		}
	}
	for i, line := range align(rows, width) {
		if i > 0 && overlays[i-1].Hidden {
			line = strings.TrimSuffix(line, "(hidden)") + paint.paint("33", "(hidden)")
		}
		fmt.Fprintln(w, line)
	}
}

// readOnly tells whether nobody can write to a mounted overlay: it has no upperdir, is mounted so, or the kernel fell
// back to it.
func readOnly(o inventory.Overlay) bool {
	_, flag := o.Mount.Flags["ro"]
	return flag || o.Mount.SuperReadOnly || o.Config.Upper == ""
}
