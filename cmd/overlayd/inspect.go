package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/overlayd/overlayd/internal/inventory"
	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

type inspectJSON struct {
	FormatVersion string            `json:"format_version"`
	Address       *string           `json:"address"`
	Managed       bool              `json:"managed"`
	Owner         overlayfs.Owner   `json:"owner"`
	Lowerdirs     []string          `json:"lowerdirs"`
	Upperdir      string            `json:"upperdir"`
	Workdir       string            `json:"workdir"`
	Mountpoint    string            `json:"mountpoint"`
	Options       overlayfs.Options `json:"options"`
	Unit          *string           `json:"unit"`
	State         reconcile.State   `json:"state"`
	Users         impactJSON        `json:"users"`
}

func (a *app) inspectCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect [OPTION...] ADDRESS|PATH",
		Short: "Show all there is to know about one overlay",
		Long: `Inspect shows one overlay: its lowerdirs, topmost first, upperdir and workdir,
options, state, unit, and what uses it. It may be overlayd's or somebody else's:
ADDRESS is overlay.NAME or overlay.NAME["KEY"], PATH any path in it. Only root
sees the processes that use it.`,
		Example: "  overlayd inspect 'overlay.client[\"client_1\"]'\n  overlayd inspect /var/lib/docker/overlay2/0123/merged",
		Args:    oneOverlay,
		RunE: func(cmd *cobra.Command, args []string) error {
			seen, err := a.inspect(cmd.Context(), args[0])
			if err != nil {
				return a.fail(err, asJSON)
			}
			if asJSON {
				return a.writeJSON(newInspectJSON(seen))
			}
			printInspection(a.out, painter(a.colour(a.out)), columns(a.out), seen)
			return nil
		},
		ValidArgsFunction: a.completeOverlay,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the overlay as JSON")
	return cmd
}

// inspection is what is known of one overlay.
type inspection struct {
	inventory.Overlay
	state        reconcile.State
	reasons      []string
	users        plan.Impact
	below, above []inventory.Overlay // by layers
	hides        *overlayfs.Mount
	beneath      []inventory.Overlay // of ours, at the same place
	inReach      []overlayfs.Mount   // at the same place
	outOfReach   []overlayfs.Mount
	copies       []overlayfs.Mount
}

func (a *app) inspect(ctx context.Context, ref string) (inspection, error) {
	i, err := inventory.Read(a.host())
	if err != nil {
		return inspection{}, err
	}
	o, err := find(i, ref)
	if err != nil {
		return inspection{}, err
	}
	seen := inspection{
		Overlay: o, state: reconcile.StateMounted, below: i.Below(o), above: i.Above(o), copies: i.Copies(o),
		beneath: i.Beneath(o),
	}
	seen.inReach, seen.outOfReach = i.Neighbours(o)
	if m, ok := i.Hides(o); ok {
		seen.hides = &m
	}
	if o.Owner == overlayfs.OwnerOverlayd {
		rows, err := a.host().Status(ctx, plan.Desired{})
		if err != nil {
			return inspection{}, err
		}
		for _, r := range rows {
			if r.Mountpoint == o.Mountpoint {
				seen.state, seen.reasons = r.State, r.Reasons
			}
		}
	}
	seen.users, err = i.Users(ctx, o)
	return seen, err
}

func newInspectJSON(s inspection) inspectJSON {
	return inspectJSON{
		FormatVersion: formatVersion, Address: orNull(s.Address), Managed: s.Managed, Owner: s.Owner,
		Lowerdirs: orEmpty(s.Config.Lower), Upperdir: s.Config.Upper, Workdir: s.Config.Work, Mountpoint: s.Mountpoint,
		Options: s.Config.Options.Clone(), Unit: orNull(s.Unit), State: s.state,
		Users: impactJSON{s.users.Units, s.users.Mounts, s.users.Processes},
	}
}

func printInspection(w io.Writer, paint painter, width int, s inspection) {
	fmt.Fprintf(w, "%s  %s\n", paint.bold(s.name()), paint.paint(stateColours[s.state], string(s.state)))
	if s.hides != nil {
		fmt.Fprintf(w, "  %s hidden by the %s mounted %s: unmount that\n", paint.paint("31;1", "!"), plain(s.hides.FSType),
			s.over())
	}
	for _, r := range s.reasons {
		fmt.Fprintf(w, "  %s %s\n", paint.dim("#"), wrapped(r, width, 4))
	}
	for _, r := range slices.Concat(s.layers(), s.identity(), s.place(), s.usage()) {
		const indent = 15
		for k, value := range r.values {
			name := r.name
			if k > 0 {
				name = ""
			}
			if r.prose {
				value = wrapped(value, width, indent)
			}
			fmt.Fprintf(w, "  %s%s\n", paint.dim(fmt.Sprintf("%-13s", name)), value)
		}
	}
}

// wrapped is a text of somebody else's for a screen of width columns, from the column indent on.
func wrapped(text string, width, indent int) string {
	if width > 0 {
		width = max(width-indent, 20)
	}
	return wrap(plain(text), width, strings.Repeat(" ", indent))
}

// field is one line of an inspection, or several of one name; without values it is left out.
type field struct {
	name   string
	values []string
	prose  bool // is wrapped, and made plain. All else stays in one piece, to be copied, and is fit to print already.
}

// proseOf is a field of texts.
func proseOf(name string, values ...string) field { return field{name, values, true} }

// fieldOf is a field of one value, left out if that is empty.
func fieldOf(name, value string) field {
	if value == "" {
		return field{}
	}
	return field{name: name, values: []string{value}}
}

// pathsOf is a field of paths, each as it can be given back.
func pathsOf(name string, values ...string) field {
	f := field{name: name}
	for _, v := range values {
		if v != "" {
			f.values = append(f.values, quoted(v))
		}
	}
	return f
}

// name is the title: the address, or where the overlay is.
func (s inspection) name() string {
	if s.Address != "" {
		return plain(s.Address)
	}
	return quoted(s.Mountpoint)
}

// over tells where what hides the overlay is mounted.
func (s inspection) over() string {
	if s.hides.Mountpoint == s.Mountpoint {
		return "on top of it"
	}
	return "at " + quoted(s.hides.Mountpoint)
}

func (s inspection) layers() []field {
	return []field{
		pathsOf("mountpoint", s.Mountpoint),
		pathsOf("lowerdirs", s.Config.Lower...),
		pathsOf("data-only", s.Config.Data...),
		pathsOf("upperdir", cmp.Or(s.Config.Upper, "none: read-only")),
		pathsOf("workdir", s.Config.Work),
		proseOf("options", allOptions(s.Config.Options)...),
	}
}

// allOptions lists options with those that are off: here nothing is left out.
func allOptions(o overlayfs.Options) []string {
	if len(o) == 0 {
		return nil
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(o)) {
		if value := o[name]; value != "" {
			name += "=" + value
		}
		out = append(out, name)
	}
	return []string{strings.Join(out, ", ")}
}

func (s inspection) identity() []field {
	out := []field{
		fieldOf("owner", string(s.Owner)),
		fieldOf("unit", plain(s.Unit)),
		pathsOf("unit file", s.UnitFile),
	}
	if s.Applied != nil {
		out = append(out, pathsOf("spec", s.Applied.Source))
		if s.Applied.PreventDestroy {
			out = append(out, fieldOf("protected", "by prevent_destroy"))
		}
	}
	return out
}

// place tells where the mount stands among others.
func (s inspection) place() []field {
	if !s.Mounted {
		return []field{{name: "occupied by", values: mounts(s.inReach)}}
	}
	mount := fmt.Sprintf("%d, device %s, source %s", s.Mount.ID, s.Mount.Dev, orNone(s.Mount.Source))
	if readOnly(s.Overlay) {
		mount += ", read-only"
	}
	out := []field{proseOf("mount", mount)}
	if s.hides != nil {
		out = append(out, fieldOf("hidden by", describe(*s.hides)))
	}
	var beneath []string
	for _, o := range s.beneath {
		beneath = append(beneath, fmt.Sprintf("%s, mounted by unit %s", plain(o.Address), plain(o.Unit)))
	}
	same := slices.DeleteFunc(slices.Clone(s.inReach), func(m overlayfs.Mount) bool {
		return s.hides != nil && m.ID == s.hides.ID ||
			slices.ContainsFunc(s.beneath, func(o inventory.Overlay) bool { return o.Mount.ID == m.ID })
	})
	out = append(out,
		field{name: "below it", values: beneath},
		field{name: "same place", values: mounts(same)},
		field{name: "out of reach", values: mounts(s.outOfReach)},
		pathsOf("bind mounts", mountpoints(s.copies)...),
	)
	return out
}

func mounts(all []overlayfs.Mount) []string {
	var out []string
	for _, m := range all {
		out = append(out, describe(m))
	}
	return out
}

func mountpoints(all []overlayfs.Mount) []string {
	var out []string
	for _, m := range all {
		out = append(out, m.Mountpoint)
	}
	return out
}

// describe names a mount of any kind.
func describe(m overlayfs.Mount) string {
	return fmt.Sprintf("%s at %s, source %s, mount %d", m.FSType, quoted(m.Mountpoint), orNone(plain(m.Source)), m.ID)
}

// usage tells what stands on the overlay, and what it stands on.
func (s inspection) usage() []field {
	out := []field{
		{name: "stands on", values: overlays(s.below)},
		{name: "carries", values: overlays(s.above)},
	}
	if !s.Mounted {
		return out
	}
	processes := []string{}
	for _, p := range s.users.Processes {
		processes = append(processes, fmt.Sprintf("%d (%s)", p.PID, p.Command))
	}
	switch {
	case s.users.Processes == nil:
		processes = append(processes, "not permitted to look: only root sees them")
	case len(processes) == 0:
		processes = append(processes, "none")
	}
	return append(out,
		pathsOf("mounts below", s.users.Mounts...), proseOf("needed by", s.users.Units...),
		proseOf("processes", processes...))
}

func overlays(all []inventory.Overlay) []string {
	var out []string
	for _, o := range all {
		name := quoted(o.Mountpoint)
		if o.Address != "" {
			name = plain(o.Address) + " at " + name
		}
		out = append(out, name)
	}
	return out
}
