package inventory_test

import (
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/overlayd/overlayd/internal/inventory"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// hostOf is a host with something of everything. None of its paths exists, so that nothing is resolved.
func hostOf(t *testing.T) *inventory.Inventory {
	t.Helper()
	return take(t, root+
		line(2, 1, "0:2", "/", "/none/m/a", "overlay", "overlayd",
			",lowerdir=/none/base,upperdir=/none/a/u,workdir=/none/a/w")+
		line(3, 2, "0:3", "/", "/none/m/a/cache", "tmpfs", "cache", "")+
		over(4, 1, "/none/hand", "hand")+
		line(5, 4, "0:5", "/", "/none/hand/data", "ext4", "/dev/sdb", "")+
		line(6, 1, "0:6", "/", "/none/m/low", "overlay", "hand",
			",lowerdir=/none/m/a:/none/hand/data/low,upperdir=/none/hand/data/up,workdir=/none/hand/data/wk")+
		over(7, 1, "/none/hid/den", "hand")+line(8, 1, "0:8", "/", "/none/hid", "tmpfs", "x", "")+
		line(9, 1, "0:4", "/etc", "/none/bound", "overlay", "hand", ",lowerdir=/t/lower"),
		applied("overlay.a", "/none/m/a", "/none/base"),
		applied("overlay.down", "/none/m/down", "/none/base"),
		applied(`overlay.pi["01"]`, "/none/pi/01", "/none/pibase"),
		applied(`overlay.pi["02"]`, "/none/pi/02", "/none/pibase"),
		applied(`overlay.one["only"]`, "/none/one", "/none/onebase"),
		applied("overlay.twice", "/none/twice/1", "/none/x"), applied("overlay.twice", "/none/twice/2", "/none/x"),
	)
}

func TestFind(t *testing.T) {
	i := hostOf(t)
	for _, test := range []struct{ ref, want string }{ // a mountpoint
		{"overlay.a", "/none/m/a"},
		{`overlay.pi["02"]`, "/none/pi/02"},
		{"overlay.pi[02]", "/none/pi/02"}, // a shell has eaten the quotes
		{"overlay.pi[*2]", "/none/pi/02"},
		{"overlay.one", "/none/one"},
		{"/none/m/a", "/none/m/a"},
		{"/none/m/a/", "/none/m/a"},
		{"/none/m/./x/../a", "/none/m/a"},
		{"/none/m/a/usr/share/doc", "/none/m/a"},
		{"/none/m/a/cache/x", "/none/m/a"},   // on a mount of its own, below the overlay
		{"/none/m/down/usr", "/none/m/down"}, // applied, not mounted
		{"/none/hand/x", "/none/hand"},
		{"/none/hand/data/x", "/none/hand"},
		{"/none/bound/passwd", "/none/hand"}, // a bind mount of a part of it
		{"/none/hid/den", "/none/hid/den"},   // hidden, and named exactly
	} {
		t.Run(test.ref, func(t *testing.T) {
			o, err := i.Find(test.ref)
			if err != nil {
				t.Fatal(err)
			}
			if o.Mountpoint != test.want {
				t.Errorf("got %s, want %s", o.Mountpoint, test.want)
			}
		})
	}
}

func TestFindErrors(t *testing.T) {
	i := hostOf(t)
	for _, test := range []struct{ ref, want string }{
		{"overlay.aa", "cannot find overlay.aa: no overlay of that address is applied; did you mean overlay.a?"},
		{"overlay.pi[\"1\"]", "did you mean overlay.pi[\"01\"]?"},
		{"overlay.dwon", "did you mean overlay.down?"},
		{
			"overlay.unlike",
			`there are overlay.a, overlay.down, overlay.one["only"], overlay.pi["01"], overlay.pi["02"] and 2 more`,
		},
		{
			"overlay.pi",
			`cannot tell which overlay overlay.pi is: there are overlay.pi["01"], overlay.pi["02"]; name one of them`,
		},
		{"overlay.pi[*]", "there are overlay.pi[\"01\"], overlay.pi[\"02\"]"},
		{"overlay.twice", "units for /none/twice/1, /none/twice/2 have this address; name the mountpoint"},
		{"overlay.", "write overlay.NAME"},
		{"overlay.pi[", "write overlay.NAME"},
		{"", "cannot find an overlay of no name: give an address, overlay.NAME, or a path"},
		{"m/a", "neither an address nor an absolute path"},
		{"/none/a/u/etc", "cannot find an overlay at /none/a/u/etc: that is the upperdir of overlay.a; say overlay.a"},
		{"/none/a/w", "the workdir of overlay.a; say overlay.a"},
		{"/none/base", "a lowerdir of overlay.a, overlay.down; name one of them"},
		// the nearest overlay above has them in its tree, but they are on a mount of their own there
		{"/none/hand/data/up", "the upperdir of the overlay at /none/m/low; say /none/m/low"},
		{"/none/hand/data/low/x", "a lowerdir of the overlay at /none/m/low; say /none/m/low"},
		{"/none/hid/den/x", "no such file or directory"},
		{"/none", "no such file or directory"},
		{"/proc", "lies on the ext4 mounted at /, and no overlay is above (overlayd list --all"},
	} {
		t.Run(test.ref, func(t *testing.T) {
			o, err := i.Find(test.ref)
			if err == nil {
				t.Fatalf("found %s", brief(o))
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %q, want %q in it", err, test.want)
			}
		})
	}
	if _, err := take(t, root).Find("overlay.a"); err == nil || !strings.Contains(err.Error(), "overlayd apply") {
		t.Errorf("of an empty host: %v", err)
	}
}

func TestMatch(t *testing.T) {
	i := hostOf(t)
	targets := func(texts ...string) (out []plan.Target) {
		for _, text := range texts {
			target, err := plan.ParseTarget(text)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, target)
		}
		return out
	}
	for _, test := range []struct {
		targets []string
		want    []string
		err     string
	}{
		{nil, nil, ""},
		{[]string{"overlay.pi", "overlay.a"}, []string{"/none/m/a", "/none/pi/01", "/none/pi/02"}, ""},
		{[]string{"overlay.pi[*]", "overlay.pi[01]"}, []string{"/none/pi/01", "/none/pi/02"}, ""},
		{[]string{"overlay.twice"}, []string{"/none/twice/1", "/none/twice/2"}, ""},
		{[]string{"overlay.a", "overlay.dwon"}, nil, "cannot find overlay.dwon: no overlay of that address is applied; did " +
			"you mean overlay.down?"},
	} {
		t.Run(strings.Join(test.targets, " "), func(t *testing.T) {
			overlays, err := i.Match(targets(test.targets...))
			if got := errorText(err); got != test.err {
				t.Errorf("error %q, want %q", got, test.err)
			}
			var got []string
			for _, o := range overlays {
				got = append(got, o.Mountpoint)
			}
			if d := cmp.Diff(test.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// FuzzFind has the promise that nothing a user types is found where it is not: an overlay that is found by a path has
// its mountpoint, or a bind mount of it, above the path.
func FuzzFind(f *testing.F) {
	for _, seed := range []string{
		"", "/", "overlay.a", "overlay.pi[*]", "overlay.pi[", "/none/m/a/x", "/none/m/a/../down", "//none//hand/",
		"/none/bound/x", "none", "/none/m/a\x00", "overlay.\xff",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, ref string) {
		i := hostOf(t)
		o, err := i.Find(ref)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without words")
			}
			return
		}
		if inventory.IsAddress(ref) {
			block, _, _ := strings.Cut(ref, "[")
			if !strings.HasPrefix(o.Address, block) {
				t.Errorf("%q is %s", ref, brief(o))
			}
			return
		}
		for _, m := range append(i.Copies(o), o.Mount) {
			if o.Mounted && strings.HasPrefix(path.Clean(ref)+"/", m.Mountpoint+"/") {
				return
			}
		}
		if !strings.HasPrefix(path.Clean(ref)+"/", o.Mountpoint+"/") {
			t.Errorf("%q is %s", ref, brief(o))
		}
	})
}
