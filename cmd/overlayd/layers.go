package main

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/overlayd/overlayd/internal/inventory"
	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	ovl "github.com/overlayd/overlayd/internal/overlayfs/layers"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// findLayers gives the overlay that an ADDRESS|PATH argument means, and its configuration as on this host: see onHost.
func (a *app) findLayers(ref string) (inventory.Overlay, overlayfs.Config, error) {
	none := func(err error) (inventory.Overlay, overlayfs.Config, error) {
		return inventory.Overlay{}, overlayfs.Config{}, err
	}
	i, err := inventory.Read(a.host())
	if err != nil {
		return none(err)
	}
	o, err := i.Find(reference(ref))
	if err != nil {
		return none(err)
	}
	if err := grounded(i, o); err != nil {
		return none(err)
	}
	there := []inventory.Overlay{o}
	if err := a.onHost(there); err != nil {
		return none(fmt.Errorf("cannot find the layers of %s: %w", o, err))
	}
	return o, there[0].Config, nil
}

// grounded refuses an overlay with a lowerdir in another one that is not mounted: what the client changed cannot be
// told from what is not there.
func grounded(i *inventory.Inventory, o inventory.Overlay) error {
	for _, l := range o.Config.Lower {
		for _, below := range i.All() {
			if !below.Managed || below.Mounted || below.Mountpoint == o.Mountpoint || !within(l, below.Mountpoint) {
				continue
			}
			// Something else that is mounted in the place is what the lowerdir lies on.
			if m, ok := i.Table().Covering(l); ok && within(m.Mountpoint, below.Mountpoint) {
				continue
			}
			return fmt.Errorf("cannot tell what is changed in %s: its lowerdir %s is in %s, which is not mounted", o, l, below)
		}
	}
	return nil
}

// within tells whether a path is a directory or lies in it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// onHost gives the layers of overlays the paths that they have on this host. Those of a tree lie below its root,
// wherever symlinks in it seem to lead.
func (a *app) onHost(overlays []inventory.Overlay) error {
	root := a.treeRoot()
	if root == "" {
		return nil
	}
	var look plan.Desired
	for _, o := range overlays {
		look.Overlays = append(look.Overlays, plan.Overlay{
			Mountpoint: o.Mountpoint, Lower: o.Config.Lower, Upper: o.Config.Upper, Work: o.Config.Work,
		})
	}
	seen, err := a.host().Observe(look)
	if err != nil {
		return err
	}
	var failed error
	place := func(p string) string {
		info := seen.Paths[p]
		if info.Err != "" && failed == nil {
			failed = fmt.Errorf("cannot look at %s in %s: %s", p, root, info.Err)
		}
		return filepath.Join(root, info.Real)
	}
	for k := range overlays {
		c := &overlays[k].Config
		c.Lower = slices.Clone(c.Lower)
		for n, l := range c.Lower {
			c.Lower[n] = place(l)
		}
		if c.Upper != "" {
			c.Upper, c.Work = place(c.Upper), place(c.Work)
		}
	}
	return failed
}

// inTree gives a path of this host as the tree has it, or, without --root, as it is; false for one outside.
func (a *app) inTree(path string) (string, bool) {
	root := a.treeRoot()
	if !within(path, cmp.Or(root, "/")) {
		return "", false
	}
	return cmp.Or(strings.TrimPrefix(path, root), "/"), true
}

// openLayers opens the layers of an overlay, of which c is the configuration on this host, for reading.
func openLayers(o inventory.Overlay, c overlayfs.Config) (*ovl.View, error) {
	defaults, err := host.ReadDefaults()
	if err != nil {
		return nil, err
	}
	mountpoint := ""
	if o.Mounted {
		mountpoint = o.Mountpoint
	}
	return ovl.Open(c, mountpoint, defaults)
}
