package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/overlayd/overlayd/internal/inventory"
	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/usage"
)

func (a *app) resetCommand() *cobra.Command {
	var f actFlags
	var r plan.Reset
	cmd := &cobra.Command{
		Use:   "reset [OPTION...] ADDRESS...",
		Short: "Give clients their pristine view back",
		Long: `Reset asks, takes overlays down, gives them a fresh upperdir, and mounts them
again as their units say. What the clients wrote is DELETED; with --keep it is
set aside beside the upperdir, under a dated name that is printed. Services that
need the mount are stopped and started again. One that processes use is left as
it is, and they are named; then it exits 1.

What --keep set aside is the old upperdir: files as the client wrote them, and a
0/0 device for each that it deleted. Copy out of it what is needed; to bring it
all back, stop the overlay's unit, put it in the place of the upperdir, and
"overlayd apply". "overlayd prune --kept" deletes it.

ADDRESS is overlay.NAME for all instances of a block, or overlay.NAME["KEY"],
where KEY may be a pattern. It needs no spec. With --path only that path of the
clients' view goes back to what the lowerdirs have.`,
		Example: "  overlayd reset 'overlay.seat[\"room1-*\"]'\n" +
			"  overlayd reset --keep --path /etc/apt 'overlay.client[\"client_1\"]'",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("an overlay is needed: ADDRESS"), cmd}
			}
			return nil
		},
		ValidArgsFunction: a.completeAddresses,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := f.check(cmd)
			if err == nil {
				err = checkPaths(cmd, r.Paths)
			}
			if err != nil {
				return err
			}
			return a.fail(a.reset(cmd, args, f, r), f.json)
		},
	}
	f.register(cmd.Flags())
	cmd.Flags().BoolVar(&r.Keep, "keep", false, "set aside what the clients wrote instead of deleting it")
	cmd.Flags().StringArrayVar(&r.Paths, "path", nil,
		"reset only `PATH`, as the client sees it; may be given several times")
	return cmd
}

// checkPaths checks what --path says, and takes the slash away that completion adds to directories.
func checkPaths(cmd *cobra.Command, paths []string) error {
	for i, p := range paths {
		if p != "/" {
			p = strings.TrimSuffix(p, "/")
			paths[i] = p
		}
		switch {
		case !strings.HasPrefix(p, "/"):
			return usageError{fmt.Errorf("--path %q: it takes an absolute path, in which / is the client's root", p), cmd}
		case path.Clean(p) != p:
			return usageError{fmt.Errorf("--path %s: write it as %s", p, path.Clean(p)), cmd}
		case p == "/":
			return usageError{errors.New("--path /: that is all of it; reset without --path"), cmd}
		}
	}
	return nil
}

func (a *app) reset(cmd *cobra.Command, args []string, f actFlags, r plan.Reset) error {
	look := a.host().LookAhead(f.autoApprove)
	defer look.Close()
	t := targetFlags{texts: args}
	overlays, err := a.matching(cmd, args, &t)
	if err != nil {
		return err
	}
	var mountpoints []string
	for _, o := range overlays {
		mountpoints = append(mountpoints, o.Mountpoint)
	}
	d, err := a.host().Resettable(mountpoints, r)
	if err != nil {
		return err
	}
	targets, err := t.targets(cmd)
	if err != nil {
		return err
	}
	b, err := look.Begin(cmd.Context(), d, targets)
	if err != nil {
		return err
	}
	defer b.Close()
	p := b.Plan()
	inSync := "Pristine already: " + addresses(overlays) + "."
	if len(r.Paths) > 0 {
		inSync = "As in the lowerdirs already: " + strings.Join(r.Paths, ", ") + " of " + addresses(overlays) + "."
	}
	if !f.autoApprove && !f.json {
		sized(cmd.Context(), p, r, a.treeRoot())
	}
	question := "Reset these overlays? What is DELETED cannot be brought back."
	if r.Keep {
		question = "Reset these overlays? What the clients wrote is set aside."
	}
	return a.act(cmd, b, f, reconcile.ApplyOptions{}, actWords{
		plan: planWords{
			title: "Plan", inSync: inSync, always: []plan.Kind{plan.ResetKind},
		},
		question: question, title: "Reset",
	})
}

// matching gives the overlays of ours that addresses select. A path is refused with the address that it belongs to, if
// any: what is reset is better named in full.
func (a *app) matching(cmd *cobra.Command, args []string, t *targetFlags) ([]inventory.Overlay, error) {
	i, err := inventory.Read(a.host())
	if err != nil {
		return nil, err
	}
	for _, arg := range args {
		if inventory.IsAddress(arg) {
			continue
		}
		o, err := find(i, arg)
		switch {
		case err != nil:
			return nil, fmt.Errorf("cannot reset %s: %w", arg, err)
		case o.Address == "":
			return nil, fmt.Errorf("cannot reset the overlay mounted at %s: it is not overlayd's (%s)", o.Mountpoint, o.Owner)
		}
		return nil, usageError{fmt.Errorf("%s is a path; name the overlay by its address, %s", arg, o.Address), cmd}
	}
	targets, err := t.targets(cmd)
	if err != nil {
		return nil, err
	}
	return i.Match(targets)
}

func addresses(overlays []inventory.Overlay) string {
	const most = 5
	var out []string
	for i, o := range overlays {
		if i == most && len(overlays) > most+1 {
			out = append(out, fmt.Sprintf("and %d more", len(overlays)-most))
			break
		}
		out = append(out, o.Address)
	}
	return strings.Join(out, ", ")
}

// sized says in a plan that somebody is asked about how much each client stores.
func sized(ctx context.Context, p plan.Plan, r plan.Reset, root string) {
	if len(r.Paths) > 0 {
		return
	}
	for _, c := range p.Changes {
		if c.Do.Reset == nil || len(c.Reasons) == 0 {
			continue
		}
		trees, err := usage.Trees(ctx, []string{filepath.Join("/", root, c.After.Upperdir)}, usage.Options{Parallel: 1})
		if err != nil || len(trees) != 1 || trees[0].Err != nil {
			continue // the question is as good without it
		}
		c.Reasons[0] += fmt.Sprintf(" (%s, %s; overlayd diff shows more)",
			count(int(trees[0].Stored.Inodes-1), "inode"), humanize.IBytes(uint64(trees[0].Stored.Bytes)))
	}
}
