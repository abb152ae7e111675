package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/overlayd/overlayd/internal/config"
	"github.com/overlayd/overlayd/internal/inventory"
	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/usage"
)

type pruneFlags struct {
	autoApprove bool
	json        bool
	kept        bool
	lockTimeout time.Duration
}

func (a *app) pruneCommand() *cobra.Command {
	var spec specFlags
	var f pruneFlags
	cmd := &cobra.Command{
		Use:   "prune [OPTION...] [PATH...]",
		Short: "Delete client data that nothing uses any more",
		Long: `Prune lists the data directories that overlayd made for clients and that nothing
uses: no unit, no overlay of the spec in PATH (by default /etc/overlayd), and no
mount in any mount namespace. Then it asks, and DELETES them. It looks in the
spec's state_dir and where the data of what is applied lies, and takes only
directories that bear overlayd's mark. What nothing but a mount still uses, as
in a container of a client that was removed, stays, and is listed apart.

What "reset --keep" set aside, UPPERDIR.reset-DATE, is listed too, and deleted
only with --kept: what lies in directories with that mark, and beside upperdirs
that overlayd made; what lies beside upperdirs of others' making is not. To look
at it as the client saw it, mount it read-only on top of the lowerdirs:

  mount -t overlay -o ro,lowerdir=UPPERDIR.reset-DATE:LOWERDIR overlay /mnt

How to bring it back, see "overlayd reset --help".

Data of an overlay with prevent_destroy is never deleted. With --json it asks
nothing, and only lists unless --auto-approve is given.`,
		Example: "  overlayd prune\n  overlayd prune --json --auto-approve --kept",
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.lockTimeout < 0 {
				return usageError{fmt.Errorf("--lock-timeout %s: it takes a time such as 30s", f.lockTimeout), cmd}
			}
			if i := slices.IndexFunc(args, misplacedAddress); i >= 0 {
				return usageError{fmt.Errorf("%s is an address, and prune takes no addresses but the files of a spec: what "+
					"that does not declare is unused", args[i]), cmd}
			}
			var l loaded
			stateDirs := []string{config.DefaultStateDir}
			if !a.withoutSpec(args) {
				var err error
				if l, err = a.mustLoad(args, spec, f.json); err != nil {
					return err
				}
				stateDirs = []string{l.spec.StateDir}
			}
			return a.fail(a.prune(cmd.Context(), l, stateDirs, f), f.json)
		},
	}
	spec.register(cmd.Flags())
	cmd.Flags().BoolVar(&f.autoApprove, "auto-approve", false, "do it without asking")
	cmd.Flags().BoolVar(&f.json, "json", false, "print what is unused as JSON; delete only with --auto-approve")
	cmd.Flags().BoolVar(&f.kept, "kept", false, "delete also what \"reset --keep\" set aside")
	registerLockTimeout(cmd.Flags(), &f.lockTimeout)
	return cmd
}

// misplacedAddress tells an address from the name of a file.
func misplacedAddress(arg string) bool {
	_, err := os.Lstat(arg)
	return inventory.IsAddress(arg) && err != nil
}

// garbage is an unused data directory, what it takes, and what became of it.
type garbage struct {
	reconcile.DataDir
	size    usage.Tree
	stays   bool // set aside, and not asked for
	deleted bool
	err     error
}

func (a *app) prune(ctx context.Context, l loaded, stateDirs []string, f pruneFlags) error {
	if err := trust(l.files()); err != nil {
		return err
	}
	unused, err := a.host().Unused(l.desired, stateDirs...)
	if err != nil {
		return err
	}
	for _, why := range unused.Ignored {
		fmt.Fprintf(a.err, "Warning: %s\n", plain(why.Error()))
	}
	found, err := a.sizes(ctx, unused.Dirs, f.kept)
	if err != nil {
		return err
	}
	if !f.json {
		printGarbage(a.out, painter(a.colour(a.out)), found, unused.InUse)
	}
	doomed := slices.DeleteFunc(slices.Clone(found), func(g *garbage) bool { return g.stays })
	switch {
	case len(doomed) == 0, f.json && !f.autoApprove:
		return a.showPruned(found, unused.InUse, f.json)
	case !f.autoApprove:
		const question = "Delete these directories? What is DELETED cannot be brought back."
		if err := a.approve(ctx, question, "use --auto-approve"); err != nil {
			return err
		}
	}
	var dirs []reconcile.DataDir
	for _, g := range doomed {
		dirs = append(dirs, g.DataDir)
	}
	results, err := a.host().Prune(ctx, l.desired, stateDirs, dirs, f.lockTimeout)
	if err != nil {
		return err
	}
	for i, r := range results {
		doomed[i].deleted, doomed[i].err = r.Err == nil, r.Err
	}
	return a.showPruned(found, unused.InUse, f.json)
}

// sizes tells what the directories take.
func (a *app) sizes(ctx context.Context, dirs []reconcile.DataDir, kept bool) ([]*garbage, error) {
	var paths []string
	for _, d := range dirs {
		paths = append(paths, d.Real)
	}
	bar, tell := a.counting(ctx)
	trees, err := usage.Trees(ctx, paths, usage.Options{Parallel: parallelReads(), Progress: tell})
	bar.end()
	if err != nil {
		return nil, fmt.Errorf("cannot count what is unused: %w", err)
	}
	out := make([]*garbage, len(dirs))
	for i, d := range dirs {
		out[i] = &garbage{DataDir: d, size: trees[i], stays: d.Kept && !kept, err: trees[i].Err}
	}
	return out, nil
}

// showPruned shows what was deleted and what not, and gives the exit code.
func (a *app) showPruned(found []*garbage, inUse []reconcile.InUse, asJSON bool) error {
	if asJSON {
		if err := a.writeJSON(newPruneJSON(found, inUse)); err != nil {
			return err
		}
	} else {
		printPruned(a.out, a.err, painter(a.colour(a.out)), painter(a.colour(a.err)), found)
	}
	if slices.ContainsFunc(found, func(g *garbage) bool { return g.err != nil }) {
		return exitCode(exitError)
	}
	return nil
}

type unusedJSON struct {
	Path        string  `json:"path"`
	Address     string  `json:"address"`
	Mountpoint  string  `json:"mountpoint"`
	StoredBytes *int64  `json:"stored_bytes"` // null where it could not be told
	Kept        bool    `json:"kept"`
	SetAside    *string `json:"set_aside"` // when; null for a whole data directory
	Deleted     bool    `json:"deleted"`
	Error       *string `json:"error"`
}

type inUseJSON struct {
	Path       string `json:"path"`
	Address    string `json:"address"`
	Mountpoint string `json:"mountpoint"`
	By         string `json:"by"`
}

type pruneJSON struct {
	FormatVersion string       `json:"format_version"`
	Changed       bool         `json:"changed"`
	Unused        []unusedJSON `json:"unused"`
	InUse         []inUseJSON  `json:"in_use"`
}

func newPruneJSON(found []*garbage, inUse []reconcile.InUse) pruneJSON {
	out := pruneJSON{FormatVersion: formatVersion, Unused: []unusedJSON{}, InUse: []inUseJSON{}}
	for _, u := range inUse {
		out.InUse = append(out.InUse, inUseJSON{u.Path, u.Address, u.Mountpoint, u.By})
	}
	for _, g := range found {
		j := unusedJSON{
			Path: g.Path, Address: g.Address, Mountpoint: g.Mountpoint, Kept: g.Kept, Deleted: g.deleted,
		}
		if !g.SetAside.IsZero() {
			text := g.SetAside.UTC().Format(time.RFC3339)
			j.SetAside = &text
		}
		if g.size.Err == nil {
			j.StoredBytes = &g.size.Stored.Bytes
		}
		if g.err != nil {
			text := g.err.Error()
			j.Error = &text
		}
		out.Changed = out.Changed || g.deleted
		out.Unused = append(out.Unused, j)
	}
	return out
}

// printGarbage lists what is unused, first what goes, then what was set aside; and what only a mount uses.
func printGarbage(w io.Writer, paint painter, found []*garbage, inUse []reconcile.InUse) {
	var parts []string
	var goes, stays []*garbage
	for _, g := range found {
		if g.stays {
			stays = append(stays, g)
		} else {
			goes = append(goes, g)
		}
	}
	if len(found) == 0 {
		parts = append(parts, paint.paint("32;1", "Nothing to prune.")+" No data directory of overlayd is unused.\n")
	}
	if len(goes) > 0 {
		parts = append(parts, "Unused, to delete:\n"+sizeTable(goes),
			paint.bold(fmt.Sprintf("Prune: %s to delete, %s.", directoryCount(len(goes)), size(bytesOf(goes))))+"\n")
	}
	if len(stays) > 0 {
		parts = append(parts, "Set aside by reset --keep, to keep (--kept deletes them, too):\n"+sizeTable(stays))
	}
	if len(inUse) > 0 {
		text := &strings.Builder{}
		fmt.Fprintln(text, "In use still, to stay:")
		for _, u := range inUse {
			fmt.Fprintf(text, "  %s  (%s)\n    by %s\n", plain(u.Path), plain(u.Address), plain(u.By))
		}
		parts = append(parts, text.String())
	}
	fmt.Fprint(w, strings.Join(parts, "\n"))
}

func sizeTable(list []*garbage) string {
	var text strings.Builder
	t := tabwriter.NewWriter(&text, 9, 8, 2, ' ', tabwriter.AlignRight)
	for _, g := range list {
		bytes := size(g.size.Stored.Bytes)
		if g.size.Err != nil {
			bytes = "?"
		}
		fmt.Fprintf(t, "%s\t  %s  (%s)\n", bytes, plain(g.Path), plain(about(g)))
	}
	_ = t.Flush() // to memory
	return text.String()
}

// about says whose a directory is, and what it is if it is no client's whole data.
func about(g *garbage) string {
	words := []string{g.Address}
	switch {
	case g.Leftover:
		words = append(words, "its deletion was interrupted")
	case !g.SetAside.IsZero():
		words = append(words, "kept on "+g.SetAside.Local().Format("2006-01-02 15:04"))
	case g.Kept:
		words = append(words, "with what was kept in it")
	}
	return strings.TrimPrefix(strings.Join(words, ", "), ", ")
}

func bytesOf(list []*garbage) (n int64) {
	for _, g := range list {
		n += g.size.Stored.Bytes
	}
	return n
}

func directoryCount(n int) string {
	if n == 1 {
		return "1 directory"
	}
	return fmt.Sprintf("%d directories", n)
}

// printPruned shows people what became of it. Where nothing was to be done, the list has said so.
func printPruned(w, stderr io.Writer, paint, errPaint painter, found []*garbage) {
	var deleted []*garbage
	failed := 0
	for _, g := range found {
		switch {
		case g.err != nil:
			failed++
			fmt.Fprintf(stderr, "%s %s\n", errPaint.paint("31;1", "Error:"), plain(g.err.Error()))
		case g.deleted:
			deleted = append(deleted, g)
			fmt.Fprintf(w, "Deleted: %s\n", plain(g.Path))
		}
	}
	for _, g := range found {
		if g.stays && len(deleted)+failed > 0 {
			fmt.Fprintf(w, "Kept: %s\n", plain(g.Path))
		}
	}
	switch {
	case len(deleted) > 0 && failed > 0:
		fmt.Fprintln(w, paint.bold(fmt.Sprintf("Prune: %s deleted, %s freed, %d failed.", directoryCount(len(deleted)),
			size(bytesOf(deleted)), failed)))
	case len(deleted) > 0:
		fmt.Fprintln(w, paint.bold(fmt.Sprintf("Prune: %s deleted, %s freed.", directoryCount(len(deleted)),
			size(bytesOf(deleted)))))
	case failed > 0:
		fmt.Fprintln(w, paint.bold(fmt.Sprintf("Prune: nothing deleted, %d failed.", failed)))
	}
}
