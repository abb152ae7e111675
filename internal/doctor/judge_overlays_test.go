package doctor_test

import (
	"testing"

	"github.com/overlayd/overlayd/internal/doctor"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
)

func TestJudgeOverlays(t *testing.T) {
	no := false
	upper := func(f *doctor.Facts) *doctor.Filesystem { return &f.Filesystems[0] }
	lower := func(f *doctor.Facts) *doctor.Filesystem { return &f.Filesystems[1] }
	judge(t, []verdict{
		// filesystems
		{
			"cannot hold uppers", func(f *doctor.Facts) {
				upper(f).Upper = doctor.UpperTrial{Cause: "it is bad", Remedy: "move it"}
			},
			"/srv/a/upper", doctor.Error, "^upperdir of overlay.a, on ext4 at /srv; cannot hold upperdirs: it is bad$",
			"^move it$",
		},
		{
			"state_dir that nobody uses", func(f *doctor.Facts) {
				upper(f).Use, upper(f).Overlays, upper(f).Missing = doctor.StateDir, nil, true
				upper(f).Upper = doctor.UpperTrial{Cause: "it is bad", Remedy: "move it"}
			},
			"/srv/a/upper", doctor.Warning, "^state_dir, not there yet, on ext4.*it is bad", "^move it$",
		},
		{
			"not tried, not root", func(f *doctor.Facts) {
				f.Privileges, upper(f).Upper.NotTried = doctor.Privileges{}, "that takes root"
			},
			"/srv/a/upper", doctor.Warning, "not known: that takes root", "as root",
		},
		{
			"no user xattrs", func(f *doctor.Facts) { upper(f).UserXattrs = &no },
			"/srv/a/upper", doctor.Warning, `no user\.\*`, "ext4",
		},
		{
			"tmpfs", func(f *doctor.Facts) { upper(f).Type = "tmpfs" },
			"/srv/a/upper", doctor.Warning, "lost at a reboot", "disk",
		},
		{
			"flags", func(f *doctor.Facts) { upper(f).Flags = []string{"nosuid", "nodev"} }, "/srv/a/upper", doctor.OK,
			"nosuid, nodev, as its overlays", "",
		},
		{
			"low on bytes", func(f *doctor.Facts) { upper(f).Space.Free = 1<<30 - 1<<20 },
			"/srv/a/upper", doctor.Warning, "low: 1023 MiB of", "prune",
		},
		{
			"low on percent", func(f *doctor.Facts) { *upper(f).Space = host.Space{Size: 100 << 30, Free: 5<<30 - 1} },
			"/srv/a/upper", doctor.Warning, "low: 5.0 GiB of 100 GiB", "du",
		},
		{
			"just enough", func(f *doctor.Facts) { *upper(f).Space = host.Space{Size: 20 << 30, Free: 1 << 30} },
			"/srv/a/upper", doctor.OK, `; 1.0 GiB of 20 GiB \(5 %\) free$`, "",
		},
		{
			"low on inodes", func(f *doctor.Facts) { upper(f).Space.FreeInodes = 49 },
			"/srv/a/upper", doctor.Warning, "4 % of the inodes", "prune",
		},
		{
			"out of inodes", func(f *doctor.Facts) { upper(f).Space.FreeInodes = 0 },
			"/srv/a/upper", doctor.Error, "full: .*0 % of the inodes", "prune",
		},
		{
			"full", func(f *doctor.Facts) { upper(f).Space.Free = 0 },
			"/srv/a/upper", doctor.Error, "full: 0 B of", "prune",
		},
		{
			"several", func(f *doctor.Facts) {
				upper(f).Paths = []string{"/srv/a/upper", "/srv/b/upper", "/srv/c/upper", "/srv/d/upper"}
				upper(f).Overlays = []string{"overlay.a", "overlay.b", "overlay.c", "overlay.d"}
			},
			"4 upperdirs on /srv", doctor.OK, `^upperdirs of overlay\.a, overlay\.b, overlay\.c and 1 more, on ext4 at /srv;`,
			"",
		},
		{
			"cannot be looked at", func(f *doctor.Facts) { upper(f).Err, upper(f).Type = "permission denied", "" },
			"/srv/a/upper", doctor.Warning, "^upperdir of overlay.a; permission denied$", "",
		},
		{
			"no types below", func(f *doctor.Facts) { lower(f).ShowsTypes = &no },
			"/srv/base", doctor.Warning, "d_type", "ftype=1",
		},
		{
			"on an overlay", func(f *doctor.Facts) { lower(f).Depth = 1 },
			"/srv/base", doctor.OK, "lies on an overlay", "",
		},
		{
			"on two overlays", func(f *doctor.Facts) { lower(f).Depth = 2 },
			"/srv/base", doctor.Error, "no third", "lowest overlay",
		},
		{
			"on the network, read-only", func(f *doctor.Facts) { lower(f).Network, lower(f).ReadOnly = true, true },
			"/srv/base", doctor.OK, "over the network.*; read-only", "",
		},
		{
			"base in memory", func(f *doctor.Facts) { lower(f).Type = "tmpfs" },
			"/srv/base", doctor.Warning, "layer is gone", "disk",
		},

		// overlays
		{
			"conflict", func(f *doctor.Facts) { f.Overlays[0].Conflicts = []string{"no base: make it"} }, "overlay.a",
			doctor.Error, `^no base: make it \(/etc/overlayd/site\.hcl:3\)$`, "",
		},
		{
			"plan warns", func(f *doctor.Facts) { f.Overlays[0].Warnings = []string{"trusts bob"} }, "overlay.a",
			doctor.Warning, `^trusts bob \(/etc/overlayd/site\.hcl:3\)$`, "",
		},
		{
			"kernel does not take its option", func(f *doctor.Facts) {
				f.Overlays[0].Options["uuid"], f.Kernel.Options["uuid=null"] = "null", false
				f.Refused = map[int]string{0: "invalid argument"}
			},
			"overlay.a", doctor.Error, `does not take uuid=null \(/etc/overlayd/site\.hcl:3\)$`, "newer kernel",
		},
		{
			"kernel refuses the layers", func(f *doctor.Facts) { f.Refused = map[int]string{0: "too deep"} }, "overlay.a",
			doctor.Error, "^too deep", "plan",
		},
		{"nothing in the way", func(*doctor.Facts) {}, "1 overlay", doctor.OK, "nothing is in the way", ""},
		{
			"not tried out", func(f *doctor.Facts) { f.TrialErr, f.Privileges = "that takes root", doctor.Privileges{} },
			"1 overlay", doctor.Warning, "not asked about the layers: that takes root", "as root",
		},
		{"no spec", func(f *doctor.Facts) { f.Spec.Missing = true }, "spec", doctor.OK, "none at /etc/overlayd", ""},
		{
			"broken spec", func(f *doctor.Facts) { f.Spec.Errors = 2 },
			"spec", doctor.Error, "/etc/overlayd has 2 errors", "validate",
		},
		{
			"spec with a warning", func(f *doctor.Facts) { f.Spec.Warnings = 1 },
			"spec", doctor.Warning, "1 warning", "validate",
		},
		{
			"no plan", func(f *doctor.Facts) { f.Spec.Err = "cannot read fstab" },
			"overlays", doctor.Error, "fstab", "again",
		},
		{
			"not trusted", func(f *doctor.Facts) { f.Spec.Distrust = []string{"bob's"} },
			"trust", doctor.Error, "bob's", "",
		},
		{
			"not trusted, not root", func(f *doctor.Facts) {
				f.Spec.Distrust, f.Privileges = []string{"bob's"}, doctor.Privileges{}
			},
			"trust", doctor.Warning, "bob's", "",
		},
		{
			"mounts below a base", func(f *doctor.Facts) {
				f.Filesystems = f.Filesystems[:1]
				f.Submount = []doctor.Submount{{Lower: "/srv/base", Mounts: []string{"/srv/base/usr"}}}
			},
			"/srv/base", doctor.Warning, "below it: /srv/base/usr", "layer",
		},

		// a tree
		{
			"a tree", func(f *doctor.Facts) { f.Root = "/image" },
			"--root", doctor.OK, "only what lies in the tree", "",
		},
		{
			"a tree without mount", func(f *doctor.Facts) { f.Root = "/image" },
			"mount(8)", doctor.Warning, "tree has none", "util-linux",
		},
		{
			"a tree with systemd", func(f *doctor.Facts) { f.Root, f.Tree.Systemd = "/image", true }, "systemd", doctor.OK,
			"there", "",
		},
	})
}
