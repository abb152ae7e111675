package overlayfs_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

func parse(t *testing.T, text string) *overlayfs.Table {
	t.Helper()
	table, err := overlayfs.ParseTable(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestParseTableLine(t *testing.T) {
	type options = overlayfs.Options
	const rw = "lowerdir=/l,upperdir=/u,workdir=/w"
	for _, test := range []struct {
		name, line string
		want       overlayfs.Mount
	}{
		{
			"ext4 with optional fields",
			"36 35 98:0 /part /mnt\\040two rw,noatime,nosuid shared:1 master:2 - ext4 /dev/root rw,errors=continue",
			overlayfs.Mount{
				ID: 36, Parent: 35, Dev: "98:0", Root: "/part", Mountpoint: "/mnt two", FSType: "ext4",
				Source: "/dev/root", Flags: options{"noatime": "", "nosuid": ""}, Super: "rw,errors=continue",
				Shared: 1, Master: 2,
			},
		},
		{
			"an empty source",
			"1 0 0:1 / / rw,relatime - tmpfs  ro",
			overlayfs.Mount{
				ID: 1, Dev: "0:1", Root: "/", Mountpoint: "/", FSType: "tmpfs",
				Flags: options{}, Super: "ro", SuperReadOnly: true,
			},
		},
		{
			"a source with a hash, strictatime",
			"1 0 0:1 / /a\\012b ro - fuse.x \\043x rw",
			overlayfs.Mount{
				ID: 1, Dev: "0:1", Root: "/", Mountpoint: "/a\nb", FSType: "fuse.x", Source: "#x",
				Flags: options{"ro": "", "strictatime": ""}, Super: "rw",
			},
		},
		{
			"an overlay",
			"2 1 0:2 / /m rw,nosuid,relatime - overlay overlayd rw," + rw + ",uuid=on,userxattr",
			overlayfs.Mount{
				ID: 2, Parent: 1, Dev: "0:2", Root: "/", Mountpoint: "/m", FSType: "overlay", Source: "overlayd",
				Flags: options{"nosuid": ""}, Super: "rw," + rw + ",uuid=on,userxattr",
				Overlay: &overlayfs.Config{
					Lower: []string{"/l"}, Upper: "/u", Work: "/w",
					Options: options{"nosuid": "", "uuid": "on", "userxattr": ""},
				},
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if d := cmp.Diff([]overlayfs.Mount{test.want}, parse(t, test.line+"\n").All()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestParseOverlayLayers has the forms in which kernels show layers: mounted by mount(2), by fsconfig, by lowerdir+.
func TestParseOverlayLayers(t *testing.T) {
	for _, test := range []struct {
		name, super string
		want        overlayfs.Config
	}{
		{
			"comma, mount(2)", `lowerdir=/a\134\054b,upperdir=/u\134\054v`,
			overlayfs.Config{Lower: []string{"/a,b"}, Upper: "/u,v"},
		},
		{
			"comma, fsconfig", `lowerdir=/a\054b,upperdir=/u\054v`,
			overlayfs.Config{Lower: []string{"/a,b"}, Upper: "/u,v"},
		},
		{
			"colon", `lowerdir=/a\134:b:/c,upperdir=/u:v`,
			overlayfs.Config{Lower: []string{"/a:b", "/c"}, Upper: "/u:v"},
		},
		{"blank, tab, newline", `lowerdir=/a\040b\011c\012d`, overlayfs.Config{Lower: []string{"/a b\tc\nd"}}},
		{
			"backslash", `lowerdir=/a\134\134b,upperdir=/u\134\134v`,
			overlayfs.Config{Lower: []string{`/a\b`}, Upper: `/u\v`},
		},
		{"backslash and colon", `lowerdir=/a\134\134\134:b:/c`, overlayfs.Config{Lower: []string{`/a\:b`, "/c"}}},
		{"backslash at the end", `lowerdir=/a\134\134:/c`, overlayfs.Config{Lower: []string{`/a\`, "/c"}}},
		{"equals sign", `lowerdir=/a\075b`, overlayfs.Config{Lower: []string{"/a=b"}}},
		{"raw bytes", "lowerdir=/a\xffb", overlayfs.Config{Lower: []string{"/a\xffb"}}},
		{
			"appended, no unescape", `lowerdir+=/a\134b,lowerdir+=/c:d,lowerdir+=/e\072f`,
			overlayfs.Config{Lower: []string{`/a\b`, "/c:d", "/e:f"}},
		},
		{
			"data-only", "lowerdir=/a:/b::/d::/e",
			overlayfs.Config{Lower: []string{"/a", "/b"}, Data: []string{"/d", "/e"}},
		},
		{
			"data-only, appended", `lowerdir+=/a,datadir+=/d\054e`,
			overlayfs.Config{Lower: []string{"/a"}, Data: []string{"/d,e"}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.want.Options = overlayfs.Options{}
			table := parse(t, "2 1 0:2 / /m rw,relatime - overlay overlay rw,"+test.super)
			if d := cmp.Diff(&test.want, table.All()[0].Overlay); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestParseTableErrors(t *testing.T) {
	for text, want := range map[string]string{
		"1 0 0:1 / / rw tmpfs x rw":               `there is no " - "`,
		"1 0 0:1 / / - tmpfs x rw":                `5 fields before the " - ", want 6 at least`,
		"1 0 0:1 / / rw - tmpfs x":                `2 fields behind the " - ", want 3`,
		"x 0 0:1 / / rw - tmpfs x rw":             `the mount ID "x" is not a number`,
		"1 y 0:1 / / rw - tmpfs x rw":             `the parent ID "y" is not a number`,
		"1 0 0:1 / / rw - overlay x rw,lowerdir=": "cannot read option lowerdir: it names no directory",
	} {
		_, err := overlayfs.ParseTable(strings.NewReader("9 0 0:1 / /x rw - tmpfs x rw\n" + text + "\n"))
		if want := "cannot read line 2 of the mount table: " + want; err == nil || err.Error() != want {
			t.Errorf("%s: error %v, want %s", text, err, want)
		}
	}
}

// TestParseMountsShare: what a line says does not depend on those before it, with which it may share its options.
func TestParseMountsShare(t *testing.T) {
	var lines []string
	for i, flags := range []string{"rw,relatime", "ro,nosuid,relatime", "rw"} {
		for j, super := range []string{
			"rw,lowerdir=/a:/b,upperdir=/u,workdir=/w,redirect_dir=off,index=off",
			"ro,lowerdir=/a:/b,upperdir=/u,workdir=/w,redirect_dir=off,index=off",
			"rw,lowerdir=/c,redirect_dir=off,index=off",
			"rw,lowerdir+=/c,lowerdir+=/d,datadir+=/e,redirect_dir=off,index=off",
			"rw,redirect_dir=off,lowerdir=/f,index=off",
			"rw,redirect_dir=off,lowerdir=/g,index=off",
			"rw,lowerdir=/g,rw,xino=on,,index=off",
			"rw,lowerdir=/a:/b,upperdir=/u,workdir=/w",
			"lowerdir=/a,x-rw,rw",
			"rw",
			"",
		} {
			lines = append(lines, fmt.Sprintf("%d 1 0:2 / /m/%d %s - overlay o %s\n", 10*i+j, j, flags, super))
		}
	}
	whole, err := overlayfs.ParseMounts(strings.NewReader(strings.Join(lines, "")))
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range lines {
		alone, err := overlayfs.ParseMounts(strings.NewReader(line))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(alone[0], whole[i]); d != "" {
			t.Errorf("%s (-alone +among others):\n%s", line, d)
		}
	}
}

func TestParseTableLongLine(t *testing.T) {
	var layers []string
	for i := range 500 {
		layers = append(layers, fmt.Sprintf("/%s/%d", strings.Repeat("x", 200), i))
	}
	table := parse(t, "2 1 0:2 / /m rw - overlay o ro,lowerdir="+strings.Join(layers, ":")+"\n")
	if d := cmp.Diff(layers, table.All()[0].Overlay.Lower); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// line makes a mount line of id on parent at point.
func line(id, parent int, point string) string {
	return fmt.Sprintf("%d %d 0:%d / %s rw,relatime - tmpfs t%d rw\n", id, parent, id, point, id)
}

func ids(mounts []overlayfs.Mount) string {
	var b strings.Builder
	for _, m := range mounts {
		fmt.Fprintf(&b, "%d ", m.ID)
	}
	return strings.TrimSpace(b.String())
}

func TestTableReach(t *testing.T) {
	type want struct{ at, hidden, below, covering string }
	for _, test := range []struct {
		name, table string
		want        map[string]want
	}{
		{
			"plain",
			line(1, 0, "/") + line(2, 1, "/a") + line(3, 2, "/a/b") + line(4, 1, "/a-b"),
			map[string]want{
				"/":      {at: "1", below: "2 4 3", covering: "1"},
				"/a":     {at: "2", below: "3", covering: "2"},
				"/a/":    {at: "2", below: "3", covering: "2"},
				"/a/b":   {at: "3", covering: "3"},
				"/a/b/c": {covering: "3"},
				"/a/x":   {covering: "2"},
				"/a-b/x": {covering: "4"},
				"/x":     {covering: "1"},
				"x":      {},
				"":       {},
			},
		},
		{
			// The order of lines says nothing: 5 was moved here and is the lower one.
			"stacked",
			line(1, 0, "/") + line(3, 5, "/m") + line(5, 1, "/m"),
			map[string]want{"/m": {at: "5 3", covering: "3"}, "/m/x": {covering: "3"}},
		},
		{
			"hidden by a mount over the parent directory",
			line(1, 0, "/") + line(2, 1, "/srv/m") + line(3, 1, "/srv"),
			map[string]want{
				"/srv/m":   {hidden: "2", covering: "3"},
				"/srv/m/x": {covering: "3"},
				"/srv":     {at: "3", below: "2", covering: "3"},
			},
		},
		{
			"hidden, and another one in its place",
			line(1, 0, "/") + line(2, 1, "/srv/m") + line(3, 1, "/srv") + line(4, 3, "/srv/m"),
			map[string]want{"/srv/m": {at: "4", hidden: "2", covering: "4"}},
		},
		{
			"hidden by a second mount at the parent's own mountpoint",
			line(1, 0, "/") + line(2, 1, "/m") + line(3, 2, "/m/sub") + line(4, 2, "/m"),
			map[string]want{"/m": {at: "2 4", below: "3", covering: "4"}, "/m/sub": {hidden: "3", covering: "4"}},
		},
		{
			"a mount over the root is not entered",
			line(1, 0, "/") + line(2, 1, "/a") + line(3, 1, "/"),
			map[string]want{"/": {at: "1 3", below: "2", covering: "1"}, "/a": {at: "2", covering: "2"}},
		},
		{
			"a root that is its own parent",
			line(1, 1, "/") + line(2, 1, "/a"),
			map[string]want{"/a": {at: "2", covering: "2"}, "/": {at: "1", below: "2", covering: "1"}},
		},
		{
			"parents in a circle, which no kernel makes",
			line(1, 2, "/") + line(2, 1, "/") + line(3, 4, "/a") + line(4, 3, "/a"),
			map[string]want{"/": {hidden: "1 2", below: "3 4"}, "/a": {hidden: "3 4"}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			table := parse(t, test.table)
			for path, w := range test.want {
				got := want{at: ids(table.At(path)), hidden: ids(table.Hidden(path)), below: ids(table.Below(path))}
				if m, ok := table.Covering(path); ok {
					got.covering = fmt.Sprint(m.ID)
				}
				if got != w {
					t.Errorf("%q: %+v, want %+v", path, got, w)
				}
				top, ok := table.Top(path)
				if at := table.At(path); ok != (len(at) > 0) || ok && top.ID != at[len(at)-1].ID {
					t.Errorf("%q: Top is %d, %t; At is %s", path, top.ID, ok, ids(at))
				}
			}
			for _, m := range table.All() {
				if got, ok := table.ByID(m.ID); !ok || got.ID != m.ID {
					t.Errorf("ByID(%d) = %d, %t", m.ID, got.ID, ok)
				}
			}
			if _, ok := table.ByID(999); ok {
				t.Error("ByID finds what is not there")
			}
		})
	}
}

func FuzzParseTable(f *testing.F) {
	f.Add([]byte(line(1, 0, "/") + line(2, 1, "/a") + line(3, 2, "/a")))
	f.Add([]byte(`2 1 0:2 / /m\040 rw,relatime shared:1 - overlay overlayd rw,lowerdir=/a\134:b::/c,upperdir=/u\054` + "\n"))
	f.Add([]byte("1 1 0:1 / / rw - overlay  ro,lowerdir+=/a,lowerdir+=/b\\"))
	f.Add([]byte("1 0 0:1 / relative rw - x y z\n2 1 0:1 /  rw - x y z\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		table, err := overlayfs.ParseTable(bytes.NewReader(in))
		if err != nil {
			return
		}
		for _, m := range table.All() {
			all := append(table.At(m.Mountpoint), table.Hidden(m.Mountpoint)...)
			table.Top(m.Mountpoint)
			table.Below(m.Mountpoint)
			table.Covering(m.Mountpoint)
			if (m.FSType == "overlay") != (m.Overlay != nil) {
				t.Errorf("mount %d: type %q, overlay %v", m.ID, m.FSType, m.Overlay)
			}
			if m.Overlay != nil {
				if d := overlayfs.Compare(*m.Overlay, m, overlayfs.Defaults{}, false, nil); !d.None() && len(all) == 0 {
					t.Errorf("mount %d differs from itself: %v", m.ID, d.Reasons)
				}
			}
		}
	})
}

func BenchmarkParseTable(b *testing.B) {
	var text strings.Builder
	text.WriteString(line(1, 0, "/"))
	for i := range 10000 {
		fmt.Fprintf(&text, "%d 1 0:%d / /srv/merged/client_%d rw,nosuid,nodev,relatime shared:%d - overlay overlayd "+
			"rw,lowerdir=/srv/base/one:/srv/base/two,upperdir=/srv/client_%d/upper,workdir=/srv/client_%d/work,uuid=on\n",
			i+2, i+2, i, i, i, i)
	}
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		if _, err := overlayfs.ParseTable(strings.NewReader(text.String())); err != nil {
			b.Fatal(err)
		}
	}
}
