package main

import (
	"bytes"
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) graphCommand() *cobra.Command {
	var f specFlags
	cmd := &cobra.Command{
		Use:   "graph [OPTION...] [PATH...]",
		Short: "Print layers and overlays as a graph, for Graphviz",
		Long: `Graph prints the spec as a graph in the language of Graphviz: directories, the
overlays on top of them, and an arrow from each overlay to each of its layers.
An overlay with several layers has a number at each arrow, 1 for the topmost.
One that is read-only is dashed. PATH is a file or a directory, by default
/etc/overlayd.

It looks at the spec only, and not at what is mounted.`,
		Example: "  overlayd graph | dot -Tsvg >overlays.svg\n  overlayd graph site.hcl | dot -Tpng >site.png",
		RunE: func(_ *cobra.Command, args []string) error {
			if a.withoutSpec(args) {
				return fmt.Errorf("there is no %s to make a graph of: name the files of a spec, overlayd graph PATH",
					a.paths(args)[0])
			}
			l, err := a.mustLoad(args, f, false)
			if err != nil {
				return err
			}
			var dot bytes.Buffer
			printGraph(&dot, l.spec)
			_, err = a.out.Write(dot.Bytes())
			return err
		},
	}
	f.register(cmd.Flags())
	return cmd
}
