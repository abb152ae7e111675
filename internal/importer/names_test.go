package importer_test

import (
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/overlayd/overlayd/internal/importer"
	"github.com/overlayd/overlayd/internal/overlayfs"
)

func TestNames(t *testing.T) {
	for _, test := range []struct {
		name  string
		paths []string
		taken []string
		want  []string // in the order of the paths
	}{
		{"the last element", []string{"/srv/m/client_1", "/srv/m/client-2"}, nil, []string{"client_1", "client-2"}},
		{"the one before, where it tells", []string{"/srv/a/root", "/srv/b/root"}, nil, []string{"a_root", "b_root"}},
		{
			"more than one before",
			[]string{"/a/x/root", "/b/x/root", "/b/y/root", "/srv/etc"},
			nil,
			[]string{"a_x_root", "b_x_root", "y_root", "etc"},
		},
		{"one ends where the other goes on", []string{"/root", "/a/root"}, nil, []string{"root", "a_root"}},
		{
			"letters and digits of any script",
			[]string{"/m/Zoë", "/m/клиент1", "/m/東京"},
			nil,
			[]string{"Zoë", "клиент1", "東京"},
		},
		{"what a name cannot hold", []string{"/m/a,b", "/m/(x)", "/m/.hid den"}, nil, []string{"a_b", "x", "hid_den"}},
		{"a digit first", []string{"/m/3", "/m/7-zip"}, nil, []string{"overlay_3", "overlay_7-zip"}},
		{"nothing left", []string{"/m/!?", "/"}, nil, []string{"m", "overlay"}},
		{
			"no difference that a name can hold",
			[]string{"/m/a,b", "/m/a;b", "/m/a b"},
			nil,
			[]string{"a_b_2", "a_b_3", "a_b"},
		},
		{"taken", []string{"/srv/client", "/srv/other"}, []string{"client"}, []string{"srv_client", "other"}},
		{"taken in every length", []string{"/x"}, []string{"x", "x_2"}, []string{"x_3"}},
		{"a longer one that was there before", []string{"/a/b", "/c/b", "/a_b"}, nil, []string{"a_b", "c_b", "a_b_2"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			taken := map[string]bool{}
			for _, name := range test.taken {
				taken[name] = true
			}
			names := importer.NameAll(test.paths, "overlay", taken)
			var got []string
			for _, p := range test.paths {
				got = append(got, names[p])
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("want -, got +\n%s", diff)
			}
		})
	}
}

// Any three paths get three names of the language, whatever their order.
func FuzzNames(f *testing.F) {
	f.Add("/srv/a/root", "/srv/b/root", "/root")
	f.Add("/m/a,b", "/m/a;b", "/m/a b")
	f.Add("/", "//", "")
	f.Add("/a_2", "/a", "/x/a")
	f.Add("/m/\xff", "/m/\u0301", "/m/-")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		paths := []string{a, b, c}
		taken := map[string]bool{"a": true, "root": true}
		names := importer.NameAll(paths, "overlay", taken)
		used := map[string]string{}
		for p, name := range names {
			if !hclsyntax.ValidIdentifier(name) || !utf8.ValidString(name) {
				t.Errorf("%q is no name (of %q)", name, p)
			}
			if other, dup := used[name]; dup || taken[name] {
				t.Errorf("%q is the name of %q and of %q, or taken", name, p, other)
			}
			used[name] = p
		}
		slices.Reverse(paths)
		if diff := cmp.Diff(names, importer.NameAll(paths, "overlay", taken)); diff != "" {
			t.Errorf("the order matters: %s", diff)
		}
	})
}

// A quoted text means the text, in the form of Unicode that HCL keeps.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{
		"/srv/${x}", "$${", "$$${a}", "%{if}", "%%{", "$", "%", "${",
		`a"b\c`, "a\nb\tc\r", "Zoe\u0308", "\u2028\ufeff", "\x01\x7f",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			return // left out before
		}
		text := importer.Quote(s)
		expr, diags := hclsyntax.ParseExpression([]byte(text), "", hcl.InitialPos)
		if diags.HasErrors() {
			t.Fatalf("%q becomes %s: %v", s, text, diags)
		}
		v, diags := expr.Value(nil)
		if diags.HasErrors() || v.AsString() != cty.StringVal(s).AsString() {
			t.Errorf("%q becomes %s, which means %#v (%v)", s, text, v, diags)
		}
	})
}

// Whatever a mount is called, the text is HCL, and nothing in it commands a terminal.
func FuzzRender(f *testing.F) {
	f.Add("/srv/m", "/srv/l", "index", "on", "upperdir is odd")
	f.Add("/srv/${m}\n\x1b[0m", "l", "context", "\"a,b\"", "a\nb\xff")
	f.Add("/\xff", "/l\u202e", "fsync", "strict", "")
	f.Add("/m/a\" {}\n", "/*", "//", "#", "${")
	f.Fuzz(func(t *testing.T, mountpoint, lower, option, value, reason string) {
		mount := func(at string) importer.Mounted {
			return importer.Mounted{Stack: 1, Live: overlayfs.Mount{
				FSType: "overlay", Mountpoint: at, Root: "/", Flags: overlayfs.Options{},
				Overlay: &overlayfs.Config{
					Lower: []string{lower, "/base"}, Upper: at + "/u", Work: at + "/w", Options: overlayfs.Options{option: value},
				},
			}}
		}
		line := strings.Join([]string{reason, mountpoint, "overlay", lower + "," + option + "=" + value}, " ")
		h := importer.Host{
			Mounted: []importer.Mounted{mount(mountpoint), mount(mountpoint + "2")},
			Fstab:   importer.ParseFstab(line, "/etc/fstab"),
		}
		for _, want := range []importer.Wanted{{}, {All: true, Fstab: true}} {
			d := importer.New(h, want)
			checkText(t, d.Render())
			d.LeaveOut(mountpoint, reason, true)
			text := d.Render()
			checkText(t, text)
			for _, r := range string(text.HCL) {
				if r != '\n' && unicode.IsControl(r) || r == utf8.RuneError && !utf8.Valid(text.HCL) {
					t.Fatalf("%q is in the text:\n%q", r, text.HCL)
				}
			}
		}
	})
}
