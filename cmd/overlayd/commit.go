package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"github.com/zclconf/go-cty/cty"

	"github.com/overlayd/overlayd/internal/overlayfs/commit"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
)

func (a *app) commitCommand() *cobra.Command {
	var to, archive string
	cmd := &cobra.Command{
		Use:   "commit [OPTION...] ADDRESS|PATH {--to DIR | --archive FILE}",
		Short: "Make a layer of what a client changed",
		Long: `Commit writes what a client changed as a layer of its own. The client is not
disturbed, and may be mounted or not; what it writes meanwhile may be in the
layer or not. PATH is any path in the overlay; the layer is always of the whole
overlay. With --root the client is one of the tree, DIR and FILE are not.

With --to the layer is a new directory, DIR. As the topmost of the client's
lowerdirs it gives other clients exactly that client's view: whiteouts, opaque
directories, owners, modes, times, xattrs, ACLs, hard links and holes are kept.
DIR must not be there, or be empty; all above it must belong to root alone.

With --archive it is the tar file FILE, a layer of an OCI image as podman and
umoci read it: deletions are files named .wh.NAME. It is compressed if FILE
ends in .gz or .tgz, "-" is standard output, and the same changes give the same
bytes. A tar holds no sockets, and no holes. FILE is root's alone (mode 0600),
whatever the umask is: it holds what only some may read.

Either appears whole or not at all.`,
		Example: `  overlayd commit 'overlay.client["client_1"]' --to /srv/layers/tools
  overlayd commit /overlaytest/merged/client_1 --archive client_1.tar.gz`,
		Args: oneOverlay,
		RunE: func(cmd *cobra.Command, args []string) error {
			given := cmd.Flags().Changed
			switch {
			case given("to") == given("archive"):
				return usageError{errors.New("name either a directory (--to DIR) or an archive (--archive FILE)"), cmd}
			case given("to") && to == "" || given("archive") && archive == "":
				return usageError{errors.New("an empty path is not a place for a layer"), cmd}
			case given("archive") && commit.CheckArchive(archive) != nil:
				return usageError{fmt.Errorf("--archive %s: %w", archive, commit.CheckArchive(archive)), cmd}
			case archive == "-" && isTerminal(a.out):
				return usageError{errors.New("--archive -: an archive is not for a terminal; name a file, or redirect it"), cmd}
			}
			return a.commit(cmd.Context(), args[0], to, archive)
		},
		ValidArgsFunction: a.completeOverlay,
	}
	cmd.Flags().StringVar(&to, "to", "", "make the layer as the directory `DIR`")
	cmd.Flags().StringVar(&archive, "archive", "", "make the layer as the tar `FILE`, a layer of an OCI image")
	return cmd
}

// commit makes a layer as a directory or, if archive is not empty, as an archive.
func (a *app) commit(ctx context.Context, ref, to, archive string) error {
	o, config, err := a.findLayers(ref)
	if err != nil {
		return err
	}
	if o.Config.Upper == "" {
		return fmt.Errorf("cannot commit %s: it is read-only, so no client changed anything", o)
	}
	defaults, err := host.ReadDefaults()
	if err != nil {
		return fmt.Errorf("cannot commit %s: %w", o, err)
	}
	table, err := host.ReadTable()
	if err != nil {
		return fmt.Errorf("cannot commit %s: %w", o, err)
	}
	bar := a.progress(ctx, progressbar.OptionShowBytes(true), progressbar.OptionUseIECUnits(true),
		progressbar.OptionSetPredictTime(true))
	c := commit.Client{
		Address: o.Address, Mountpoint: o.Mountpoint, Mounted: o.Mounted, Config: config, Defaults: defaults,
		Table: table, Dev: o.Mount.Dev,
		Progress: func(done, total int64) { bar.tell(done, total, func() string { return "Copying" }) },
	}
	var result commit.Result
	report := a.out
	switch {
	case archive == "-":
		report = a.err
		if result, err = commit.WriteArchive(ctx, c, a.out); err == nil {
			err = a.flush()
		}
	case archive != "":
		archive = absolute(archive)
		result, err = commit.ToArchive(ctx, c, archive)
	default:
		to = absolute(to)
		result, err = commit.ToDirectory(ctx, c, to)
	}
	bar.end()
	if err != nil {
		return fmt.Errorf("%s: %w", o, err)
	}
	if o.Mounted {
		a.note(fmt.Sprintf("%s is mounted. The layer is a snapshot; what was written meanwhile may be in it or not.", o))
	}
	for _, w := range result.Warnings {
		a.note(w)
	}
	var stack []string
	if in, ok := a.inTree(to); to != "" && ok {
		stack = append([]string{in}, o.Config.Lower...)
	}
	printCommit(report, result, cmp.Or(to, archive), stack)
	return nil
}

// printCommit says what a layer holds, and the lowerdirs to use it with, if any.
func printCommit(w io.Writer, r commit.Result, place string, stack []string) {
	if place == "-" {
		place = "standard output"
	}
	what := "nothing changed, so the layer is empty"
	if !r.Empty() {
		var parts []string
		for _, part := range []struct {
			n         int
			one, many string
		}{{r.Files, "file", "files"}, {r.Directories, "directory", "directories"}, {r.Deletions, "deletion", "deletions"}} {
			switch part.n {
			case 0:
			case 1:
				parts = append(parts, "1 "+part.one)
			default:
				parts = append(parts, fmt.Sprintf("%d %s", part.n, part.many))
			}
		}
		what = strings.Join(append(parts, size(r.Bytes)), ", ")
	}
	fmt.Fprintf(w, "%s: %s.\n", quoted(place), what)
	if r.DiffID != "" {
		fmt.Fprintf(w, "Its diff ID is %s.\n", r.DiffID)
	}
	if len(stack) > 0 && !r.Empty() {
		fmt.Fprintf(w, "To use it, put it on top:\n\n%s\n", lowerdirs(stack))
	}
}

// lowerdirs is the attribute for a spec, on one line if that is not too long.
func lowerdirs(paths []string) string {
	texts := make([]string, 0, len(paths))
	for _, p := range paths {
		texts = append(texts, string(hclwrite.TokensForValue(cty.StringVal(p)).Bytes()))
	}
	const width = 80
	if line := "  lowerdirs = [" + strings.Join(texts, ", ") + "]"; len(line) <= width {
		return line
	}
	return "  lowerdirs = [\n    " + strings.Join(texts, ",\n    ") + ",\n  ]"
}
