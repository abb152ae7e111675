package plan_test

import (
	"strings"
	"testing"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/units"
)

const clientUnit = "m-a.mount"

// TestDecisionTable has a case for each row of the table in the design, and for the rules beside it.
func TestDecisionTable(t *testing.T) {
	other := overlayfs.Config{Lower: []string{"/tools"}, Upper: "/u/a/upper", Work: "/u/a/work", Options: overlayfs.Options{}}
	equal := overlayfs.Config{Lower: []string{"/base"}, Upper: "/u/a/upper", Work: "/u/a/work", Options: overlayfs.Options{}}
	withOption := func(o plan.Overlay, name, value string) plan.Overlay {
		o.Options = overlayfs.Options{name: value}
		return o
	}
	forget := func(w *world) { w.files, w.wants = map[string]units.Mount{}, map[string]map[string]bool{} }
	tests := []struct {
		name       string
		was        []plan.Overlay // applied before
		then       func(w *world) // what happened since
		want       []plan.Overlay // the spec now; client("a") if nil, none if empty
		kind       plan.Kind
		disruptive bool
		via        plan.Via
		reason     string // part of one
	}{
		{name: "no unit, no mount: create", kind: plan.Create, via: plan.ViaSyscall},
		{
			name: "no unit, equal overlay of somebody: adopt",
			then: func(w *world) { w.dir("/u/a/upper", "/u/a/work"); w.mount("/m/a", "byhand", equal) }, kind: plan.Adopt,
			reason: "somebody else",
		},
		{
			name: "no unit, equal overlay of ours: update", was: []plan.Overlay{client("a")}, then: forget,
			kind: plan.Update, reason: "unit file was deleted",
		},
		{
			name: "no unit, other overlay of ours: replace",
			then: func(w *world) { w.dir("/u/a/upper", "/u/a/work"); w.mount("/m/a", plan.Label, other) },
			kind: plan.Replace, disruptive: true, via: plan.ViaSyscall, reason: "/tools",
		},
		{
			name: "no unit, other overlay of somebody: conflict",
			then: func(w *world) { w.mount("/m/a", "byhand", other) }, kind: plan.Conflict, reason: "not overlayd's",
		},
		{
			name: "no unit, another filesystem: conflict",
			then: func(w *world) { w.foreign("/m/a") }, kind: plan.Conflict, reason: "tmpfs",
		},
		{name: "all equal: no_op", was: []plan.Overlay{client("a")}, kind: plan.NoOp},
		{
			name: "unit, hidden below another mount: conflict", was: []plan.Overlay{client("a")},
			then: func(w *world) { w.foreign("/m") }, kind: plan.Conflict, reason: "hidden: somebody (tmpfs)",
		},
		{
			name: "unit, data that only root may look at: no_op", was: []plan.Overlay{client("a")},
			then: func(w *world) {
				for _, p := range []string{"/u/a/upper", "/u/a/work"} {
					w.paths[p] = overlayfs.PathInfo{Path: p, Real: p, Denied: true, Err: "permission denied"}
				}
			},
			kind: plan.NoOp,
		},
		{
			name: "unit, not mounted: repair", was: []plan.Overlay{client("a")},
			then: func(w *world) { w.umount("/m/a") }, kind: plan.Repair, via: plan.ViaSyscall, reason: "not mounted",
		},
		{
			name: "per-mount flags differ from unit and spec: repair in place",
			was:  []plan.Overlay{withOption(client("a"), "nosuid", "")}, want: []plan.Overlay{withOption(client("a"), "nosuid", "")},
			then: func(w *world) { delete(w.mounts[0].config.Options, "nosuid") },
			kind: plan.Repair, via: plan.ViaSyscall, reason: "nosuid",
		},
		{
			name: "another overlay in place of ours: repair", was: []plan.Overlay{client("a")},
			then: func(w *world) { w.umount("/m/a"); w.mount("/m/a", "byhand", other) },
			kind: plan.Repair, disruptive: true, via: plan.ViaSyscall, reason: "lowerdirs",
		},
		{
			name: "fell back to read-only: repair", was: []plan.Overlay{client("a")},
			then: func(w *world) { w.mounts[0].superRO = true },
			kind: plan.Repair, disruptive: true, via: plan.ViaSyscall, reason: "read-only",
		},
		{
			name: "two equal ones of ours: repair, since the lower one cannot work any more",
			was:  []plan.Overlay{client("a")}, then: func(w *world) { w.mounts = append(w.mounts, w.mounts[0]) },
			kind: plan.Repair, disruptive: true, via: plan.ViaSyscall, reason: "mounted 2 times",
		},
		{
			name: "two equal ones of ours, and the layers change: replace", was: []plan.Overlay{client("a")},
			then: func(w *world) { w.mounts = append(w.mounts, w.mounts[0]) },
			want: []plan.Overlay{client("a", "/tools", "/base")},
			kind: plan.Replace, disruptive: true, via: plan.ViaSyscall, reason: "+ /tools",
		},
		{
			name: "unit text edited, mount the same: update", was: []plan.Overlay{client("a")},
			then: func(w *world) {
				text := string(w.files[clientUnit].Render())
				w.edited[clientUnit] = strings.Replace(text, "TimeoutSec=30s", "TimeoutSec=90s", 1)
			},
			kind: plan.Update, reason: "edited by hand",
		},
		{
			name: "an option that changes nothing: update", was: []plan.Overlay{client("a")},
			want: []plan.Overlay{withOption(client("a"), "redirect_dir", "follow")}, kind: plan.Update,
			via:    plan.ViaNone,
			reason: "redirect_dir changed in the unit, which means the same to the kernel",
		},
		{
			name: ".wants link missing: update", was: []plan.Overlay{client("a")},
			then: func(w *world) { delete(w.wants[units.TargetName], clientUnit) }, kind: plan.Update, reason: "not enabled",
		},
		{
			name: "overlayd.target missing: update", was: []plan.Overlay{client("a")},
			then: func(w *world) { w.target = false }, kind: plan.Update, reason: "overlayd.target",
		},
		{
			name: "only per-mount flags change: update in place", was: []plan.Overlay{client("a")},
			want: []plan.Overlay{withOption(client("a"), "nodev", "")}, kind: plan.Update, via: plan.ViaSyscall, reason: "nodev",
		},
		{
			name: "a per-mount flag is dropped: update in place", was: []plan.Overlay{withOption(client("a"), "nosuid", "")},
			kind: plan.Update, via: plan.ViaSyscall, reason: "nosuid is set, and not wanted",
		},
		{
			name: "a per-mount flag set by hand: repair in place", was: []plan.Overlay{client("a")},
			then: func(w *world) { w.mounts[0].config.Options = overlayfs.Options{"noexec": ""} },
			kind: plan.Repair, via: plan.ViaSyscall, reason: "noexec is set",
		},
		{
			name: "layers change, mounted: replace", was: []plan.Overlay{client("a")},
			want: []plan.Overlay{client("a", "/tools", "/base")}, kind: plan.Replace, disruptive: true,
			via: plan.ViaSyscall, reason: "+ /tools",
		},
		{
			name: "layers change, not mounted: update, then mount", was: []plan.Overlay{client("a")},
			then: func(w *world) { w.umount("/m/a") }, want: []plan.Overlay{client("a", "/tools", "/base")},
			kind: plan.Update, via: plan.ViaSyscall, reason: "+ /tools",
		},
		{
			name: "a layer's symlink leads elsewhere: replace",
			was:  []plan.Overlay{client("a")},
			then: func(w *world) {
				w.change("/base", func(i *overlayfs.PathInfo) { i.Symlink, i.Real = "/base", "/tools"; i.ID = w.paths["/tools"].ID })
			},
			kind: plan.Replace, disruptive: true, via: plan.ViaSyscall, reason: "symlink /base now leads to /tools",
		},
		{
			name: "foreign unit file: conflict",
			then: func(w *world) { w.edited[clientUnit] = "[Mount]\nWhat=x\nWhere=/m/a\n" },
			kind: plan.Conflict, reason: "not overlayd's",
		},
		{
			name: "masked: conflict", then: func(w *world) { w.else_[clientUnit] = "/dev/null" },
			kind: plan.Conflict, reason: "masked",
		},
		{
			name: "fstab line: conflict", then: func(w *world) { w.fstab["/m/a"] = plan.FstabLine{File: "/etc/fstab", Line: 12} },
			kind: plan.Conflict, reason: "remove line 12 of /etc/fstab, then apply",
		},
		{
			name: "fstab line gone, its generated unit not yet: adopt",
			then: func(w *world) {
				w.dir("/u/a/upper", "/u/a/work")
				w.mount("/m/a", "byhand", equal)
				w.else_[clientUnit] = "/run/systemd/generator/" + clientUnit
			},
			kind: plan.Adopt,
		},
		{
			name: "drop-in: conflict", was: []plan.Overlay{client("a")},
			then: func(w *world) { w.dropIns[clientUnit] = []string{"/etc/systemd/system/m-a.mount.d/x.conf"} },
			kind: plan.Conflict, reason: "x.conf",
		},
		{
			name: "foreign mount above ours: conflict", was: []plan.Overlay{client("a")},
			then: func(w *world) { w.foreign("/m/a") }, kind: plan.Conflict, reason: "on top of",
		},
		{
			name: "overlayd.target is foreign: conflict", then: func(w *world) { w.alien = true },
			kind: plan.Conflict, reason: "overlayd.target",
		},
		{
			name: "not desired, mounted: delete", was: []plan.Overlay{client("a")}, want: []plan.Overlay{},
			kind: plan.Delete, disruptive: true, via: plan.ViaSyscall, reason: "no longer declared",
		},
		{
			name: "not desired, not mounted: delete", was: []plan.Overlay{client("a")}, want: []plan.Overlay{},
			then: func(w *world) { w.umount("/m/a") }, kind: plan.Delete,
		},
		{
			name: "not desired, another filesystem mounted there: conflict", was: []plan.Overlay{client("a")},
			want: []plan.Overlay{}, then: func(w *world) { w.umount("/m/a"); w.foreign("/m/a") },
			kind: plan.Conflict, reason: "tmpfs",
		},
		{
			name: "not desired, a foreign overlay on top of ours: conflict", was: []plan.Overlay{client("a")},
			want: []plan.Overlay{}, then: func(w *world) { w.mount("/m/a", "docker", other) },
			kind: plan.Conflict, reason: "docker",
		},
		{
			name: "a layer's filesystem is in fstab and not mounted: conflict",
			then: func(w *world) { w.fstab["/u"] = plan.FstabLine{File: "/etc/fstab", Line: 3} },
			kind: plan.Conflict, reason: "mount it first",
		},
		{
			name: "not desired, prevent_destroy: conflict", was: []plan.Overlay{protected(client("a"))},
			want: []plan.Overlay{}, kind: plan.Conflict, reason: "prevent_destroy",
		},
		{
			name: "unit of another spec: conflict", was: []plan.Overlay{from(client("a"), "/srv/b/x.hcl")},
			kind: plan.Conflict, reason: "belongs to /srv/b/x.hcl",
		},
		{
			name: "unit of a spec that is gone: update", was: []plan.Overlay{from(client("a"), "/srv/b/x.hcl")},
			then: func(w *world) { w.gone["/srv/b/x.hcl"] = true }, kind: plan.Update, reason: "no longer exists",
		},
		{
			name: "active units depend on it: systemd restarts it", was: []plan.Overlay{client("a")},
			then: func(w *world) { w.impact["/m/a"] = plan.Impact{Units: []string{"app.service"}} },
			want: []plan.Overlay{client("a", "/tools", "/base")}, kind: plan.Replace, disruptive: true, via: plan.ViaSystemd,
		},
		{
			name: "a new address for a mountpoint: update", was: []plan.Overlay{named(client("a"), "overlay.old")},
			kind: plan.Update, reason: "overlay.old → overlay.a",
		},
		{
			name: "lowerdir missing: conflict", want: []plan.Overlay{client("a", "/nowhere")}, kind: plan.Conflict,
			reason: "lowerdir /nowhere does not exist",
		},
		{
			name: "workdir on another mount: conflict",
			then: func(w *world) {
				w.change("/u/a/work", func(i *overlayfs.PathInfo) { i.MountID = 9 })
				w.dir("/u/a/upper")
			},
			kind: plan.Conflict, reason: "different mounts",
		},
		{
			name: "upperdir removed under the live mount: conflict", was: []plan.Overlay{client("a")},
			then: func(w *world) { delete(w.paths, "/u/a/upper") }, kind: plan.Conflict, reason: "copy what matters out",
		},
		{
			name: "somebody mounts our upperdir as well: conflict", was: []plan.Overlay{client("a")},
			then: func(w *world) { w.mount("/m/x", "byhand", equal) }, kind: plan.Conflict, reason: "mounted at /m/x as well",
		},
		{
			name: "a required unit does not exist: conflict", then: func(w *world) { w.noUnit["nope.service"] = true },
			want: []plan.Overlay{requiring(client("a"), "nope.service")}, kind: plan.Conflict, reason: "nope.service",
		},
		{
			name: "upperdir has content: create, and says so",
			then: func(w *world) { w.dir("/u/a/upper", "/u/a/work") }, kind: plan.Create, via: plan.ViaSyscall,
			reason: "from before",
		},
		{
			name: "flags of a layer's mount are taken over: create, and says so",
			then: func(w *world) {
				w.change("/base", func(i *overlayfs.PathInfo) { i.Flags = overlayfs.Options{"nosuid": "", "ro": ""} })
			},
			kind: plan.Create, via: plan.ViaSyscall, reason: "nosuid: as the mounts",
		},
		{
			name: "a private copy in another namespace: conflict, and the mount stays",
			was:  []plan.Overlay{client("a")}, want: []plan.Overlay{client("a", "/tools", "/base")},
			then: func(w *world) { w.copyOf("/m/a", false) }, kind: plan.Conflict, reason: "process 4711",
		},
		{
			name: "a copy that goes with ours: replace",
			was:  []plan.Overlay{client("a")}, want: []plan.Overlay{client("a", "/tools", "/base")},
			then: func(w *world) { w.copyOf("/m/a", true) }, kind: plan.Replace, disruptive: true, via: plan.ViaSyscall,
		},
		{
			name: "upperdir in use by an overlay that stays: conflict",
			then: func(w *world) { w.dir("/u/a/upper", "/u/a/work", "/m/x"); w.mount("/m/x", "byhand", equal) },
			kind: plan.Conflict, reason: "in use by the overlay mounted at /m/x",
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			w := settled(t, nil...)
			if tc.was != nil {
				d := desired(tc.was...)
				d.Scope.Files = append(d.Scope.Files, "/srv/b/x.hcl")
				w.bring(d)
			}
			if tc.then != nil {
				tc.then(w)
			}
			want := tc.want
			if want == nil {
				want = []plan.Overlay{client("a")}
			}
			p := plan.Diff(desired(want...), w.observe(), nil)
			if len(p.Changes) != 1 {
				t.Fatalf("want one change, got %s", show(p))
			}
			c := p.Changes[0]
			if c.Kind != tc.kind || c.Disruptive != tc.disruptive || c.Via != tc.via {
				t.Errorf("want %s via %q disruptive=%t, got %s", tc.kind, tc.via, tc.disruptive, show(p))
			}
			if all := strings.Join(c.Reasons, "; "); !strings.Contains(all, tc.reason) {
				t.Errorf("no reason says %q: %s", tc.reason, all)
			}
		})
	}
}

func protected(o plan.Overlay) plan.Overlay {
	o.PreventDestroy = true
	return o
}

func from(o plan.Overlay, source string) plan.Overlay {
	o.Source = source
	return o
}

func named(o plan.Overlay, address string) plan.Overlay {
	o.Address = address
	return o
}

func requiring(o plan.Overlay, unit string) plan.Overlay {
	o.Requires = []string{unit}
	return o
}
