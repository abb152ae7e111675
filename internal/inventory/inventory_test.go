package inventory_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/overlayd/overlayd/internal/inventory"
	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/units"
	"github.com/overlayd/overlayd/internal/units/systemd"
)

// line is a line of a mount table.
func line(id, parent int, dev, root, at, kind, source, super string) string {
	return fmt.Sprintf("%d %d %s %s %s rw,relatime - %s %s rw%s\n", id, parent, dev, root, at, kind, source, super)
}

// over is the line of an overlay with directories of its own, on a super block of its own.
func over(id, parent int, at, source string) string {
	name := strings.ReplaceAll(strings.Trim(at, "/"), "/", "_")
	return line(id, parent, fmt.Sprintf("0:%d", id), "/", at, "overlay", source,
		fmt.Sprintf(",lowerdir=/t/lower,upperdir=/t/%s/upper,workdir=/t/%s/work", name, name))
}

const root = "1 0 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"

// applied is a unit of ours as Host.Applied gives it.
func applied(address, at string, lower ...string) plan.Overlay {
	c := overlayfs.Config{Lower: lower, Upper: "/u" + at, Work: "/w" + at, Options: overlayfs.Options{"index": "off"}}
	u := &plan.UnitFile{Path: "/etc/systemd/system/" + units.Name(at), Config: c}
	u.Ours, u.Address, u.Where = true, address, at
	return plan.Overlay{Address: address, Mountpoint: at, Lower: lower, Upper: c.Upper, Work: c.Work, Applied: u}
}

func take(t *testing.T, table string, overlays ...plan.Overlay) *inventory.Inventory {
	t.Helper()
	return with(t, table, &systemd.Listing{}, overlays...)
}

func with(t *testing.T, table string, l *systemd.Listing, overlays ...plan.Overlay) *inventory.Inventory {
	t.Helper()
	parsed, err := overlayfs.ParseTable(strings.NewReader(table))
	if err != nil {
		t.Fatal(err)
	}
	return inventory.New(plan.Desired{Overlays: overlays}, l, parsed)
}

// brief shows what matters of an overlay in one line.
func brief(o inventory.Overlay) string {
	out := fmt.Sprintf("%s %s %s", o.Owner, o.Mountpoint, o.Config.Upper)
	if o.Address != "" {
		out = o.Address + " " + out
	}
	if o.Managed {
		out += " managed"
	}
	if o.Mounted {
		out += fmt.Sprintf(" mount=%d", o.Mount.ID)
	}
	if o.Hidden {
		out += " hidden"
	}
	if o.Unit != "" {
		out += " unit=" + o.Unit
	}
	return out
}

func TestAll(t *testing.T) {
	for _, test := range []struct {
		name    string
		table   string
		applied []plan.Overlay
		want    []string
	}{
		{"nothing", root, nil, nil},
		{
			"ours, an orphan and by hand: without an address last",
			root + over(2, 1, "/a", "byhand") + over(3, 1, "/m/b", "overlayd") + over(4, 1, "/m/a", "overlayd") +
				over(5, 1, "/m/o", "overlayd"),
			[]plan.Overlay{applied("overlay.a", "/m/a"), applied("overlay.b", "/m/b")},
			[]string{
				"overlay.a overlayd /m/a /t/m_a/upper managed mount=4 unit=m-a.mount",
				"overlay.b overlayd /m/b /t/m_b/upper managed mount=3 unit=m-b.mount",
				"other /a /t/a/upper mount=2",
				"overlayd /m/o /t/m_o/upper mount=5",
			},
		},
		{
			"applied, not mounted: as the unit says", root,
			[]plan.Overlay{applied("overlay.a", "/m/a")},
			[]string{"overlay.a overlayd /m/a /u/m/a managed unit=m-a.mount"},
		},
		{
			"our unit owns its mountpoint, whoever mounted there", root + over(2, 1, "/m/a", "byhand"),
			[]plan.Overlay{applied("overlay.a", "/m/a")},
			[]string{"overlay.a overlayd /m/a /t/m_a/upper managed mount=2 unit=m-a.mount"},
		},
		{
			"a foreign mount on top of ours", root + over(2, 1, "/m/a", "overlayd") +
				line(3, 2, "0:9", "/", "/m/a", "tmpfs", "x", ""),
			[]plan.Overlay{applied("overlay.a", "/m/a")},
			[]string{"overlay.a overlayd /m/a /t/m_a/upper managed mount=2 hidden unit=m-a.mount"},
		},
		{
			"a foreign overlay on top of ours: ours is the one with our label",
			root + over(2, 1, "/m/a", "overlayd") + over(3, 2, "/m/a", "byhand"),
			[]plan.Overlay{applied("overlay.a", "/m/a")},
			[]string{
				"overlay.a overlayd /m/a /t/m_a/upper managed mount=2 hidden unit=m-a.mount",
				"other /m/a /t/m_a/upper mount=3",
			},
		},
		{
			"twins: the upper one counts, the other is below it",
			root + over(2, 1, "/m/a", "overlayd") + over(3, 2, "/m/a", "overlayd"),
			[]plan.Overlay{applied("overlay.a", "/m/a")},
			[]string{
				"overlay.a overlayd /m/a /t/m_a/upper managed mount=3 unit=m-a.mount",
				"overlayd /m/a /t/m_a/upper mount=2 hidden",
			},
		},
		{
			"by hand in reach goes before ours out of reach",
			root + over(2, 1, "/m/a", "overlayd") + line(3, 1, "0:9", "/", "/m", "tmpfs", "x", "") + over(4, 3, "/m/a", "hand"),
			[]plan.Overlay{applied("overlay.a", "/m/a")},
			[]string{
				"overlay.a overlayd /m/a /t/m_a/upper managed mount=4 unit=m-a.mount",
				"overlayd /m/a /t/m_a/upper mount=2 hidden",
			},
		},
		{
			"hidden by a mount over a directory above",
			root + over(2, 1, "/m/a", "hand") + line(3, 1, "0:9", "/", "/m", "tmpfs", "x", ""), nil,
			[]string{"other /m/a /t/m_a/upper mount=2 hidden"},
		},
		{
			"bind mounts are no overlays of their own, and the whole tree goes before a part",
			root + line(2, 1, "0:7", "/etc", "/b", "overlay", "hand", ",lowerdir=/l,upperdir=/u,workdir=/w") +
				line(3, 1, "0:7", "/", "/m/a", "overlay", "hand", ",lowerdir=/l,upperdir=/u,workdir=/w") +
				line(4, 1, "0:7", "/", "/m/z", "overlay", "hand", ",lowerdir=/l,upperdir=/u,workdir=/w"), nil,
			[]string{"other /m/a /u mount=3"},
		},
		{
			"a bind mount of another overlay at the place of ours",
			root + line(2, 1, "0:7", "/", "/m/a", "overlay", "overlayd", ",lowerdir=/l,upperdir=/u,workdir=/w") +
				line(3, 1, "0:7", "/", "/m/b", "overlay", "overlayd", ",lowerdir=/l,upperdir=/u,workdir=/w"),
			[]plan.Overlay{applied("overlay.a", "/m/a"), applied("overlay.b", "/m/b")},
			[]string{
				"overlay.a overlayd /m/a /u managed mount=2 unit=m-a.mount",
				"overlay.b overlayd /m/b /u managed mount=3 unit=m-b.mount",
			},
		},
		{
			"root is an overlay, and a mount on top of it is never entered",
			"1 0 0:5 / / rw - overlay live ro,lowerdir=/a:/b\n2 1 0:6 / / rw - tmpfs x rw\n", nil,
			[]string{"other /  mount=1"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, o := range take(t, test.table, test.applied...).All() {
				got = append(got, brief(o))
			}
			if d := cmp.Diff(test.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestForeignUnit(t *testing.T) {
	const dir = "/etc/systemd/system/"
	for _, test := range []struct {
		name, unit, file string
		listing          systemd.Listing
	}{
		{name: "none"},
		{
			name: "in the unit directory", unit: "h-m.mount", file: dir + "h-m.mount",
			listing: systemd.Listing{Units: map[string]systemd.UnitFile{
				"h-m.mount": {Name: "h-m.mount", Path: dir + "h-m.mount", Text: []byte("[Mount]\n")},
			}},
		},
		{
			name: "a link to elsewhere", unit: "h-m.mount", file: dir + "h-m.mount",
			listing: systemd.Listing{Units: map[string]systemd.UnitFile{
				"h-m.mount": {Name: "h-m.mount", Path: dir + "h-m.mount", Link: "/opt/h-m.mount"},
			}},
		},
		{
			name: "masked", listing: systemd.Listing{
				Units:     map[string]systemd.UnitFile{"h-m.mount": {Path: dir + "h-m.mount", Link: "/dev/null"}},
				Elsewhere: map[string]string{"h-m.mount": "/usr/lib/systemd/system/h-m.mount"},
			},
		},
		{
			name: "masked by an empty file", listing: systemd.Listing{
				Units: map[string]systemd.UnitFile{"h-m.mount": {Path: dir + "h-m.mount", Text: []byte{}}},
			},
		},
		{
			name: "of fstab", unit: "h-m.mount", file: "/run/systemd/generator/h-m.mount",
			listing: systemd.Listing{Elsewhere: map[string]string{"h-m.mount": "/run/systemd/generator/h-m.mount"}},
		},
		{
			name:    "masked elsewhere",
			listing: systemd.Listing{Elsewhere: map[string]string{"h-m.mount": "/dev/null"}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := with(t, root+over(2, 1, "/h/m", "hand"), &test.listing).All()
			if len(got) != 1 || got[0].Unit != test.unit || got[0].UnitFile != test.file || got[0].Managed {
				t.Errorf("got %+v, want unit %q in %q", got, test.unit, test.file)
			}
		})
	}
}

// Our unit is ours, whatever else is mounted at its place; that an overlay of ours is below is said of the other one.
func TestOnTopOfOurs(t *testing.T) {
	listing := &systemd.Listing{Units: map[string]systemd.UnitFile{
		"m-a.mount": {Name: "m-a.mount", Path: "/etc/systemd/system/m-a.mount", Text: []byte("[Mount]\n")},
	}}
	i := with(t, root+over(2, 1, "/m/a", "overlayd")+over(3, 2, "/m/a", "hand"), listing, applied("overlay.a", "/m/a"))
	all := i.All()
	if len(all) != 2 || all[0].Unit != "m-a.mount" || all[1].Unit != "" || all[1].UnitFile != "" {
		t.Fatalf("got %+v", all)
	}
	if got := i.Beneath(all[0]); len(got) > 0 {
		t.Errorf("beneath ours: %v", got)
	}
	if got := i.Beneath(all[1]); len(got) != 1 || got[0].Address != "overlay.a" {
		t.Errorf("beneath the one by hand: %v", got)
	}
}

func TestRelations(t *testing.T) {
	i := take(t, root+over(2, 1, "/m/a", "overlayd")+line(3, 2, "0:3", "/", "/m/a/cache", "tmpfs", "cache", "")+
		line(4, 1, "0:4", "/", "/m/child", "overlay", "overlayd", ",lowerdir=/m/a/usr:/t/lower")+
		line(5, 1, "0:5", "/", "/m/other", "overlay", "overlayd", ",lowerdir=/m/a/cache/x:/t/lower")+
		line(6, 1, "0:2", "/usr", "/bound", "overlay", "overlayd", ",lowerdir=/t/lower,upperdir=/t/m_a/upper,workdir=/w")+
		over(8, 1, "/h/h", "hand")+line(9, 8, "0:9", "/", "/h/h", "tmpfs", "top", "")+
		over(10, 1, "/x/y", "hand")+line(11, 1, "0:11", "/", "/x", "tmpfs", "top", "")+over(12, 11, "/x/y", "hand"),
		applied("overlay.a", "/m/a"), applied("overlay.down", "/m/down", "/t/lower"),
		applied("overlay.on", "/m/on", "/m/down/sub"))
	at := func(ref string) inventory.Overlay {
		t.Helper()
		o, err := i.Find(ref)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	names := func(overlays []inventory.Overlay) (out []string) {
		for _, o := range overlays {
			out = append(out, o.Mountpoint)
		}
		return out
	}
	places := func(mounts []overlayfs.Mount) (out []string) {
		for _, m := range mounts {
			out = append(out, fmt.Sprint(m.ID, " ", m.Mountpoint))
		}
		return out
	}
	a, covered, later := at("overlay.a"), at("/h/h"), at("/x/y")
	beside, _ := i.Neighbours(covered)
	none, below := i.Neighbours(later)
	top, isHidden := i.Hides(covered)
	for _, check := range []struct {
		what      string
		got, want []string
	}{
		{"above a: what stands on a mount inside it does not count", names(i.Above(a)), []string{"/m/child"}},
		{"below the child", names(i.Below(at("/m/child"))), []string{"/m/a"}},
		{"below on", names(i.Below(at("overlay.on"))), []string{"/m/down"}},
		{"above down", names(i.Above(at("overlay.down"))), []string{"/m/on"}},
		{"copies of a", places(i.Copies(a)), []string{"6 /bound"}},
		{"beside what is covered", places(beside), []string{"9 /h/h"}},
		{"beside what was mounted later", places(none), nil},
		{"out of reach beside it", places(below), []string{"10 /x/y"}},
		{"hides", places([]overlayfs.Mount{top}), []string{"9 /h/h"}},
		{"copies of what is down", places(i.Copies(at("overlay.down"))), nil},
	} {
		if !slices.Equal(check.got, check.want) {
			t.Errorf("%s: got %q, want %q", check.what, check.got, check.want)
		}
	}
	if !covered.Hidden || !isHidden {
		t.Error("what is covered is not hidden")
	}
	if m, ok := i.Hides(a); ok {
		t.Errorf("a is hidden by %+v", m)
	}
}
