package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/cobra"

	"github.com/overlayd/overlayd/internal/config"
	"github.com/overlayd/overlayd/internal/doctor"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

func (a *app) doctorCommand() *cobra.Command {
	var f specFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor [OPTION...] [PATH...]",
		Short: "Show what this host supports, and what in the spec would fail",
		Long: `Doctor looks at the kernel and the mount options it takes, at mount(8) and
systemd, at the filesystems that layers and clients' data lie on, and at each
overlay of the spec in PATH (by default /etc/overlayd, if that is there) and of
what was applied. It says what is ok, what is a warning, what is an error, and
what to do.

A filesystem for clients' data is low with less than 5 % or 1 GiB free, or less
than 5 % of its inodes. To find out, doctor makes a directory on it and removes
it again, and mounts in a namespace of its own; which options the kernel takes
is kept until the next boot in /run/overlayd. Without root it tells what it
cannot know. With --root it looks at the tree only.

It exits 1 if a finding is an error.`,
		Example: "  overlayd doctor\n  overlayd doctor --json site.hcl",
		RunE: func(cmd *cobra.Command, args []string) error {
			q := a.ask(cmd.Context(), args, f)
			facts := doctor.Look(cmd.Context(), q)
			findings := doctor.Judge(facts)
			if asJSON {
				if err := a.writeJSON(newDoctorJSON(facts, findings)); err != nil {
					return err
				}
			} else {
				printDoctor(a.out, painter(a.colour(a.out)), columns(a.out), findings)
			}
			if doctor.Count(findings, doctor.Error) > 0 {
				return exitCode(exitError)
			}
			return nil
		},
	}
	f.register(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the findings as JSON")
	return cmd
}

// ask gathers what the doctor is to look at: the spec, and what was applied. What goes wrong with that is for the
// doctor to say.
func (a *app) ask(ctx context.Context, args []string, f specFlags) doctor.Question {
	h := a.host()
	q := doctor.Question{Root: a.treeRoot(), Unfinished: h.Unfinished()}
	q.Spec.Paths = a.paths(args)
	stateDir := config.DefaultStateDir
	var desired plan.Desired
	if q.Spec.Missing = a.withoutSpec(args); !q.Spec.Missing {
		l := a.load(args, f)
		a.showDiagnostics(l)
		for _, d := range l.diags {
			if d.Severity == hcl.DiagError {
				q.Spec.Errors++
			} else {
				q.Spec.Warnings++
			}
		}
		for _, d := range distrust(l.files()) {
			q.Spec.Distrust = append(q.Spec.Distrust, "apply will refuse the spec. "+d.Detail)
		}
		stateDir, desired = l.spec.StateDir, l.desired
	}
	if q.Spec.Errors == 0 { // else where it would be is not known
		q.Places = append(q.Places, doctor.Place{Path: filepath.Clean(stateDir), Use: doctor.StateDir})
	}
	if err := consider(ctx, h, desired, &q); err != nil {
		q.Spec.Err = err.Error()
	}
	return q
}

// consider adds the overlays of a spec, and those that were applied from others, with what a plan says of them. What
// was applied from this spec and is no longer in it goes with the next apply, so it is no patient.
func consider(ctx context.Context, h *reconcile.Host, desired plan.Desired, q *doctor.Question) error {
	applied, err := h.Applied()
	if err != nil {
		return err
	}
	mine := map[string]bool{} // mountpoints
	for _, o := range desired.Overlays {
		mine[o.Mountpoint] = true
	}
	examine := func(d plan.Desired, which func(mountpoint, source string) bool) error {
		p, _, err := h.Plan(ctx, d, nil)
		if err != nil {
			return err
		}
		overlays := make(map[string]plan.Overlay, len(d.Overlays))
		for _, o := range d.Overlays {
			overlays[o.Mountpoint] = o
		}
		for _, c := range p.Changes {
			if o, wanted := overlays[c.Mountpoint]; wanted && !which(o.Mountpoint, o.Source) ||
				!wanted && c.Kind != plan.Conflict {
				continue
			}
			addPatient(q, overlays[c.Mountpoint], c, h.Offline())
		}
		return nil
	}
	if len(desired.Overlays) > 0 || len(desired.Scope.Files) > 0 {
		if err := examine(desired, func(string, string) bool { return true }); err != nil {
			return err
		}
	}
	others := func(mountpoint, source string) bool { return !mine[mountpoint] && !desired.Scope.Contains(source) }
	if slices.ContainsFunc(applied.Overlays, func(o plan.Overlay) bool { return others(o.Mountpoint, o.Source) }) {
		if err := examine(applied, others); err != nil {
			return err
		}
	}
	slices.SortStableFunc(q.Overlays, func(a, b doctor.Overlay) int { return cmp.Compare(a.Address, b.Address) })
	return nil
}

// addPatient adds one overlay; a change that no overlay is desired for is a delete that something is in the way of.
func addPatient(q *doctor.Question, o plan.Overlay, c plan.Change, offline bool) {
	out := doctor.Overlay{Address: c.Address, Source: c.Source, Options: o.Options, Warnings: c.Warnings}
	if c.Kind == plan.Conflict {
		out.Conflicts = c.Reasons
	}
	// What stands on another overlay cannot be tried before that one is mounted.
	if !offline && len(c.Do.Below) == 0 {
		out.Try = c.Do.Mount
	}
	q.Overlays = append(q.Overlays, out)
	for _, l := range o.Lower {
		q.Places = append(q.Places, doctor.Place{Path: l, Use: doctor.Lower, Overlay: o.Address})
	}
	if o.Upper != "" {
		q.Places = append(q.Places, doctor.Place{Path: o.Upper, Use: doctor.Upper, Overlay: o.Address})
	}
}

type findingJSON struct {
	Area    doctor.Area  `json:"area"`
	Subject string       `json:"subject"`
	Level   doctor.Level `json:"level"`
	Text    string       `json:"text"`
	Remedy  *string      `json:"remedy"`
}

type doctorJSON struct {
	FormatVersion string               `json:"format_version"`
	Summary       map[doctor.Level]int `json:"summary"`
	Findings      []findingJSON        `json:"findings"`
	Facts         *factsJSON           `json:"facts"` // null for a tree
}

type factsJSON struct {
	Kernel      kernelJSON       `json:"kernel"`
	Options     map[string]bool  `json:"options"` // null: not known
	Mount       *string          `json:"mount"`
	Systemd     systemdJSON      `json:"systemd"`
	Filesystems []filesystemJSON `json:"filesystems"`
}

type kernelJSON struct {
	Release  string          `json:"release"`
	Overlay  bool            `json:"overlay"`
	Defaults map[string]bool `json:"defaults"` // null: not known
}

type systemdJSON struct {
	Version *int `json:"version"`
	Running bool `json:"running"`
}

type filesystemJSON struct {
	Use        doctor.Use `json:"use"`
	Mountpoint string     `json:"mountpoint"`
	Type       string     `json:"type"`
	Paths      []string   `json:"paths"`
	Overlays   []string   `json:"overlays"`
	Space      *spaceJSON `json:"space"` // null: not asked
}

type spaceJSON struct {
	Bytes      uint64 `json:"bytes"`
	FreeBytes  uint64 `json:"free_bytes"`
	Inodes     uint64 `json:"inodes"`
	FreeInodes uint64 `json:"free_inodes"`
}

func newDoctorJSON(f doctor.Facts, findings []doctor.Finding) doctorJSON {
	out := doctorJSON{
		FormatVersion: formatVersion, Summary: map[doctor.Level]int{}, Findings: make([]findingJSON, 0, len(findings)),
	}
	for _, l := range []doctor.Level{doctor.OK, doctor.Warning, doctor.Error} {
		out.Summary[l] = doctor.Count(findings, l)
	}
	for _, each := range findings {
		out.Findings = append(out.Findings,
			findingJSON{each.Area, each.Subject, each.Level, each.Text, orNull(each.Remedy)})
	}
	if f.Root != "" {
		return out
	}
	out.Facts = &factsJSON{
		Kernel: kernelJSON{Release: f.Kernel.Release, Overlay: f.Kernel.Overlay}, Options: f.Kernel.Options,
		Mount: orNull(f.Mount.Version), Systemd: systemdJSON{Running: f.Systemd.Running}, Filesystems: []filesystemJSON{},
	}
	if f.Systemd.Version > 0 {
		out.Facts.Systemd.Version = &f.Systemd.Version
	}
	if d := f.Kernel.Defaults; f.Kernel.DefaultsSeen && f.Kernel.DefaultsErr == "" {
		out.Facts.Kernel.Defaults = map[string]bool{
			"redirect_dir": d.RedirectDir, "redirect_always_follow": d.RedirectAlwaysFollow, "index": d.Index,
			"metacopy": d.Metacopy, "nfs_export": d.NFSExport, "xino_auto": d.XinoAuto,
		}
	}
	for _, fs := range f.Filesystems {
		out.Facts.Filesystems = append(out.Facts.Filesystems, filesystemJSON{
			fs.Use, fs.Mountpoint, fs.Type, fs.Paths, orEmpty(fs.Overlays), newSpaceJSON(fs.Space),
		})
	}
	return out
}

func newSpaceJSON(s *host.Space) *spaceJSON {
	if s == nil {
		return nil
	}
	return &spaceJSON{s.Size, s.Free, s.Inodes, s.FreeInodes}
}

var areaTitles = map[doctor.Area]string{
	doctor.AreaHost: "Host", doctor.AreaKernel: "Kernel", doctor.AreaBoot: "Boot",
	doctor.AreaFilesystems: "Filesystems", doctor.AreaOverlays: "Overlays",
}

var levelColours = map[doctor.Level]string{doctor.OK: "32", doctor.Warning: "33", doctor.Error: "31;1"}

// printDoctor shows the findings as a table for each area, in which a text too long for its line goes on below itself.
func printDoctor(w io.Writer, paint painter, width int, findings []doctor.Finding) {
	for _, area := range doctor.Areas() {
		var here []doctor.Finding
		subjects := 0
		for _, each := range findings {
			if each.Area == area {
				here = append(here, each)
				if n := utf8.RuneCountInString(plain(each.Subject)); n <= widestSubject {
					subjects = max(subjects, n)
				}
			}
		}
		if len(here) == 0 {
			continue
		}
		fmt.Fprintln(w, paint.bold(areaTitles[area]))
		for _, each := range here {
			printFinding(w, paint, width, subjects, each)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, paint.bold(fmt.Sprintf("doctor: %d ok, %s, %s.", doctor.Count(findings, doctor.OK),
		count(doctor.Count(findings, doctor.Warning), "warning"), count(doctor.Count(findings, doctor.Error), "error"))))
}

// widestSubject is how wide the column of subjects may get; a wider one has a line of its own on a terminal.
const widestSubject = 22

func printFinding(w io.Writer, paint painter, width, subjects int, f doctor.Finding) {
	const margin = 2 + len("warning") + 2
	hang := strings.Repeat(" ", margin+subjects+2)
	room := width
	if width > 0 {
		room = max(width-len(hang), 20)
	}
	subject := plain(f.Subject)
	between := "  "
	if gap := subjects - utf8.RuneCountInString(subject); gap >= 0 {
		between += strings.Repeat(" ", gap)
	} else if width > 0 {
		between = "\n" + hang
	}
	fmt.Fprintf(w, "  %s  %s%s%s\n", paint.paint(levelColours[f.Level], fmt.Sprintf("%-7s", f.Level)), subject, between,
		wrap(plain(f.Text), room, hang))
	if f.Remedy != "" {
		fmt.Fprintf(w, "%s→ %s\n", hang, wrap(plain(f.Remedy), max(room-2, 0), hang+"  "))
	}
}
