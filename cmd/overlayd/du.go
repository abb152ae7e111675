package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/overlayd/overlayd/internal/inventory"
	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/usage"
)

func (a *app) duCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "du [OPTION...] [ADDRESS...]",
		Short: "Show what clients store, and what full copies would take",
		Long: `Du shows what each client stores in its upperdir, what the bases store, which
clients share, and what it would take if every client had a full copy of all
that it sees. It counts as du(1) does: blocks on disk, so holes cost nothing,
and each file once, however many names it has. A base counts once, whoever
shares it; one that is itself an overlay is counted by its layers.

ADDRESS is overlay.NAME for all instances of a block, or overlay.NAME["KEY"],
where KEY may be a pattern; by default all overlays of overlayd that have an
upperdir. It takes root where layers are for root alone to read. What it could
not read it names, and exits 1.`,
		Example:           "  overlayd du\n  overlayd du --json 'overlay.seat[\"room1-*\"]'",
		ValidArgsFunction: a.completeAddresses,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.fail(a.du(cmd, args, asJSON), asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the sizes, in bytes, as JSON")
	return cmd
}

func (a *app) du(cmd *cobra.Command, args []string, asJSON bool) error {
	clients, others, err := a.duClients(cmd, args)
	if err != nil {
		return err
	}
	defaults, err := host.ReadDefaults()
	if err != nil {
		return err
	}
	bar, tell := a.counting(cmd.Context())
	report, err := usage.Measure(cmd.Context(), clients, usage.Options{
		Others: others, Defaults: defaults, Parallel: parallelReads(), Progress: tell,
	})
	bar.end()
	if err != nil {
		return fmt.Errorf("cannot count what clients store: %w", err)
	}
	a.asInTree(report)
	if asJSON {
		err = a.writeJSON(newDuJSON(report))
	} else {
		printDu(a.out, a.err, painter(a.colour(a.out)), painter(a.colour(a.err)), report)
	}
	if _, _, _, complete := report.Total(); err == nil && !complete {
		err = exitCode(exitError)
	}
	return err
}

// parallelReads is how many trees to read at a time. Reading waits for the disk more than for the processor.
func parallelReads() int { return max(4, 2*runtime.NumCPU()) }

// duClients gives the overlays to measure, and all there are.
func (a *app) duClients(cmd *cobra.Command, args []string) (clients, all []usage.Overlay, err error) {
	i, err := inventory.Read(a.host())
	if err != nil {
		return nil, nil, err
	}
	targets, err := duTargets(i, cmd, args)
	if err != nil {
		return nil, nil, err
	}
	asked, err := i.Match(targets)
	if err != nil {
		return nil, nil, err
	}
	every := i.All()
	if err := errors.Join(a.onHost(asked), a.onHost(every)); err != nil {
		return nil, nil, err
	}
	for _, o := range asked {
		clients = append(clients, a.measured(o))
	}
	for _, o := range every {
		all = append(all, a.measured(o))
		if len(args) == 0 && o.Owner == overlayfs.OwnerOverlayd && o.Config.Upper != "" {
			clients = append(clients, all[len(all)-1])
		}
	}
	return clients, all, nil
}

// duTargets reads the addresses to count. A path is refused with the address that it belongs to, as reset does.
func duTargets(i *inventory.Inventory, cmd *cobra.Command, args []string) ([]plan.Target, error) {
	var out []plan.Target
	for _, arg := range args {
		if !inventory.IsAddress(arg) {
			o, err := i.Find(reference(arg))
			switch {
			case err != nil:
				return nil, fmt.Errorf("cannot count %q, which is no address: %w", arg, err)
			case o.Address == "":
				return nil, fmt.Errorf("cannot count the overlay mounted at %s: it is not overlayd's (%s)", o.Mountpoint, o.Owner)
			}
			return nil, usageError{fmt.Errorf("%s is a path; name the overlay by its address, %s", arg, o.Address), cmd}
		}
		t, err := plan.ParseTarget(arg)
		if err != nil {
			return nil, usageError{fmt.Errorf("cannot read address %q: write overlay.NAME, or overlay.NAME[\"KEY\"]", arg), cmd}
		}
		out = append(out, t)
	}
	return out, nil
}

// measured is an overlay, with its layers as on this host, as it is measured.
func (a *app) measured(o inventory.Overlay) usage.Overlay {
	return usage.Overlay{
		Address: o.Address, Mountpoint: filepath.Join("/", a.treeRoot(), o.Mountpoint), Config: o.Config,
		Mounted: o.Mounted && !o.Hidden,
	}
}

// asInTree takes the root off the paths of a report again.
func (a *app) asInTree(r usage.Report) {
	root := a.treeRoot()
	for i := range r.Clients {
		c := &r.Clients[i]
		c.Mountpoint, c.Config.Upper = strings.TrimPrefix(c.Mountpoint, root), strings.TrimPrefix(c.Config.Upper, root)
	}
	for i := range r.Bases {
		r.Bases[i].Path = strings.TrimPrefix(r.Bases[i].Path, root)
	}
}

type duJSON struct {
	FormatVersion string     `json:"format_version"`
	Clients       []duClient `json:"clients"`
	Bases         []duBase   `json:"bases"`
	Total         duTotal    `json:"total"`
}

type duClient struct {
	Address       *string `json:"address"`
	Mountpoint    string  `json:"mountpoint"`
	Upperdir      string  `json:"upperdir"`
	StoredBytes   *int64  `json:"stored_bytes"` // this and the next are null where they could not be told
	StoredInodes  *int64  `json:"stored_inodes"`
	FullCopyBytes *int64  `json:"full_copy_bytes"`
	Error         *string `json:"error"`
}

type duBase struct {
	Path         string  `json:"path"`
	StoredBytes  *int64  `json:"stored_bytes"`
	StoredInodes *int64  `json:"stored_inodes"`
	Error        *string `json:"error"`
}

// duTotal has null for what misses something.
type duTotal struct {
	ClientsBytes    *int64 `json:"clients_bytes"`
	BasesBytes      *int64 `json:"bases_bytes"`
	FullCopiesBytes *int64 `json:"full_copies_bytes"`
	SavedBytes      *int64 `json:"saved_bytes"`
}

func newDuJSON(r usage.Report) duJSON {
	known := func(n int64, err error) *int64 {
		if err != nil {
			return nil
		}
		return &n
	}
	text := func(err error) *string {
		if err == nil {
			return nil
		}
		s := err.Error()
		return &s
	}
	out := duJSON{FormatVersion: formatVersion, Clients: []duClient{}, Bases: []duBase{}}
	var stored, copies, bases error
	for _, c := range r.Clients {
		stored, copies = errors.Join(stored, c.StoredErr), errors.Join(copies, c.FullErr)
		out.Clients = append(out.Clients, duClient{
			orNull(c.Address), c.Mountpoint, c.Config.Upper, known(c.Stored.Bytes, c.StoredErr),
			known(c.Stored.Inodes, c.StoredErr), known(c.FullCopy, c.FullErr), text(cmp.Or(c.StoredErr, c.FullErr)),
		})
	}
	for _, b := range r.Bases {
		bases = errors.Join(bases, b.Err)
		out.Bases = append(out.Bases, duBase{
			b.Path, known(b.Stored.Bytes, b.Err), known(b.Stored.Inodes, b.Err), text(b.Err),
		})
	}
	clientBytes, baseBytes, full, _ := r.Total()
	out.Total = duTotal{
		known(clientBytes, stored), known(baseBytes, bases), known(full, copies),
		known(full-clientBytes-baseBytes, errors.Join(stored, copies, bases)),
	}
	return out
}

// printDu puts names last, as du(1) does: they can be longer than a line.
func printDu(w, stderr io.Writer, paint, errPaint painter, r usage.Report) {
	if len(r.Clients) == 0 {
		fmt.Fprintln(w, "No overlays: nothing that stores anything is applied.")
		return
	}
	for _, c := range r.Clients {
		if err := cmp.Or(c.StoredErr, c.FullErr); err != nil {
			fmt.Fprintf(stderr, "%s cannot count %s: %s\n", errPaint.paint("31;1", "Error:"),
				plain(cmp.Or(c.Address, c.Mountpoint)), plain(err.Error()))
		}
	}
	for _, b := range r.Bases {
		if b.Err != nil {
			fmt.Fprintf(stderr, "%s cannot count a base: %s\n", errPaint.paint("31;1", "Error:"), plain(b.Err.Error()))
		}
	}
	known := func(text string, err error) string {
		if err != nil {
			return "?"
		}
		return text
	}
	t := tabwriter.NewWriter(w, 10, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "STORES\tFILES\tFULL COPY\t  CLIENT")
	for _, c := range r.Clients {
		fmt.Fprintf(t, "%s\t%s\t%s\t  %s\n", known(size(c.Stored.Bytes), c.StoredErr),
			known(humanize.Comma(c.Stored.Inodes), c.StoredErr), known(size(c.FullCopy), c.FullErr),
			plain(cmp.Or(c.Address, c.Mountpoint)))
	}
	_ = t.Flush() // who cannot write to stdout cannot say so there
	fmt.Fprintln(w)
	fmt.Fprintln(t, "STORES\tFILES\t  BASE")
	for _, b := range r.Bases {
		fmt.Fprintf(t, "%s\t%s\t  %s\n", known(size(b.Stored.Bytes), b.Err),
			known(humanize.Comma(b.Stored.Inodes), b.Err), plain(b.Path))
	}
	_ = t.Flush()
	fmt.Fprintln(w)
	fmt.Fprintln(w, paint.bold(duSummary(r)))
}

func duSummary(r usage.Report) string {
	clients, bases, full, complete := r.Total()
	if !complete {
		return "What full copies would take cannot be told, as not all could be counted."
	}
	stored := clients + bases
	text := fmt.Sprintf("Stored %s; full copies would take %s: ", size(stored), size(full))
	saved := full - stored
	if saved <= 0 {
		return text + "nothing saved."
	}
	percent := math.Floor(100*float64(saved)/float64(full) + 0.5)
	if percent == 100 {
		percent = 99 // something is stored, always
	}
	return text + fmt.Sprintf("%s (%.0f%%) saved.", size(saved), percent)
}

func size(bytes int64) string { return humanize.IBytes(uint64(max(bytes, 0))) }

// counting is a bar for the counting of trees.
func (a *app) counting(ctx context.Context) (bar *progress, tell func(done, steps int, entries int64)) {
	bar = a.progress(ctx)
	return bar, func(done, steps int, entries int64) {
		bar.tell(int64(done), int64(steps), func() string { return "Counting: " + humanize.Comma(entries) + " files" })
	}
}
