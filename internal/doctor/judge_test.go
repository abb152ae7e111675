package doctor_test

import (
	"regexp"
	"slices"
	"testing"

	"github.com/overlayd/overlayd/internal/doctor"
	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
)

// healthy is a host where nothing is wrong, with one overlay.
func healthy() doctor.Facts {
	yes := true
	options := map[string]bool{}
	for _, name := range host.Options() {
		options[name] = true
	}
	return doctor.Facts{
		Question: doctor.Question{
			Spec: doctor.Spec{Paths: []string{"/etc/overlayd"}},
			Overlays: []doctor.Overlay{{
				Address: "overlay.a", Source: "/etc/overlayd/site.hcl:3",
				Options: overlayfs.Options{"redirect_dir": "off", "index": "off", "metacopy": "off", "nosuid": ""},
			}},
		},
		Privileges: doctor.Privileges{Root: true, Mounts: true},
		Kernel: doctor.Kernel{
			Release: "6.12.41-amd64", Overlay: true, DefaultsSeen: true, Options: options,
			Defaults: overlayfs.Defaults{RedirectAlwaysFollow: true},
		},
		Mount:    doctor.Mount{Found: true, UtilLinux: true, Version: "2.38.1"},
		Systemd:  doctor.Systemd{Version: 257, Running: true, RunFree: 1 << 30},
		Security: doctor.Security{Modules: []string{"capability", "apparmor"}},
		Filesystems: []doctor.Filesystem{
			{
				Use: doctor.Upper, Paths: []string{"/srv/a/upper"}, Overlays: []string{"overlay.a"}, Mountpoint: "/srv",
				Type: "ext4", Space: &host.Space{Size: 100 << 30, Free: 50 << 30, Inodes: 1000, FreeInodes: 900},
				UserXattrs: &yes,
			},
			{
				Use: doctor.Lower, Paths: []string{"/srv/base"}, Overlays: []string{"overlay.a"}, Mountpoint: "/srv",
				Type: "ext4", ShowsTypes: &yes,
			},
		},
		Fstab: []doctor.FstabLine{{Line: 7, Mountpoint: "/other"}},
	}
}

func TestJudgeHealthy(t *testing.T) {
	findings := doctor.Judge(healthy())
	for _, f := range findings {
		if f.Level != doctor.OK || f.Remedy != "" || f.Text == "" || f.Subject == "" {
			t.Errorf("finding %+v of a healthy host", f)
		}
	}
	for _, area := range doctor.Areas() {
		if !slices.ContainsFunc(findings, func(f doctor.Finding) bool { return f.Area == area }) {
			t.Errorf("nothing is said about %s", area)
		}
	}
}

// verdict is what one change to a healthy host is to lead to: one finding about a subject.
type verdict struct {
	name    string
	change  func(f *doctor.Facts)
	subject string
	level   doctor.Level
	text    string // a pattern
	remedy  string // a pattern, "" for none
}

func judge(t *testing.T, cases []verdict) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := healthy()
			c.change(&f)
			var found []doctor.Finding
			for _, each := range doctor.Judge(f) {
				if each.Subject == c.subject {
					found = append(found, each)
				}
			}
			if len(found) != 1 {
				t.Fatalf("%d findings about %s, want 1: %+v", len(found), c.subject, found)
			}
			got := found[0]
			if got.Level != c.level || !regexp.MustCompile(c.text).MatchString(got.Text) {
				t.Errorf("%s %q, want %s ~%q", got.Level, got.Text, c.level, c.text)
			}
			if (c.remedy == "") != (got.Remedy == "") || !regexp.MustCompile(c.remedy).MatchString(got.Remedy) {
				t.Errorf("remedy %q, want ~%q", got.Remedy, c.remedy)
			}
		})
	}
}

func TestJudgeHost(t *testing.T) {
	judge(t, []verdict{
		// host
		{
			"not root", func(f *doctor.Facts) { f.Privileges = doctor.Privileges{} },
			"privileges", doctor.Warning, "not root", "as root",
		},
		{
			"root in a container", func(f *doctor.Facts) { f.Privileges.Mounts = false }, "privileges", doctor.Error,
			"CAP_SYS_ADMIN", "host itself",
		},
		{
			"own namespace", func(f *doctor.Facts) { f.Privileges.OwnNamespace = true }, "mount namespace", doctor.Warning,
			"process 1", "nsenter",
		},
		{
			"no mount table", func(f *doctor.Facts) { f.TableErr = "cannot read" },
			"mount table", doctor.Error, "cannot read", "proc",
		},
		{
			"selinux", func(f *doctor.Facts) { f.Security.SELinux = "enforcing" }, "security", doctor.Warning,
			"SELinux is enforcing", "audit",
		},

		// kernel
		{
			"old kernel", func(f *doctor.Facts) { f.Kernel.Release = "5.4.0-150" },
			"release", doctor.Error, `5\.4\.0-150 is older than 5\.10`, "newer",
		},
		{
			"oldest kernel", func(f *doctor.Facts) { f.Kernel.Release = "5.10.0" },
			"release", doctor.OK, `^5\.10\.0$`, "",
		},
		{
			"odd kernel", func(f *doctor.Facts) { f.Kernel.Release = "linux" },
			"release", doctor.Warning, `"linux" tells no version`, "",
		},
		{
			"no overlays", func(f *doctor.Facts) { f.Kernel.Overlay = false },
			"overlay", doctor.Error, "no overlay filesystem", "modprobe",
		},
		{
			"module not loaded, not root", func(f *doctor.Facts) { f.Kernel.Overlay, f.Privileges = false, doctor.Privileges{} },
			"overlay", doctor.Warning, "not loaded", "root",
		},
		{
			"defaults hidden", func(f *doctor.Facts) { f.Kernel.DefaultsSeen = false },
			"defaults", doctor.Warning, "not to be seen", "modprobe",
		},
		{
			"defaults unreadable", func(f *doctor.Facts) { f.Kernel.DefaultsErr = "cannot x" },
			"defaults", doctor.Warning, "cannot x", "readable",
		},
		{
			"other defaults", func(f *doctor.Facts) { f.Kernel.Defaults.RedirectDir, f.Kernel.Defaults.XinoAuto = true, true },
			"defaults", doctor.OK, "redirect_dir=on, index=off, .*xino=auto; .*pin", "",
		},
		{
			"some options", func(f *doctor.Facts) { f.Kernel.Options["uuid=null"], f.Kernel.Options["::"] = false, false },
			"options", doctor.OK, "takes 21 of the 22 settings that a spec may name, not uuid=null$", "",
		},
		{
			"options unknown without root",
			func(f *doctor.Facts) {
				f.Kernel.Options, f.Privileges, f.Kernel.OptionsErr = nil, doctor.Privileges{}, "EPERM"
			},
			"options", doctor.Warning, "not known", "as root",
		},
		{
			"no overlay can be mounted", func(f *doctor.Facts) { f.Kernel.Options, f.Kernel.OptionsErr = nil, "cannot try" },
			"options", doctor.Error, "cannot try", "host itself",
		},
		{
			"options of no filesystem", func(f *doctor.Facts) { f.Kernel.Options, f.Kernel.Overlay = nil, false },
			"options", doctor.Warning, "not known", "",
		},
		{
			"native diff, redirects by default", func(f *doctor.Facts) { f.Kernel.Defaults.RedirectDir = true },
			"native diff", doctor.OK, "possible: .*not of overlays that others mount", "",
		},
		{
			"native diff, not of one", func(f *doctor.Facts) { f.Overlays[0].Options["index"] = "on" },
			"native diff", doctor.OK, `but for overlay\.a \(index=on\)`, "",
		},

		// boot
		{
			"mount uses fsconfig", func(f *doctor.Facts) { f.Mount.Version = "2.41.5" }, "mount(8)", doctor.OK,
			`2\.41\.5.*255 bytes.*LIBMOUNT_FORCE_MOUNT2[^;]*$`, "",
		},
		{
			"mount too new", func(f *doctor.Facts) { f.Mount.Version = "2.42" },
			"mount(8)", doctor.OK, `newer than 2\.41`, "",
		},
		{
			"mount too old", func(f *doctor.Facts) { f.Mount.Version = "2.36.1" },
			"mount(8)", doctor.Warning, `older than 2\.38`, "drift",
		},
		{
			"no mount", func(f *doctor.Facts) { f.Mount = doctor.Mount{} },
			"mount(8)", doctor.Error, "there is none", "util-linux",
		},
		{
			"no mount, no systemd", func(f *doctor.Facts) { f.Mount, f.Systemd = doctor.Mount{}, doctor.Systemd{} },
			"mount(8)", doctor.Warning, "there is none", "util-linux",
		},
		{
			"busybox", func(f *doctor.Facts) { f.Mount = doctor.Mount{Found: true, Text: "BusyBox v1.36"} }, "mount(8)",
			doctor.Warning, "BusyBox", "util-linux",
		},
		{
			"a helper", func(f *doctor.Facts) { f.Mount.Helper = "/sbin/mount.overlay" }, "mount.overlay", doctor.Warning,
			"/sbin/mount.overlay", "remove it",
		},
		{
			"old systemd", func(f *doctor.Facts) { f.Systemd.Version = 247 },
			"systemd", doctor.Warning, "247 runs, older than 252", "drift",
		},
		{
			"no systemd", func(f *doctor.Facts) { f.Systemd = doctor.Systemd{} },
			"systemd", doctor.Warning, "none is here", "each boot",
		},
		{
			"systemd does not run", func(f *doctor.Facts) { f.Systemd.Running = false }, "systemd", doctor.Warning,
			"257 is installed and does not run", "each boot",
		},
		{
			"systemd does not answer", func(f *doctor.Facts) { f.Systemd.Err = "cannot connect" }, "systemd", doctor.Error,
			"cannot connect", "systemctl",
		},
		{
			"systemd of no version", func(f *doctor.Facts) { f.Systemd.Version = 0 },
			"systemd", doctor.Warning, "not known", "",
		},
		{
			"run full", func(f *doctor.Facts) { f.Systemd.RunFree = 16<<20 - 1 },
			"/run", doctor.Error, "16 MiB", "enlarge",
		},
		{
			"run just enough", func(f *doctor.Facts) { f.Systemd.RunFree = 16 << 20 },
			"/run", doctor.OK, "16 MiB free", "",
		},
		{
			"run unknown", func(f *doctor.Facts) { f.Systemd.RunErr = "cannot look" },
			"/run", doctor.Warning, "cannot look", "",
		},
		{
			"unfinished", func(f *doctor.Facts) { f.Unfinished = true },
			"unfinished", doctor.Warning, "interrupted", "apply",
		},
		{
			"careless fstab", func(f *doctor.Facts) { f.Fstab[0].Careless = true }, "/etc/fstab", doctor.Warning,
			"line 7 .*/other.*emergency", "nofail",
		},
		{"fstab", func(*doctor.Facts) {}, "/etc/fstab", doctor.OK, "line 7 mounts an overlay at /other$", ""},
		{
			"fstab unreadable", func(f *doctor.Facts) { f.Fstab, f.FstabErr = nil, "cannot look" }, "/etc/fstab", doctor.Warning,
			"cannot look", "",
		},
	})
}

// TestJudgeTree: what is wrong with this host is no matter of a tree.
func TestJudgeTree(t *testing.T) {
	sick := doctor.Facts{Question: doctor.Question{Root: "/image", Spec: doctor.Spec{Missing: true}}}
	sick.Tree = doctor.Tree{Mount: true, Systemd: true}
	for _, f := range doctor.Judge(sick) {
		if f.Level != doctor.OK {
			t.Errorf("finding %+v of a tree", f)
		}
	}
}

// TestJudgeIgnorant: of what could not be looked at nothing is said to be well.
func TestJudgeIgnorant(t *testing.T) {
	for _, f := range doctor.Judge(doctor.Facts{}) {
		well := f.Area == doctor.AreaOverlays || f.Subject == "native diff" // that there is none, and what units pin
		if f.Level == doctor.OK && !well {
			t.Errorf("finding %+v without any facts", f)
		}
	}
}
