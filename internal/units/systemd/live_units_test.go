package systemd_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/overlayd/overlayd/internal/units"
	"github.com/overlayd/overlayd/internal/units/systemd"
)

// TestLiveReadsTheSame: systemd reads out of a unit what Parse reads.
func TestLiveReadsTheSame(t *testing.T) {
	l := newLive(t)
	var mounts []units.Mount
	for _, name := range []string{
		"plain", "a b", "  c", "tab\tb", `a\b`, `a\,b`, "a,b:c", "50%n%%", `a'b`, "é", "a#b;c", "-", ".hidden", `\x2d`,
		"$HOME",
	} {
		o := l.overlay(name)
		o.Description = "of " + name + `, "quoted" 100% \ é #`
		o.RequiresMountsFor = append(o.RequiresMountsFor,
			filepath.Join(l.base, name, `q"uo'te`), filepath.Join(l.base, `b\s "\x20`))
		o.After = []string{`overlayd\x2dtest.service`, "network.target"}
		o.Wants = []string{`overlayd\x2dtest.service`}
		mounts = append(mounts, o)
	}
	l.install(mounts...)
	for _, o := range mounts {
		unit := o.FileName()
		general, err := l.bus.GetUnitPropertiesContext(l.ctx, unit)
		must(t, err)
		mount, err := l.bus.GetUnitTypePropertiesContext(l.ctx, unit, "Mount")
		must(t, err)
		for name, want := range map[string]any{
			"Description":      o.Description,
			"LoadState":        "loaded",
			"FragmentPath":     unitPath(unit),
			"NeedDaemonReload": false,
		} {
			if general[name] != want {
				t.Errorf("%s: %s is %q, want %q", unit, name, general[name], want)
			}
		}
		if mount["Where"] != o.Where || mount["What"] != "overlayd" || mount["Type"] != "overlay" {
			t.Errorf("%s: Where %q, What %q, Type %q", unit, mount["Where"], mount["What"], mount["Type"])
		}
		required, _ := general["RequiresMountsFor"].([]string)
		for _, path := range o.RequiresMountsFor {
			if !slices.Contains(required, path) {
				t.Errorf("%s: RequiresMountsFor %q lacks %q", unit, required, path)
			}
		}
		for name, list := range map[string][]string{"After": o.After, "Wants": o.Wants, "PartOf": {units.TargetName}} {
			got, _ := general[name].([]string)
			for _, want := range list {
				if !slices.Contains(got, want) {
					t.Errorf("%s: %s %q lacks %q", unit, name, got, want)
				}
			}
		}
		if err := l.m.Start(l.ctx, unit); err != nil {
			t.Errorf("%v", err)
			continue
		}
		text, err := os.ReadFile(filepath.Join(o.Where, "file"))
		must(t, err)
		if string(text) != filepath.Base(filepath.Dir(o.Where)) {
			t.Errorf("%s: file has %q", unit, text)
		}
		must(t, os.WriteFile(filepath.Join(o.Where, "new"), nil, 0o600))
		if _, err := os.Stat(filepath.Join(filepath.Dir(o.Where), "upper", "new")); err != nil {
			t.Errorf("%s: %v", unit, err)
		}
	}
}

func TestLiveSearchPath(t *testing.T) {
	newLive(t)
	out, err := exec.Command("systemd-analyze", "unit-paths").Output()
	must(t, err)
	var order []int
	for line := range strings.Lines(string(out)) {
		dir := strings.TrimSpace(strings.TrimPrefix(line, "/"))
		order = append(order, slices.Index(systemd.SearchPath[:], dir))
		if order[len(order)-1] < 0 {
			t.Errorf("systemd reads units of /%s, List does not", dir)
		}
	}
	// /lib and /usr/lib are one where systemd runs; which comes first does not matter.
	order = slices.DeleteFunc(order, func(i int) bool { return i >= 0 && systemd.SearchPath[i] == "lib/systemd/system" })
	if !slices.IsSorted(order) {
		t.Errorf("order of directories differs from\n%s", out)
	}
}

func TestLiveDropIns(t *testing.T) {
	l := newLive(t)
	o := l.overlay("drop-in")
	unit := o.FileName()
	l.install(o)
	stem := strings.TrimSuffix(unit, ".mount")
	prefix := stem[:strings.IndexByte(stem, '-')+1]
	for _, dir := range []string{
		"/etc/systemd/system/" + unit, "/run/systemd/system/" + unit, "/run/systemd/system.control/" + unit,
		"/usr/local/lib/systemd/system/" + prefix + ".mount", "/run/systemd/system/mount",
		"/run/systemd/system/overlayd-other.mount",
	} {
		made := dir + ".d"
		must(t, os.MkdirAll(made, 0o755))
		t.Cleanup(func() { must(t, os.RemoveAll(made)) })
		for _, name := range []string{"same.conf", strings.ReplaceAll(dir, "/", "_") + ".conf"} {
			must(t, os.WriteFile(filepath.Join(made, name), []byte("[Mount]\nDirectoryMode=0755\n"), 0o644))
		}
	}
	must(t, l.m.Reload(l.ctx))
	property, err := l.bus.GetUnitPropertyContext(l.ctx, unit, "DropInPaths")
	must(t, err)
	want, _ := property.Value.Value().([]string)
	listing, err := systemd.Dir{}.List()
	must(t, err)
	got := listing.DropInsOf(unit)
	// A name that is in directories of different kinds counts once for systemd and once for each kind here.
	got = slices.DeleteFunc(got, func(path string) bool { return strings.HasSuffix(path, "/same.conf") })
	want = slices.DeleteFunc(want, func(path string) bool { return strings.HasSuffix(path, "/same.conf") })
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" || len(want) != 5 {
		t.Errorf("%d drop-ins (-systemd +listed):\n%s", len(want), diff)
	}
	if !maps.Equal(listing.Wants[units.TargetName], map[string]bool{unit: true}) {
		t.Errorf("wants %v", listing.Wants)
	}
}

// TestLiveMany asks and starts more at once than the bus takes from one connection.
func TestLiveMany(t *testing.T) {
	l := newLive(t)
	var mounts []units.Mount
	var names []string
	for i := range 150 { // dbus-daemon refuses more than 128 pending replies for a connection
		mounts = append(mounts, l.overlay(fmt.Sprintf("client_%d", i)))
		names = append(names, mounts[i].FileName())
	}
	l.install(mounts...)
	errs := make(chan error, len(names))
	for _, name := range names {
		go func() { errs <- l.m.Start(l.ctx, name) }()
	}
	for range names {
		must(t, <-errs)
	}
	for i := range 400 {
		names = append(names, fmt.Sprintf("overlayd-none-%d.mount", i))
	}
	states, err := l.m.States(l.ctx, names)
	must(t, err)
	if len(states) != len(names) {
		t.Errorf("%d states for %d units", len(states), len(names))
	}
	for i, name := range names {
		want := systemd.State{Load: "not-found", Active: "inactive", Sub: "dead"}
		if i < len(mounts) {
			want = mounted
		}
		if states[name] != want {
			t.Errorf("%s is %+v, want %+v", name, states[name], want)
		}
	}
	dependents, err := l.m.DependentsOf(l.ctx, names)
	must(t, err)
	if len(dependents) != 0 {
		t.Errorf("dependents %v", dependents)
	}
	for range names {
		name := names[0]
		names = names[1:]
		go func() { errs <- l.m.StartAlone(l.ctx, name) }()
	}
	refused := 0
	for range len(mounts) + 400 {
		if err := <-errs; err != nil {
			refused++
		}
	}
	if refused != 400 {
		t.Errorf("%d starts refused, want those of the 400 units that do not exist", refused)
	}
	must(t, waitJobs(l.ctx, l.m, namesOf(states)))
}
