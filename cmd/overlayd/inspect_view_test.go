package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/overlayd/overlayd/internal/inventory"
	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// everything is an overlay of ours of which there is everything to say.
func everything() inspection {
	unit := &plan.UnitFile{Path: "/etc/systemd/system/srv-clients-ada.mount"}
	unit.Source, unit.PreventDestroy = "/etc/overlayd/site.hcl", true
	tmpfs := overlayfs.Mount{ID: 80, Mountpoint: "/srv/clients", FSType: "tmpfs", Source: "over\x1b[31m"}
	return inspection{
		Overlay: inventory.Overlay{
			Address: `overlay.client["ada"]`, Managed: true, Owner: overlayfs.OwnerOverlayd,
			Mountpoint: "/srv/clients/ada",
			Config: overlayfs.Config{
				Lower: []string{"/srv/tools", "/srv/base"}, Data: []string{"/srv/objects"}, Upper: "/srv/data/ada/upper",
				Work: "/srv/data/ada/work", Options: overlayfs.Options{
					"index": "off", "metacopy": "on", "redirect_dir": "on", "nosuid": "", "nodev": "", "noexec": "", "noatime": "",
				},
			},
			Mounted: true, Hidden: true,
			Mount: overlayfs.Mount{ID: 71, Dev: "0:41", Source: "overlayd", SuperReadOnly: true, Mountpoint: "/srv/clients/ada"},
			Unit:  "srv-clients-ada.mount", UnitFile: unit.Path, Applied: unit,
		},
		state:   reconcile.StateDrifted,
		reasons: []string{"the kernel fell back to read-only: it could not clean the workdir when it mounted"},
		hides:   &tmpfs,
		inReach: []overlayfs.Mount{tmpfs, {ID: 70, FSType: "overlay", Mountpoint: "/srv/clients/ada"}},
		outOfReach: []overlayfs.Mount{
			{ID: 69, FSType: "overlay", Source: "byhand", Mountpoint: "/srv/clients/ada"},
		},
		copies: []overlayfs.Mount{{Mountpoint: "/mnt/a"}, {Mountpoint: "/mnt/b"}},
		below:  []inventory.Overlay{{Mountpoint: "/srv/base"}},
		above:  []inventory.Overlay{{Address: "overlay.child", Mountpoint: "/srv/child"}},
		users: plan.Impact{
			Units: []string{"build@ada.service", "web.service"}, Mounts: []string{"/srv/clients/ada/cache"},
			Processes: []overlayfs.Process{
				{PID: 4711, Command: "vi notes"},
				{PID: 4712, Command: "cc1 -quiet -O2 -Wall -Wextra -fstack-protector-strong -o /tmp/cc.s main.c"},
			},
		},
	}
}

func TestViewInspect(t *testing.T) {
	all := everything()
	show := func(paint painter, width int, s inspection) func(w io.Writer) {
		return func(w io.Writer) { printInspection(w, paint, width, s) }
	}
	golden(t, "inspect", show(false, 0, all))
	golden(t, "inspect_terminal", show(true, 80, all))

	odd := inspection{Overlay: all.Overlay, state: reconcile.StateMounted}
	long := "/srv" + strings.Repeat("/my documents", 8)
	odd.Mountpoint, odd.Hidden = long+"/here", false
	odd.Config.Lower, odd.Config.Upper = []string{long, "/srv/e\x1b[31m", "/srv/\u202etxt"}, "/srv/a\nb"
	odd.beneath = []inventory.Overlay{{
		Address: "overlay.seat", Unit: "srv-seat.mount", Mount: overlayfs.Mount{ID: 60, Mountpoint: odd.Mountpoint},
	}}
	odd.inReach = []overlayfs.Mount{odd.beneath[0].Mount, {ID: 61, FSType: "tmpfs", Mountpoint: odd.Mountpoint}}
	odd.below = []inventory.Overlay{{Address: "overlay.base", Mountpoint: long}}
	odd.users.Mounts = []string{long + "/here/cache"}
	golden(t, "inspect_paths", show(false, 80, odd))
	onTop := odd
	onTop.hides = &overlayfs.Mount{ID: 99, FSType: "overlay", Mountpoint: odd.Mountpoint}
	golden(t, "inspect_below", show(true, 80, onTop))

	down := inspection{
		Overlay: all.Overlay, state: reconcile.StateConflict, reasons: []string{"a reason"},
		inReach: []overlayfs.Mount{{ID: 80, Mountpoint: "/srv/clients/ada", FSType: "tmpfs"}},
	}
	down.Mounted, down.Hidden = false, false
	golden(t, "inspect_down", show(false, 0, down))

	foreign := inspection{
		Overlay: inventory.Overlay{
			Owner: overlayfs.OwnerOther, Mountpoint: "/h/m", Config: overlayfs.Config{Lower: []string{"/a", "/b"}},
			Mounted: true, Mount: overlayfs.Mount{ID: 7, Dev: "0:7", Mountpoint: "/h/m"},
		},
		state: reconcile.StateMounted,
	}
	golden(t, "inspect_foreign", show(false, 0, foreign))
	foreign.users.Processes = []overlayfs.Process{}
	foreign.Config.Upper, foreign.Config.Work = "/u", "/w"
	golden(t, "inspect_unused", show(false, 0, foreign))
	golden(t, "inspect_json", func(w io.Writer) {
		a := app{streams: streams{out: w}}
		if err := a.writeJSON(newInspectJSON(all)); err != nil {
			t.Fatal(err)
		}
	})

	var b bytes.Buffer
	printInspection(&b, false, 80, all)
	for line := range strings.Lines(b.String()) {
		if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > 80 {
			t.Errorf("more than 80 columns: %s", line)
		}
	}
}

func TestViewList(t *testing.T) {
	docker := "/var/lib/docker/overlay2/bbb51853e3686b31d19514121c7ec137e187c0869b8f96ffef27a15773142e3c/merged"
	all := []inventory.Overlay{
		everything().Overlay,
		{Owner: overlayfs.OwnerOverlayd, Mountpoint: "/srv/orphan\x1b[31m", Config: overlayfs.Config{Upper: "/u"}},
		{
			Owner: overlayfs.OwnerDocker, Mountpoint: docker,
			Config: overlayfs.Config{Upper: "/u", Lower: []string{"l/A", "l/B"}},
		},
		{
			Owner: overlayfs.OwnerContainerd, Mountpoint: "/run/containerd/x",
			Config: overlayfs.Config{Upper: "/u", Lower: []string{"/a"}, Data: []string{"/d"}},
			Mount:  overlayfs.Mount{Flags: overlayfs.Options{"ro": ""}},
		},
	}
	golden(t, "list", func(w io.Writer) { printList(w, false, 0, all[:2], false) })
	golden(t, "list_all", func(w io.Writer) { printList(w, false, 0, all, true) })
	golden(t, "list_terminal", func(w io.Writer) { printList(w, true, 80, all, true) })
	long := inventory.Overlay{
		Address: `overlay.client["` + strings.Repeat("x", 50) + `"]`, Owner: overlayfs.OwnerOverlayd, Mountpoint: "/srv/x",
	}
	wide := inventory.Overlay{
		Address: `overlay.client["日本語"]`, Owner: overlayfs.OwnerOverlayd, Mountpoint: "/srv/日本語",
	}
	golden(t, "list_long", func(w io.Writer) { printList(w, false, 80, append(all[:2], long, wide), false) })
}
