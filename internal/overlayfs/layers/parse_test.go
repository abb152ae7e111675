package layers_test

import (
	"strings"
	"testing"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/layers"
)

func TestSettings(t *testing.T) {
	type options = overlayfs.Options
	for _, test := range []struct {
		name     string
		options  options
		defaults overlayfs.Defaults
		want     string
	}{
		{"Debian's", nil, kernelDefaults, "trusted.overlay. follow"},
		{"pinned", overlayfs.Pin(nil), kernelDefaults, "trusted.overlay. follow"},
		{"a kernel that follows nothing", nil, overlayfs.Defaults{}, "trusted.overlay."},
		{"and is asked to", options{"redirect_dir": "follow"}, overlayfs.Defaults{}, "trusted.overlay. follow"},
		{"off follows where always", options{"redirect_dir": "off"}, kernelDefaults, "trusted.overlay. follow"},
		{"nofollow", options{"redirect_dir": "nofollow"}, kernelDefaults, "trusted.overlay."},
		{"redirects by default", nil, overlayfs.Defaults{RedirectDir: true}, "trusted.overlay. follow"},
		{"metacopy implies redirects", options{"metacopy": "on"}, overlayfs.Defaults{}, "trusted.overlay. follow metacopy"},
		{"metacopy by default", nil, overlayfs.Defaults{Metacopy: true}, "trusted.overlay. follow metacopy"},
		{"metacopy off", options{"metacopy": "off"}, overlayfs.Defaults{Metacopy: true}, "trusted.overlay."},
		{"verity", options{"verity": "on"}, kernelDefaults, "trusted.overlay. follow metacopy"},
		{"index", options{"index": "on"}, kernelDefaults, "trusted.overlay. follow index"},
		{"index by default", nil, overlayfs.Defaults{Index: true}, "trusted.overlay. index"},
		{"index off", options{"index": "off"}, overlayfs.Defaults{Index: true}, "trusted.overlay."},
		{"nfs_export", options{"nfs_export": "on"}, kernelDefaults, "trusted.overlay. follow index verify"},
		{"nfs_export by default", nil, overlayfs.Defaults{NFSExport: true, Metacopy: true}, "trusted.overlay. index verify"},
		{"nfs_export off", options{"nfs_export": "off"}, overlayfs.Defaults{NFSExport: true}, "trusted.overlay."},
		{
			"userxattr",
			options{"userxattr": "", "index": "on"},
			overlayfs.Defaults{RedirectDir: true, RedirectAlwaysFollow: true, Metacopy: true},
			"user.overlay. index",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := layers.Settings(test.options, test.defaults); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestRedirected(t *testing.T) {
	for _, test := range []struct {
		name, component, to, want string // component is the one of name that is redirected
	}{
		{"e", "e", "d", "d"},
		{"e", "e", "/x/d", "/x/d"},
		{"/p/e/s", "e", "d", "/p/d/s"},
		{"/p/e/s", "s", "d", "/p/e/d"},
		{"/p/e/s", "e", "/x", "/x/s"},
		{"/p/e/s", "p", "d", "/d/e/s"},
		{"e", "e", "", ""},
		{"e", "e", "a/b", ""},
		{"e", "e", "/", ""},
		{"e", "e", "/a//b", ""},
		{"e", "e", "/a/", ""},
		{"e", "e", "..", ""},
		{"e", "e", "/a/./b", ""},
		{"e", "e", "a\x00b", ""},
		{"e", "e", " .", " ."},
	} {
		before := strings.Index(test.name, test.component)
		got, ok := layers.Redirected(test.name, before, test.name[before+len(test.component):], test.to)
		if got != test.want || ok != (test.want != "") {
			t.Errorf("%q of %q to %q: got %q, %v", test.component, test.name, test.to, got, ok)
		}
	}
}

// Whatever a client writes into a redirect, the path to look for never leaves the layer.
func FuzzRedirected(f *testing.F) {
	for _, to := range []string{"d", "/a/b", "/", "..", "/../etc", "a/../../b", "/a/./b", "//a", "a\x00/..", "\xff"} {
		f.Add(to, uint8(1))
	}
	f.Fuzz(func(t *testing.T, to string, place uint8) {
		name, component := "/one/two/three", []string{"one", "two", "three"}[place%3]
		before := strings.Index(name, component)
		got, ok := layers.Redirected(name, before, name[before+len(component):], to)
		if !ok {
			if got != "" {
				t.Errorf("%q refused, with %q", to, got)
			}
			return
		}
		parts := strings.Split(got, "/")
		if parts[0] != "" || len(parts) < 2 {
			t.Fatalf("%q: %q is not absolute", to, got)
		}
		for _, part := range parts[1:] {
			if part == "" || part == "." || part == ".." || strings.Contains(part, "\x00") {
				t.Errorf("%q: %q has a component %q", to, got, part)
			}
		}
	})
}

func FuzzParseHandle(f *testing.F) {
	good := append([]byte{0, 0xfb, 29, 0, 1}, make([]byte, 16)...)
	good = append(good, "\x0c\x00\x00\x00gen1"...)
	f.Add(good)
	f.Add(good[:28])
	f.Add(append(good, "more"...))
	f.Add([]byte{0, 0xfb, 255, 0, 1})
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, ok := layers.ParseHandle(raw)
		switch {
		case !ok && h != "":
			t.Errorf("refused, with %q", h)
		case ok && (raw[1] != 0xfb || len(h) != int(raw[2])-20 || h[0] != raw[4]):
			t.Errorf("%q of %q", h, raw)
		}
	})
	if h, ok := layers.ParseHandle(good); !ok || h != "\x01\x0c\x00\x00\x00gen1" {
		f.Errorf("got %q, %v", h, ok)
	}
}
