package overlayfs_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// nasty are path components that have broken one tool or another, with what the kernel must be handed for them.
var nasty = []struct{ plain, lower, upper string }{
	{`a,b`, `a\,b`, `a\,b`},
	{`a:b`, `a\:b`, `a:b`},
	{`a b`, `a b`, `a b`},
	{` ab `, ` ab `, ` ab `},
	{"a\tb", "a\tb", "a\tb"},
	{`a\b`, `a\\b`, `a\\b`},
	{`ab\`, `ab\\`, `ab\\`},
	{`a\,b`, `a\\\,b`, `a\\\,b`},
	{`a\:b`, `a\\\:b`, `a\\:b`},
	{`a%b`, `a%b`, `a%b`},
	{`a%nb`, `a%nb`, `a%nb`},
	{`a"b"c`, `a"b"c`, `a"b"c`},
	{`a'b`, `a'b`, `a'b`},
	{`a$b`, `a$b`, `a$b`},
	{`a=b`, `a=b`, `a=b`},
	{`#a;b@c*(d)~!{e}-`, `#a;b@c*(d)~!{e}-`, `#a;b@c*(d)~!{e}-`},
	{`.a`, `.a`, `.a`},
	{"\u00e9", "\u00e9", "\u00e9"},    // composed
	{"e\u0301", "e\u0301", "e\u0301"}, // decomposed
	{"a\x01\x7fb", "a\x01\x7fb", "a\x01\x7fb"},
	{`a\040b`, `a\\040b`, `a\\040b`},
	{`a::b`, `a\:\:b`, `a::b`},
	{`,`, `\,`, `\,`},
}

func TestKernelDataEscapes(t *testing.T) {
	for _, n := range nasty {
		c := overlayfs.Config{
			Lower: []string{"/l/" + n.plain, "/l2"}, Upper: "/u/" + n.plain, Work: "/w/" + n.plain,
			Options: overlayfs.Options{"index": "off"},
		}
		want := "lowerdir=/l/" + n.lower + ":/l2,upperdir=/u/" + n.upper + ",workdir=/w/" + n.upper + ",index=off"
		if got := c.KernelData(); got != want {
			t.Errorf("%q: KernelData() = %s\nwant %s", n.plain, got, want)
		}
		back, err := overlayfs.ParseMountOptions(c.MountOptions())
		if err != nil {
			t.Errorf("%q: %v", n.plain, err)
		} else if d := cmp.Diff(c, back); d != "" {
			t.Errorf("%q does not come back (-want +got):\n%s", n.plain, d)
		}
	}
}

func TestMountOptionsOrder(t *testing.T) {
	c := overlayfs.Config{
		Lower: []string{"/a", "/b"}, Upper: "/u", Work: "/w",
		Options: overlayfs.Options{
			"_netdev": "", "nofail": "", "x-a": "1", "nosuid": "", "ro": "", "metacopy": "off", "index": "off",
			"redirect_dir": "off", "strange": "1", "userxattr": "",
		},
	}
	const data = "lowerdir=/a:/b,upperdir=/u,workdir=/w,redirect_dir=off,index=off,metacopy=off,userxattr,strange=1"
	if got := c.KernelData(); got != data {
		t.Errorf("KernelData() = %s\nwant %s", got, data)
	}
	if got, want := c.MountOptions(), data+",ro,nosuid,x-a=1,nofail,_netdev"; got != want {
		t.Errorf("MountOptions() = %s\nwant %s", got, want)
	}
}

func TestParseMountOptions(t *testing.T) {
	type options = overlayfs.Options
	for _, test := range []struct {
		name, in string
		want     overlayfs.Config
		err      string
	}{
		{name: "nothing", in: "", want: overlayfs.Config{}},
		{
			name: "a line of fstab",
			in:   `defaults,,lowerdir=/a:/b\:c,upperdir=/u\,v,workdir=/w,x-systemd.after=z.mount`,
			want: overlayfs.Config{
				Lower: []string{"/a", "/b:c"}, Upper: "/u,v", Work: "/w",
				Options: options{"defaults": "", "x-systemd.after": "z.mount"},
			},
		},
		{
			name: "the last one counts", in: "lowerdir=/a,index=on,lowerdir=/b,index=off",
			want: overlayfs.Config{Lower: []string{"/b"}, Options: options{"index": "off"}},
		},
		{
			name: "data-only layers", in: "lowerdir=/a:/b::/d1::/d2",
			want: overlayfs.Config{Lower: []string{"/a", "/b"}, Data: []string{"/d1", "/d2"}},
		},
		{
			name: "appended layers are taken as they stand", in: `lowerdir+=/a\b,lowerdir+=/c:d,datadir+=/e`,
			want: overlayfs.Config{Lower: []string{`/a\b`, "/c:d"}, Data: []string{"/e"}},
		},
		{name: "no lower", in: "lowerdir=", err: "cannot read option lowerdir: it names no directory"},
		{name: "no upper", in: "upperdir=", err: "cannot read option upperdir: it names no directory"},
		{name: "empty layer", in: "lowerdir=/a:", err: "cannot read lowerdir=/a:: a layer is empty"},
		{name: "empty first layer", in: "lowerdir=:/a", err: "cannot read lowerdir=:/a: a layer is empty"},
		{
			name: "layer behind data", in: "lowerdir=/a::/d:/b",
			err: "cannot read lowerdir=/a::/d:/b: a layer follows the data-only layers",
		},
		{name: "backslash at the end", in: `a=b,x=\`, err: `cannot read option x=\: its backslash protects nothing`},
		{name: "backslash in a name", in: `\,a`, err: `cannot read option \,a: its backslash protects nothing`},
		{name: "no name", in: "=x", err: "cannot read option =x: it has no name"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := overlayfs.ParseMountOptions(test.in)
			if test.err != "" {
				if err == nil || err.Error() != test.err {
					t.Fatalf("error %v, want %s", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(test.want, got, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// FuzzMountOptions: what MountOptions writes, ParseMountOptions reads back equal, for whatever bytes a path has.
func FuzzMountOptions(f *testing.F) {
	for _, n := range nasty {
		f.Add("/"+n.plain, "/x/"+n.plain, "/"+n.plain+"/u", "/w", "off", "1")
	}
	f.Add("/a", "/b", "", "", "", "")
	f.Add(`/\`, `/\,`, `/\\`, `/,,`, "on", `\`)
	f.Fuzz(func(t *testing.T, lower, lower2, upper, work, index, comment string) {
		if lower == "" || lower2 == "" {
			t.Skip("a layer without a name cannot be")
		}
		c := overlayfs.Config{Lower: []string{lower, lower2}, Upper: upper, Work: work, Options: overlayfs.Options{
			"nofail": "",
		}}
		if slices.Contains([]string{"on", "off"}, index) {
			c.Options["index"] = index
		}
		if !strings.ContainsAny(comment, `\,`) {
			c.Options["x-comment"] = comment
		}
		got, err := overlayfs.ParseMountOptions(c.MountOptions())
		if err != nil {
			t.Fatalf("%q: %v", c.MountOptions(), err)
		}
		if d := cmp.Diff(c, got); d != "" {
			t.Errorf("%q (-want +got):\n%s", c.MountOptions(), d)
		}
	})
}

// FuzzParseMountOptions: whatever is read, written again it means the same.
func FuzzParseMountOptions(f *testing.F) {
	f.Add(`lowerdir=/a:/b\:c::/d,upperdir=/u\,v,workdir=/w,index=off,nofail,x=`)
	f.Add(`lowerdir=\`)
	f.Add(`a=\,b`)
	f.Fuzz(func(t *testing.T, in string) {
		c, err := overlayfs.ParseMountOptions(in)
		if err != nil || len(c.Lower) == 0 && len(c.Data) > 0 {
			t.Skip("not what MountOptions writes")
		}
		again, err := overlayfs.ParseMountOptions(c.MountOptions())
		if err != nil {
			t.Fatalf("%q as %q: %v", in, c.MountOptions(), err)
		}
		if d := cmp.Diff(c, again); d != "" {
			t.Errorf("%q as %q (-first +again):\n%s", in, c.MountOptions(), d)
		}
	})
}

// TestKernelDataLen: it is exact where it matters, on both sides of the limit.
func TestKernelDataLen(t *testing.T) {
	for _, char := range []string{"x", ",", `\\`, ":"} {
		for n := 1000; n <= overlayfs.MaxOptionsLen+10; n++ {
			c := overlayfs.Config{
				Lower: []string{"/" + strings.Repeat(char, n/4), "/b"}, Data: []string{"/" + strings.Repeat("d", n/4)},
				Upper: "/" + strings.Repeat(char, n/4), Work: "/" + strings.Repeat("w", n-3*(n/4)),
				Options: overlayfs.Options{"index": "off", "userxattr": "", "nosuid": "", "nofail": ""},
			}
			got, want := c.KernelDataLen(), len(c.KernelData())
			if long := want > overlayfs.MaxOptionsLen; long != (got > overlayfs.MaxOptionsLen) || long && got != want {
				t.Fatalf("%d times %s: %d, want %d", n, char, got, want)
			}
		}
	}
}
