package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/overlayd/overlayd/internal/doctor"
	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
)

// ailing is a host with findings of all levels in most areas.
func ailing() doctor.Facts {
	yes, no := true, false
	options := map[string]bool{}
	for _, name := range host.Options() {
		options[name] = true
	}
	options["uuid=auto"], options["uuid=null"] = false, false
	return doctor.Facts{
		Question: doctor.Question{
			Spec: doctor.Spec{Paths: []string{"/etc/overlayd"}},
			Overlays: []doctor.Overlay{
				{Address: "overlay.docs"},
				{
					Address: `overlay.client["ada"]`, Source: "/etc/overlayd/site.hcl:12",
					Conflicts: []string{"lowerdir /srv/nowhere does not exist: create it, or correct the path"},
				},
				{
					Address: `overlay.client["a name that is longer than its column"]`, Source: "/etc/overlayd/site.hcl:12",
					Options: overlayfs.Options{"uuid": "null"},
				},
				{
					Address: "overlay.guest", Source: "/etc/overlayd/site.hcl:30",
					Warnings: []string{"/srv/guest is owned by guest\x1b[31m (uid 1000), and can make root mount something else"},
				},
			},
			Unfinished: true,
		},
		Privileges: doctor.Privileges{Root: true, Mounts: true},
		Kernel: doctor.Kernel{
			Release: "6.1.0-38-amd64", Overlay: true, DefaultsSeen: true, Options: options,
			Defaults: overlayfs.Defaults{RedirectAlwaysFollow: true},
		},
		Mount:    doctor.Mount{Found: true, UtilLinux: true, Version: "2.41.5"},
		Systemd:  doctor.Systemd{Version: 257, Running: true, RunFree: 3 << 20},
		Security: doctor.Security{Modules: []string{"lockdown", "capability", "yama", "apparmor"}},
		Filesystems: []doctor.Filesystem{
			{
				Use: doctor.StateDir, Paths: []string{"/var/lib/overlayd"}, Mountpoint: "/", Type: "ext4", Missing: true,
				Space: &host.Space{Size: 100 << 30, Free: 70 << 30, Inodes: 1000, FreeInodes: 900}, UserXattrs: &yes,
			},
			{
				Use: doctor.Upper, Paths: []string{"/srv/a/upper", "/srv/b/upper"}, Mountpoint: "/srv", Type: "tmpfs",
				Overlays: []string{`overlay.client["ada"]`, "overlay.docs"}, UserXattrs: &no,
				Space: &host.Space{Size: 8 << 30, Free: 300 << 20},
			},
			{
				Use: doctor.Lower, Paths: []string{"/srv/base"}, Mountpoint: "/srv/base", Type: "squashfs", ReadOnly: true,
				Overlays: []string{"overlay.docs"}, ShowsTypes: &yes, Flags: []string{"nosuid", "nodev"},
			},
		},
		Refused: map[int]string{},
	}
}

func TestViewDoctor(t *testing.T) {
	facts := ailing()
	findings := doctor.Judge(facts)
	golden(t, "doctor", func(w io.Writer) { printDoctor(w, false, 80, findings) })
	golden(t, "doctor_terminal", func(w io.Writer) { printDoctor(w, true, 80, findings) })
	golden(t, "doctor_narrow", func(w io.Writer) { printDoctor(w, false, 40, findings) })
	golden(t, "doctor_json", func(w io.Writer) {
		a := app{streams: streams{out: w}}
		if err := a.writeJSON(newDoctorJSON(facts, findings)); err != nil {
			t.Fatal(err)
		}
	})

	var b bytes.Buffer
	printDoctor(&b, false, 80, findings)
	for line := range strings.Lines(b.String()) {
		if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > 80 {
			t.Errorf("more than 80 columns: %s", line)
		}
	}
}
