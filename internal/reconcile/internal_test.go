package reconcile

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"

	"github.com/overlayd/overlayd/internal/config"
	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/units"
)

func TestFstab(t *testing.T) {
	got, err := parseFstab(strings.NewReader(`# comment /srv/comment ext4
UUID=1 / ext4 errors=remount-ro 0 1
UUID=2 none swap sw 0 0
  tmpfs   /srv/a\040b	tmpfs

overlay /srv/a/../c/ overlay lowerdir=/l 0 0
overlay /srv/c overlay lowerdir=/other 0 0
/dev/x /back\134slash ext4
/dev/x /short\04 ext4
/dev/x /not\0899octal ext4
/dev/x relative ext4
/dev/x /notype
`), "/etc/fstab")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]plan.FstabLine{}
	for at, line := range map[string]int{
		"/": 2, "/srv/a b": 4, "/srv/c": 6, `/back\slash`: 8, `/short\04`: 9, `/not\0899octal`: 10,
	} {
		want[at] = plan.FstabLine{File: "/etc/fstab", Line: line}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	if got, err := readFstab(filepath.Join(t.TempDir(), "fstab")); got != nil || err != nil {
		t.Errorf("no fstab: %v, %v; want no lines and no error", got, err)
	}
}

func TestAccounts(t *testing.T) {
	root := t.TempDir()
	writeTree(t, root, map[string]string{
		"etc/passwd": "root:x:0:0::/:/bin/sh\nbroken\nguest:x:4242:1::/:\nguest:x:1:1::/:\nword:x:many:1::/:\n",
		"etc/group":  "root:x:0:\nstaff:x:50:guest\n",
	})
	for _, c := range []struct {
		owner, group string
		uid, gid     int
		bad          string
	}{
		{"", "", -1, -1, ""},
		{"root", "root", 0, 0, ""},
		{"guest", "", 4242, -1, ""},
		{"", "staff", -1, 50, ""},
		{"1000", "1001", 1000, 1001, ""},
		{"4294967294", "", 4294967294, -1, ""},
		{"4294967295", "", -1, -1, `user "4294967295" is not in ` + root + "/etc/passwd"}, // (uid_t)-1 is nobody
		{"-1", "", -1, -1, `user "-1" is not in ` + root + "/etc/passwd"},
		{"word", "", -1, -1, `user "word" is not in ` + root + "/etc/passwd"},
		{"guest", "guest", -1, -1, `group "guest" is not in ` + root + "/etc/group"},
	} {
		names := accounts{root: root}
		uid, gid, bad := names.resolve(c.owner, c.group)
		if uid != c.uid || gid != c.gid || bad != c.bad {
			t.Errorf("%s:%s: %d:%d %q, want %d:%d %q", c.owner, c.group, uid, gid, bad, c.uid, c.gid, c.bad)
		}
	}
	names := accounts{root: t.TempDir()}
	if _, _, bad := names.resolve("guest", ""); !strings.Contains(bad, "cannot look up accounts") {
		t.Errorf("without a passwd file: %q", bad)
	}
	if uid, _, bad := names.resolve("7", ""); uid != 7 || bad != "" {
		t.Errorf("a number needs no file: %d, %q", uid, bad)
	}
}

// Every field of what was agreed to counts, but for the reasons, which are words.
func TestAgreedEqual(t *testing.T) {
	full := Agreed{
		Address: "overlay.a", Change: plan.Replace, Unit: "a.mount", Mountpoint: "/a", Via: plan.ViaSyscall,
		Disruptive: true, UnitText: "text", Removes: []string{"b.mount"}, Unmounts: []string{"/a"},
		Stops: []string{"x.service"}, Reasons: []string{"because"},
		Before: &plan.View{Lowerdirs: []string{"/base"}, Upperdir: "/u", Workdir: "/w", Mountpoint: "/a"},
	}
	if !full.equal(full) {
		t.Error("not equal to itself")
	}
	for _, other := range []plan.View{
		{Lowerdirs: []string{"/other"}, Upperdir: "/u", Workdir: "/w", Mountpoint: "/a"},
		{Lowerdirs: []string{"/base"}, Upperdir: "/other", Workdir: "/w", Mountpoint: "/a"},
	} {
		another := full
		another.Before = &other
		if full.equal(another) {
			t.Errorf("equal with %+v in its place", other)
		}
	}
	fields := reflect.TypeFor[Agreed]()
	for i := range fields.NumField() {
		other := full
		field := reflect.ValueOf(&other).Elem().Field(i)
		field.SetZero()
		name := fields.Field(i).Name
		if equal := full.equal(other); equal != (name == "Reasons") {
			t.Errorf("with another %s equal is %t", name, equal)
		}
	}
}

func TestAgree(t *testing.T) {
	m := units.Mount{What: plan.Label, Where: "/srv/a", OnBusy: "fail"}
	p := plan.Plan{Changes: []plan.Change{
		{
			Address: "overlay.a", Kind: plan.Replace, Unit: "srv-a.mount", Mountpoint: "/srv/a", Via: plan.ViaSystemd,
			Disruptive: true, Reasons: []string{"why"},
			Impact: plan.Impact{Units: []string{"x.service"}, Processes: []overlayfs.Process{{PID: 1}}},
			Do: plan.Actions{
				Write: &m, Remove: []string{"old.mount"}, Unmount: []plan.Live{{Mountpoint: "/old"}},
			},
		},
		{Address: "overlay.b", Kind: plan.NoOp},
	}}
	want := []Agreed{{
		Address: "overlay.a", Change: plan.Replace, Unit: "srv-a.mount", Mountpoint: "/srv/a", Via: plan.ViaSystemd,
		Disruptive: true, UnitText: string(m.Render()), Removes: []string{"old.mount"}, Unmounts: []string{"/old"},
		Stops: []string{"x.service"}, Reasons: []string{"why"},
	}}
	if diff := cmp.Diff(want, Agree(p)); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	if Agree(plan.Plan{}) == nil {
		t.Error("agreeing to nothing must not be taken for agreeing to anything")
	}
}

// The links of a tree are those of a system that was booted from it.
func TestResolveIn(t *testing.T) {
	root := t.TempDir()
	writeTree(t, root, map[string]string{"data/base/file": "", "srv/x": ""})
	for at, to := range map[string]string{
		"abs": "/data", "rel": "data", "srv/up": "../data/base", "srv/far": "../../../../../../data",
		"one": "two", "two": "one",
		"chain": "/srv/up", "dangling": "/nowhere/else",
	} {
		if err := os.Symlink(to, filepath.Join(root, at)); err != nil {
			t.Fatal(err)
		}
	}
	for p, want := range map[string]string{
		"/data/base":          "/data/base ",
		"/":                   "/ ",
		"/abs/base":           "/data/base /abs",
		"/rel/base":           "/data/base /rel",
		"/srv/up":             "/data/base /srv/up",
		"/srv/far/base":       "/data/base /srv/far",
		"/chain/file":         "/data/base/file /chain",
		"/dangling/x":         "/nowhere/else/x /dangling",
		"/nowhere/at/all":     "/nowhere/at/all ",
		"/data/base/file/odd": "/data/base/file/odd ",
	} {
		real, link, err := resolveIn(root, p)
		if got := real + " " + link; got != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", p, got, err, want)
		}
	}
	if _, _, err := resolveIn(root, "/one/x"); err == nil {
		t.Error("a circle of links has no end, and no error")
	}
}

func TestRecorded(t *testing.T) {
	t.Chdir(t.TempDir())
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ file, root, want string }{
		{"/etc/overlayd/a.hcl", "", "/etc/overlayd/a.hcl"},
		{"a.hcl", "", wd + "/a.hcl"},
		{"/image/etc/overlayd/a.hcl", "/image", "/etc/overlayd/a.hcl"},
		{"/image", "/image", "/"},
		{"/imagery/a.hcl", "/image", "/imagery/a.hcl"},
		{"/image/..a.hcl", "/image", "/..a.hcl"},
		{"/elsewhere/a.hcl", "/image", "/elsewhere/a.hcl"},
		{"image/a.hcl", wd + "/image", "/a.hcl"},
	} {
		if got := recorded(c.file, c.root); got != c.want {
			t.Errorf("recorded(%q, %q) = %q, want %q", c.file, c.root, got, c.want)
		}
	}
}

// What is too long for a unit is found however it is written, at its place, and once for a block.
func TestLengths(t *testing.T) {
	at := func(line int) hcl.Range { return hcl.Range{Filename: "a.hcl", Start: hcl.Pos{Line: line}} }
	overlay := func(mountpoint string, layers int) *config.Overlay {
		o := &config.Overlay{Mountpoint: mountpoint, Range: at(1), MountpointRange: at(2), Upperdir: "/u", Workdir: "/w"}
		for i := range layers {
			o.Lowerdirs = append(o.Lowerdirs, config.Layer{Path: fmt.Sprintf("/%098d", i)})
		}
		return o
	}
	const fits = 255 - len(".mount")
	for name, c := range map[string]struct {
		overlays []*config.Overlay
		want     []int // lines
		more     string
	}{
		"as long as can be":     {overlays: []*config.Overlay{overlay("/"+strings.Repeat("a", fits), 39)}},
		"one byte more":         {overlays: []*config.Overlay{overlay("/"+strings.Repeat("a", fits+1), 1)}, want: []int{2}},
		"bytes that count four": {overlays: []*config.Overlay{overlay("/"+strings.Repeat("é", 32), 1)}, want: []int{2}},
		"options":               {overlays: []*config.Overlay{overlay("/a", 40)}, want: []int{1}},
		"both, twice": {
			overlays: []*config.Overlay{overlay("/"+strings.Repeat("a", 300), 40), overlay("/"+strings.Repeat("b", 300), 40)},
			want:     []int{2, 1}, more: "The same goes for one more instance.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, diags := Desire(&config.Spec{Overlays: c.overlays}, "")
			var got []int
			for _, d := range diags {
				got = append(got, d.Subject.Start.Line)
				if !strings.Contains(d.Detail, c.more) {
					t.Errorf("no %q in %q", c.more, d.Detail)
				}
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("diagnostics at lines %v, want %v: %v", got, c.want, diags)
			}
		})
	}
}

// The state of a row is the first that fits, whatever the other plan says.
func TestStates(t *testing.T) {
	change := func(kind plan.Kind, do plan.Actions) plan.Change {
		return plan.Change{Address: "overlay.a", Kind: kind, Unit: "a.mount", Mountpoint: "/a", Do: do}
	}
	mount := plan.Actions{Mount: &overlayfs.Config{}}
	replace := plan.Actions{Mount: &overlayfs.Config{}, Unmount: []plan.Live{{Mountpoint: "/a"}}}
	none := plan.Actions{}
	for name, c := range map[string]struct {
		drift, wanted plan.Change
		want          State
	}{
		"mounted":                  {change(plan.NoOp, none), change(plan.NoOp, none), StateMounted},
		"pending":                  {change(plan.NoOp, none), change(plan.Replace, replace), StatePending},
		"to be deleted":            {change(plan.NoOp, none), change(plan.Delete, none), StatePending},
		"missing":                  {change(plan.Repair, mount), change(plan.Repair, mount), StateMissing},
		"missing, and to change":   {change(plan.Repair, mount), change(plan.Update, mount), StateMissing},
		"drifted":                  {change(plan.Repair, replace), change(plan.Repair, replace), StateDrifted},
		"unit edited":              {change(plan.Update, none), change(plan.Update, none), StateDrifted},
		"conflict with the spec":   {change(plan.NoOp, none), change(plan.Conflict, none), StateConflict},
		"conflict with the unit":   {change(plan.Conflict, none), change(plan.NoOp, none), StateConflict},
		"missing, and a conflict":  {change(plan.Repair, mount), change(plan.Conflict, none), StateConflict},
		"drifted, then a conflict": {change(plan.Repair, replace), change(plan.Conflict, none), StateConflict},
	} {
		t.Run(name, func(t *testing.T) {
			rows := map[string]*Row{"/a": {Mountpoint: "/a", Unit: "a.mount", State: StateMounted}}
			h := &Host{}
			err := h.states(t.Context(), rows, plan.Plan{Changes: []plan.Change{c.drift}},
				plan.Plan{Changes: []plan.Change{c.wanted}}, &plan.Observed{})
			if err != nil || rows["/a"].State != c.want {
				t.Errorf("state %s, %v; want %s", rows["/a"].State, err, c.want)
			}
		})
	}
}

func TestInUse(t *testing.T) {
	two := []overlayfs.Process{{PID: 7, Command: "vi"}, {PID: 3, Command: "sh"}, {PID: 7, Command: "vi"}}
	for want, got := range map[string]string{
		"": inUse(nil, nil),
		"busy, as these processes use it: 3 (sh), 7 (vi): end them, then try again": inUse(two, nil),
		"busy, as there are mounts below it: /a/b, /a/c: unmount them, then try again": inUse(nil,
			[]string{"/a/b", "/a/c"}),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestUnixMode(t *testing.T) {
	for bits, want := range map[uint32]fs.FileMode{
		0o755: 0o755, 0o4711: 0o711 | fs.ModeSetuid, 0o2750: 0o750 | fs.ModeSetgid, 0o1777: 0o777 | fs.ModeSticky,
		0o7000: fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky,
	} {
		if got := unixMode(bits); got != want {
			t.Errorf("unixMode(%o) = %v, want %v", bits, got, want)
		}
	}
}

func TestReport(t *testing.T) {
	done := Result{Change: plan.Change{Kind: plan.Create}, Status: Done}
	failed := Result{Change: plan.Change{Kind: plan.Create}, Status: Failed}
	skipped := Result{Change: plan.Change{Kind: plan.Conflict}, Status: Skipped}
	for _, c := range []struct {
		results     []Result
		changed, ok bool
	}{
		{nil, false, true},
		{[]Result{done}, true, true},
		{[]Result{done, failed}, true, false},
		{[]Result{failed, skipped}, false, false},
		{[]Result{skipped}, false, false},
	} {
		r := Report{Results: c.results}
		if r.Changed() != c.changed || r.OK() != c.ok {
			t.Errorf("%v: changed %t, ok %t; want %t, %t", c.results, r.Changed(), r.OK(), c.changed, c.ok)
		}
	}
	r := Unchanged(plan.Plan{Changes: []plan.Change{
		{Kind: plan.NoOp},
		{Kind: plan.Conflict, Reasons: []string{"one", "two"}},
	}})
	if r.InSync != 1 || len(r.Results) != 1 || r.Results[0].Err.Error() != "one; two" || r.OK() || r.Changed() {
		t.Errorf("unchanged: %+v", r)
	}
}

func writeTree(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
