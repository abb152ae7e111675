package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/config"
	"github.com/overlayd/overlayd/internal/importer"
	"github.com/overlayd/overlayd/internal/inventory"
	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

func (a *app) importCommand() *cobra.Command {
	var want importer.Wanted
	cmd := &cobra.Command{
		Use:   "import [OPTION...]",
		Short: "Write a spec for overlays that are mounted now",
		Long: `Import prints a spec for the overlays that are mounted on this host by hand or
by scripts, a block for each. It changes nothing. On that spec "overlayd plan"
says adopt for each overlay, and nothing else: "overlayd apply" then writes
their units and leaves the mounts as they are.

What it leaves out is in the spec as a comment that says why: overlays of
container engines, those that a unit mounts already, and what the language or
the host does not allow.

An overlay of overlayd's whose unit file is gone is written, too. Plan says
update for it, as apply writes its unit again.

With --fstab the overlays in /etc/fstab are written, too, mounted or not. Plan
says conflict for these until their line is removed.`,
		Example: "  overlayd import >/etc/overlayd/imported.hcl\n  overlayd plan",
		Args:    atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			h := a.host()
			if h.Offline() {
				return usageError{errors.New("--root: import is about what is mounted on this host, and a tree has no mounts"), cmd}
			}
			d, err := a.draft(h, want)
			if err != nil {
				return fmt.Errorf("cannot import: %w", err)
			}
			text, err := proven(h.Observe, d)
			if err != nil {
				return fmt.Errorf("cannot import: %w", err)
			}
			if _, err := a.out.Write(text.HCL); err != nil {
				return err
			}
			if declared, left := d.Count(); left > 0 {
				fmt.Fprintf(a.err, "%s written, %d left out: the comments at the end say why.\n", count(declared, "overlay"), left)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&want.All, "all", false, "write also those of container engines, which unmount them by themselves")
	cmd.Flags().BoolVar(&want.Fstab, "fstab", false, "write also those in /etc/fstab, mounted or not")
	return cmd
}

// draft looks at the host and makes a first draft.
func (a *app) draft(h *reconcile.Host, want importer.Wanted) (*importer.Draft, error) {
	inv, err := inventory.Read(h)
	if err != nil {
		return nil, err
	}
	const file = "/etc/fstab"
	fstab, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read fstab: %w", err)
	}
	in := importer.Host{Fstab: importer.ParseFstab(string(fstab), file)}
	var look plan.Desired
	add := func(mountpoint string, c overlayfs.Config) {
		o := plan.Overlay{Mountpoint: mountpoint, Upper: c.Upper, Work: c.Work, Lower: slices.Clone(c.Lower)}
		for _, l := range c.Lower {
			o.Lower = append(o.Lower, path.Clean(l))
		}
		look.Overlays = append(look.Overlays, o)
	}
	for _, l := range in.Fstab {
		add(l.Mountpoint, l.Config)
	}
	for _, o := range inv.All() {
		if o.Managed {
			in.Addresses = append(in.Addresses, o.Address)
		}
		if !o.Mounted {
			continue
		}
		in.Mounted = append(in.Mounted, found(inv, o))
		if !o.Managed {
			add(o.Mountpoint, o.Config)
		}
	}
	seen, err := h.Observe(look)
	if err != nil {
		return nil, err
	}
	in.Paths, in.Defaults = seen.Paths, seen.Defaults
	return importer.New(in, want), nil
}

// found translates what the inventory knows of a mounted overlay.
func found(inv *inventory.Inventory, o inventory.Overlay) importer.Mounted {
	m := importer.Mounted{
		Live: o.Mount, Stack: len(inv.Table().At(o.Mountpoint)), Hidden: o.Hidden, Engine: engines[o.Owner],
		Ours: o.Owner == overlayfs.OwnerOverlayd,
	}
	switch {
	case o.Managed:
		m.Address = o.Address
	case !strings.Contains(o.UnitFile, "/generator"): // made from fstab, which is asked itself
		m.Unit = o.Unit
	}
	return m
}

var engines = map[overlayfs.Owner]string{
	overlayfs.OwnerDocker: "Docker", overlayfs.OwnerPodman: "Podman", overlayfs.OwnerContainerd: "containerd",
}

// observe looks at all that a plan has to know.
type observe func(plan.Desired) (*plan.Observed, error)

// proven loads and plans a draft until each block of it does what import promises. What does not becomes a comment:
// the rules of the language and of this host are applied, not guessed.
func proven(look observe, d *importer.Draft) (importer.Text, error) {
	for {
		text := d.Render()
		again, err := reject(look, d, text)
		if err != nil || !again {
			return text, err
		}
	}
}

// reject leaves out what a draft must not hold, and tells whether that was anything.
func reject(look observe, d *importer.Draft, text importer.Text) (bool, error) {
	desired, diags, err := loadText(text.HCL)
	if err != nil {
		return false, err
	}
	rejected := map[string]bool{}
	for _, diag := range diags {
		if diag.Severity != hcl.DiagError {
			continue
		}
		at := blockOf(text, diag)
		if at == nil {
			return false, fmt.Errorf("what was written does not load: %w", diag)
		}
		for _, mountpoint := range at.Mountpoints {
			if !rejected[mountpoint] {
				d.LeaveOut(mountpoint, reasonOf(diag), false)
			}
			rejected[mountpoint] = true
		}
	}
	if len(rejected) > 0 {
		return true, nil
	}
	p, err := foresee(look, desired, text)
	if err != nil {
		return false, err
	}
	changes := map[string]plan.Change{}
	for _, c := range p.Changes {
		changes[c.Mountpoint] = c
	}
	for _, b := range text.Blocks {
		if !b.Overlay {
			continue
		}
		c := changes[b.Mountpoints[0]]
		if c.Kind == expected(b) {
			continue
		}
		reason := strings.Join(c.Reasons, "; ")
		if c.Kind != plan.Conflict {
			reason = fmt.Sprintf("plan would %s it: %s", c.Kind, reason)
		}
		d.LeaveOut(b.Mountpoints[0], reason, c.Kind == plan.Conflict)
		rejected[b.Mountpoints[0]] = true
	}
	return len(rejected) > 0, nil
}

// expected is what a plan is to say of a block.
func expected(b importer.Block) plan.Kind {
	switch {
	case !b.Mounted:
		return plan.Create
	case b.Ours:
		return plan.Update // its unit file was deleted
	}
	return plan.Adopt
}

// foresee plans as if the lines of fstab that became blocks were removed.
func foresee(look observe, d plan.Desired, text importer.Text) (plan.Plan, error) {
	seen, err := look(d)
	if err != nil {
		return plan.Plan{}, err
	}
	for _, b := range text.Blocks {
		if b.Fstab {
			delete(seen.Fstab, b.Mountpoints[0])
		}
	}
	return plan.Diff(d, seen, nil), nil
}

// loadText loads a spec that is in no file yet.
func loadText(text []byte) (plan.Desired, hcl.Diagnostics, error) {
	fd, err := unix.MemfdCreate("import", unix.MFD_CLOEXEC)
	if err != nil {
		return plan.Desired{}, nil, fmt.Errorf("cannot check what was written: %w", err)
	}
	f := os.NewFile(uintptr(fd), fmt.Sprintf("/proc/self/fd/%d", fd))
	defer f.Close()
	if _, err := f.Write(text); err != nil {
		return plan.Desired{}, nil, fmt.Errorf("cannot check what was written: %w", err)
	}
	spec, diags := config.Load([]string{f.Name()}, config.Inputs{})
	if diags.HasErrors() {
		return plan.Desired{}, diags, nil
	}
	desired, more := reconcile.Desire(spec, "")
	return desired, append(diags, more...), nil
}

// blockOf is the block that a diagnostic is about.
func blockOf(text importer.Text, diag *hcl.Diagnostic) *importer.Block {
	if diag.Subject == nil {
		return nil
	}
	for i, b := range text.Blocks {
		if line := diag.Subject.Start.Line; b.First <= line && line <= b.Last {
			return &text.Blocks[i]
		}
	}
	return nil
}

// reasonOf is a diagnostic as a sentence, without the places in a text that nobody sees.
func reasonOf(diag *hcl.Diagnostic) string {
	detail := diag.Detail
	for place := " (" + diag.Subject.Filename + ":"; ; {
		before, after, found := strings.Cut(detail, place)
		if !found {
			break
		}
		_, after, _ = strings.Cut(after, ")")
		detail = before + after
	}
	detail = strings.TrimSuffix(detail, ".")
	if rest, ok := strings.CutPrefix(detail, "The "); ok {
		detail = "the " + rest
	}
	return detail
}
