package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/overlayd/overlayd/internal/importer"
	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// TestImportIsAdopted makes hosts at random and asks for what import promises: plan says adopt for each overlay that is
// written, and nothing that the language has words for is left out.
func TestImportIsAdopted(t *testing.T) {
	written := 0
	for seed := range uint64(600) {
		h := newImportHost(rand.New(rand.NewPCG(seed, 7)))
		d := importer.New(h.Host, importer.Wanted{})
		text, err := proven(h.observe, d)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, text.HCL)
		}
		declared, left := d.Count()
		if declared+left != len(h.Mounted) {
			t.Errorf("seed %d: %d written and %d left out of %d", seed, declared, left, len(h.Mounted))
		}
		if left != h.unfit {
			t.Errorf("seed %d: %d left out, of which %d had to be\n%s", seed, left, h.unfit, text.HCL)
		}
		desired, diags, err := loadText(text.HCL)
		if err != nil || diags.HasErrors() {
			t.Fatalf("seed %d: %v %v", seed, err, diags)
		}
		seen, err := h.observe(desired)
		if err != nil {
			t.Fatal(err)
		}
		p := plan.Diff(desired, seen, nil)
		if p.Count(plan.Adopt) != declared || len(p.Changes) != declared {
			t.Errorf("seed %d: %d written, plan says %+v\n%s\n%s", seed, declared, p.Changes, h.table, text.HCL)
		}
		written += declared
		if t.Failed() {
			return
		}
	}
	if written < 1000 {
		t.Errorf("only %d overlays were written: the generator makes too few that can be", written)
	}
}

// importHost is a host made up: its mount table as the kernel writes it, and what there is at every path.
type importHost struct {
	importer.Host
	table string
	seen  *overlayfs.Table
	unfit int // overlays that have to be left out
}

func newImportHost(r *rand.Rand) *importHost {
	h := &importHost{Host: importer.Host{Paths: map[string]overlayfs.PathInfo{}}}
	h.Defaults = overlayfs.Defaults{
		RedirectDir: r.IntN(8) == 0, Index: r.IntN(8) == 0, Metacopy: r.IntN(8) == 0, XinoAuto: r.IntN(8) == 0,
		RedirectAlwaysFollow: r.IntN(8) > 0,
	}
	var lowers []string
	for i := range 4 {
		lowers = append(lowers, fmt.Sprintf("/l/%d%s", i, oddName(r)))
		h.look(r, lowers[i])
	}
	lines := []string{"1 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw"}
	for i := range 1 + r.IntN(8) {
		at := fmt.Sprintf("/m/%d/%s", r.IntN(3), oddName(r)+fmt.Sprint(i))
		c := overlayfs.Config{Options: overlayfs.Options{}}
		order := r.Perm(len(lowers))
		for _, k := range order[:1+r.IntN(3)] {
			c.Lower = append(c.Lower, lowers[k])
		}
		if len(c.Lower) == 1 || r.IntN(4) > 0 {
			c.Upper, c.Work = fmt.Sprintf("/d/%d%s/u", i, oddName(r)), fmt.Sprintf("/d/%d/w", i)
			h.look(r, c.Upper)
			h.look(r, c.Work)
		}
		unfit := h.options(r, &c)
		switch r.IntN(12) {
		case 0:
			at, unfit = at+"\n", true
		case 1:
			c.Lower[0], unfit = c.Lower[0]+"\x01", true
		case 2:
			c.Lower[0], unfit = "relative", true
		case 3:
			at, unfit = at+"e\u0301", true
		}
		h.look(r, at)
		if unfit {
			h.unfit++
		}
		lines = append(lines, mountLine(30+i, at, c, perMountFlags(r)))
	}
	h.table = strings.Join(lines, "\n") + "\n"
	var err error
	if h.seen, err = overlayfs.ParseTable(strings.NewReader(h.table)); err != nil {
		panic(err)
	}
	for _, m := range h.seen.All() {
		if m.Overlay != nil {
			h.Mounted = append(h.Mounted, importer.Mounted{Live: m, Stack: 1})
		}
	}
	return h
}

// look makes up what is at a path: a directory of its own, on a mount with some flags.
func (h *importHost) look(r *rand.Rand, p string) {
	if _, ok := h.Paths[p]; ok {
		return
	}
	info := overlayfs.PathInfo{
		Path: p, Real: p, Exists: true, IsDir: true, Base: p, MountID: 1, Mode: 0o700, FSType: "ext4",
		Flags: overlayfs.Options{}, ID: overlayfs.FileID{Dev: 1, Ino: uint64(len(h.Paths) + 1)},
	}
	if strings.HasPrefix(p, "/l/") {
		info.ID.Dev = 1 + r.Uint64N(2)
	}
	for _, f := range []string{"nosuid", "nodev", "noexec"} {
		if r.IntN(6) == 0 {
			info.Flags[f] = ""
		}
	}
	h.Paths[p] = info
}

// options makes up what the kernel shows of an overlay, and tells whether the language has no words for it.
func (h *importHost) options(r *rand.Rand, c *overlayfs.Config) (unfit bool) {
	one := func(values ...string) string { return values[r.IntN(len(values))] }
	shown := map[string]string{}
	switch r.IntN(12) {
	case 0:
		shown["redirect_dir"] = one("on", "nofollow")
	case 1:
		shown["redirect_dir"], shown["metacopy"] = "on", "on"
	case 2:
		shown["redirect_dir"], shown["metacopy"], shown["verity"] = "on", "on", one("on", "require")
	case 3:
		shown["redirect_dir"], shown["userxattr"], shown["metacopy"] = "nofollow", "", "off"
	case 4:
		shown["volatile"], unfit = "", true
	case 5:
		shown["fsync"], unfit = one("strict", "volatile"), true
	case 6:
		c.Data, unfit = []string{"/l/blobs"}, true
	}
	if c.Upper != "" && shown["metacopy"] == "" && !h.Defaults.Metacopy {
		switch r.IntN(6) {
		case 0:
			shown["index"] = "on"
		case 1:
			shown["index"], shown["nfs_export"] = "on", "on"
		}
	}
	if r.IntN(4) == 0 {
		shown["uuid"] = one("on", "off", "null")
	}
	if r.IntN(4) == 0 {
		shown["xino"] = one("on", "auto", "off")
	}
	if r.IntN(6) == 0 {
		shown["default_permissions"] = ""
	}
	maps.Copy(c.Options, shown)
	return unfit
}

func perMountFlags(r *rand.Rand) string {
	flags := []string{"rw"}
	for _, f := range []string{"nosuid", "nodev", "noexec", "nodiratime"} {
		if r.IntN(3) == 0 {
			flags = append(flags, f)
		}
	}
	if r.IntN(6) == 0 {
		flags[0] = "ro"
	}
	switch r.IntN(4) {
	case 0:
		flags = append(flags, "noatime")
	case 1: // strictatime shows as nothing
	default:
		flags = append(flags, "relatime")
	}
	return strings.Join(flags, ",")
}

// mountLine writes a line of the mount table as the kernel does.
func mountLine(id int, at string, c overlayfs.Config, flags string) string {
	mangle := strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`, ",", `\054`).Replace
	point := strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`).Replace(at)
	lower := make([]string, 0, len(c.Lower))
	for _, l := range c.Lower {
		lower = append(lower, strings.NewReplacer(`\`, `\\`, ":", `\:`, ",", `\,`).Replace(l))
	}
	text := strings.Join(lower, ":")
	for _, d := range c.Data {
		text += "::" + d
	}
	super := []string{"rw", "lowerdir=" + mangle(text)}
	upper := strings.NewReplacer(`\`, `\\`, ",", `\,`).Replace
	if c.Upper != "" {
		super = append(super, "upperdir="+mangle(upper(c.Upper)), "workdir="+mangle(upper(c.Work)))
	} else {
		super[0] = "ro"
	}
	for _, name := range slices.Sorted(maps.Keys(c.Options)) {
		if value := c.Options[name]; value != "" {
			name += "=" + value
		}
		super = append(super, name)
	}
	return fmt.Sprintf("%d 1 0:%d / %s %s - overlay byhand %s", id, id, point, flags, strings.Join(super, ","))
}

// oddName is a name that HCL, the kernel or a unit would read in another way if it were not written carefully. It holds
// nothing that systemd would replace in the command line of mount(8).
func oddName(r *rand.Rand) string {
	parts := []string{
		"a", "Zoë", ",", ":", "  ", `\`, "%", "$x", "{", "}", "'", "#", "%{", "//", "/*", "-", "é", "7",
	}
	name := "n"
	for range r.IntN(5) {
		name += strings.ReplaceAll(parts[r.IntN(len(parts))], "/", "|")
	}
	return name + "n"
}

// observe is what a look at the made-up host gives.
func (h *importHost) observe(plan.Desired) (*plan.Observed, error) {
	return &plan.Observed{
		Mounts: h.seen, Paths: h.Paths, Defaults: h.Defaults, Fstab: map[string]plan.FstabLine{},
		Target: plan.TargetUnit{Exists: true, Ours: true, Current: true, Enabled: true},
	}, nil
}
