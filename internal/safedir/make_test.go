package safedir_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/safedir"
	"github.com/overlayd/overlayd/test/apart"
)

func TestMake(t *testing.T) {
	top := apart.Dir(t)
	// Neither the umask nor a setgid directory above may show in what is made.
	old := unix.Umask(0o077)
	t.Cleanup(func() { unix.Umask(old) })
	mkdir(t, top+"/setgid")
	do(t, os.Chown(top+"/setgid", 0, 4242), os.Chmod(top+"/setgid", 0o755|fs.ModeSetgid), os.Chmod(top, 0o755))
	long := strings.Repeat("x", 255)
	for _, test := range []struct {
		name, path, created string
		attr                safedir.Attr
		want                string
	}{
		{"root's", "/a", "/a", safedir.Attr{Mode: 0o755}, "0:0 40755"},
		{"parents, too", "/b/c/d", "/b", safedir.Attr{Mode: 0o700}, "0:0 40700"},
		{"somebody's", "/alice", "/alice", safedir.Attr{UID: 1000, GID: 1001, Mode: 0o750}, "1000:1001 40750"},
		{"a group's", "/group", "/group", safedir.Attr{GID: 1001, Mode: 0o775}, "0:1001 40775"},
		{"special bits", "/s", "/s", safedir.Attr{UID: 1, Mode: 0o777 | fs.ModeSticky | fs.ModeSetgid}, "1:0 43777"},
		{"in a setgid directory", "/setgid/x/y", "/setgid/x", safedir.Attr{Mode: 0o755}, "0:0 40755"},
		{"a long name", "/" + long, "/" + long, safedir.Attr{UID: 1, Mode: 0o755}, "1:0 40755"},
	} {
		t.Run(test.name, func(t *testing.T) {
			created, err := safedir.NewMaker("/").Make(top+test.path, test.attr, false)
			if err != nil {
				t.Fatal(err)
			}
			if created != top+test.created {
				t.Errorf("created %s, want %s", created, top+test.created)
			}
			if got := is(t, top+test.path); got != test.want {
				t.Errorf("it is %s, want %s", got, test.want)
			}
			for at := filepath.Dir(top + test.path); len(at) >= len(created); at = filepath.Dir(at) {
				if got := is(t, at); got != "0:0 40755" {
					t.Errorf("%s is %s", at, got)
				}
			}
			created, err = safedir.NewMaker("/").Make(top+test.path, safedir.Attr{UID: 77, Mode: 0o711}, false)
			if err != nil || created != "" {
				t.Errorf("the second time: created %q, error %v", created, err)
			}
			if got := is(t, top+test.path); got != test.want {
				t.Errorf("the second time made it %s", got)
			}
		})
	}
}

func TestMakeBelowRoot(t *testing.T) {
	top := apart.Dir(t)
	mkdir(t, top+"/img")
	do(t, os.Symlink("img", top+"/link"))
	for _, root := range []string{top + "/img", top + "/link"} {
		if created, err := safedir.NewMaker(root).Make("/srv/x", safedir.Attr{Mode: 0o755}, false); err != nil {
			t.Fatal(err)
		} else if root == top+"/img" && created != "/srv" {
			t.Errorf("created %s, want a path as the one given", created)
		}
	}
	if !exists(top + "/img/srv/x") {
		t.Error("it is not where it belongs")
	}
	do(t, os.Symlink("/", top+"/img/out"))
	if _, err := safedir.NewMaker(top+"/img").Make("/out/tmp/x", safedir.Attr{}, true); err == nil {
		t.Error("a symlink led out of the root")
	}
}

func TestMakeUnsafe(t *testing.T) {
	top := apart.Dir(t)
	mkdir(t, top+"/alice/dir", top+"/open", top+"/sticky/root", top+"/sticky/alice/dir")
	do(t,
		os.Chown(top+"/alice", 1000, 1000), os.Chmod(top+"/open", 0o775),
		os.Chmod(top+"/sticky", 0o777|fs.ModeSticky), os.Chown(top+"/sticky/alice", 1000, 1000),
	)
	for _, test := range []struct{ path, at, reason string }{
		{"/alice", "", ""}, // the last one may be anybody's
		{"/alice/x", "/alice", "is owned by "},
		{"/alice/dir", "/alice", "is owned by "},
		{"/alice/dir/x/y", "/alice", "is owned by "},
		{"/open/x", "/open", "is writable by others than root (mode 0775)"},
		{"/sticky/new", "", ""},
		{"/sticky/root", "", ""},
		{"/sticky/root/x", "", ""},
		{"/sticky/alice", "/sticky/alice", "belongs to "},
		{"/sticky/alice/dir", "/sticky/alice", "is owned by "},
	} {
		_, err := safedir.NewMaker("/").Make(top+test.path, safedir.Attr{Mode: 0o755}, false)
		unsafe, typed := errors.AsType[*safedir.UnsafeError](err)
		switch {
		case test.reason == "" && err != nil:
			t.Errorf("%s: %v", test.path, err)
		case test.reason == "":
		case !typed || unsafe.Path != top+test.at || !strings.Contains(unsafe.Reason, test.reason):
			t.Errorf("%s: error %v, want %s %s", test.path, err, test.at, test.reason)
		case !strings.Contains(err.Error(), "allow_unsafe_parent"):
			t.Errorf("%s: error %q has no remedy", test.path, err)
		}
		if _, err := safedir.NewMaker("/").Make(top+test.path, safedir.Attr{Mode: 0o755}, true); err != nil {
			t.Errorf("%s, trusted: %v", test.path, err)
		}
	}
}

func TestMakeFollowsNoSymlink(t *testing.T) {
	top := apart.Dir(t)
	mkdir(t, top+"/etc", top+"/dir")
	write(t, top+"/file", "")
	do(t, os.Symlink(top+"/etc", top+"/link"), os.Symlink("../none", top+"/dir/dangling"))
	for _, path := range []string{"/link", "/link/x", "/link/x/y", "/dir/dangling", "/dir/dangling/x"} {
		for _, trusted := range []bool{false, true} {
			_, err := safedir.NewMaker("/").Make(top+path, safedir.Attr{Mode: 0o755}, trusted)
			link, ok := errors.AsType[*safedir.SymlinkError](err)
			if !ok || !strings.HasPrefix(top+path, link.Path) || link.Target == "" {
				t.Errorf("%s: error %v, want the symlink and where it leads", path, err)
			}
		}
	}
	if entries, _ := os.ReadDir(top + "/etc"); len(entries) > 0 || exists(top+"/none") {
		t.Errorf("something was made behind a symlink: %v", entries)
	}
	for _, path := range []string{"/file", "/file/x"} {
		if _, err := safedir.NewMaker("/").Make(top+path, safedir.Attr{Mode: 0o755}, false); err == nil ||
			!strings.Contains(err.Error(), "/file is not a directory") {
			t.Errorf("%s: error %v", path, err)
		}
	}
	for _, path := range []string{"", "x", top + "/../x", top + "/x/", top + "//x"} {
		if _, err := safedir.NewMaker("/").Make(path, safedir.Attr{Mode: 0o755}, false); err == nil {
			t.Errorf("%q: no error", path)
		}
	}
}

// TestMakeAfterKill: what a killed run left aside does not stay, and is not taken for the directory itself.
func TestMakeAfterKill(t *testing.T) {
	top := apart.Dir(t)
	attr := safedir.Attr{UID: 1000, GID: 1000, Mode: 0o700}
	mkdir(t, top+"/"+safedir.AsideName("x"))
	do(t, os.Chown(top+"/"+safedir.AsideName("x"), 1000, 1000))
	if _, err := safedir.NewMaker("/").Make(top+"/x", attr, false); err != nil {
		t.Fatal(err)
	}
	if got := is(t, top+"/x"); got != "1000:1000 40700" {
		t.Errorf("it is %s", got)
	}
	if entries, err := os.ReadDir(top); err != nil || len(entries) != 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// TestMakeAtOnce: several overlays are made in parallel and share what is above them.
func TestMakeAtOnce(t *testing.T) {
	top := apart.Dir(t)
	maker := safedir.NewMaker("/")
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for _, name := range []string{"upper", "work"} {
				path := filepath.Join(top, "shared/by/all", strings.Repeat("x", i+1), name)
				if _, err := maker.Make(path, safedir.Attr{UID: uint32(i % 2), Mode: 0o700}, false); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for i := range 16 {
		path := filepath.Join(top, "shared/by/all", strings.Repeat("x", i+1), "upper")
		if got := is(t, path); !strings.HasSuffix(got, ":0 40700") {
			t.Errorf("%s is %s", path, got)
		}
	}
}

// TestMakerRemembers: what was found safe is not looked at again, what was trusted only is, and what has gone is made.
func TestMakerRemembers(t *testing.T) {
	top := apart.Dir(t)
	mkdir(t, top+"/alice")
	do(t, os.Chown(top+"/alice", 1000, 1000))
	maker := safedir.NewMaker(top)
	attr := safedir.Attr{Mode: 0o755}
	for _, step := range []struct {
		path    string
		trusted bool
		created string
		unsafe  bool
	}{
		{path: "/a/b/c", created: "/a"},
		{path: "/a/b/d", created: "/a/b/d"},
		{path: "/a/b/c/d/e", created: "/a/b/c/d"},
		{path: "/alice/x/y", unsafe: true},
		{path: "/alice/x/y", trusted: true, created: "/alice/x"},
		{path: "/alice/x/y", unsafe: true},
		{path: "/alice/x/z", unsafe: true},
		{path: "/", created: ""},
	} {
		created, err := maker.Make(step.path, attr, step.trusted)
		if _, unsafe := errors.AsType[*safedir.UnsafeError](err); created != step.created || unsafe != step.unsafe ||
			!step.unsafe && err != nil {
			t.Errorf("%s: created %q, error %v; want %+v", step.path, created, err, step)
		}
	}
	do(t, os.RemoveAll(top+"/a"))
	if created, err := maker.Make("/a/b/c", attr, false); created != "/a" || err != nil {
		t.Errorf("after a removal: created %q, error %v", created, err)
	}
	do(t, os.RemoveAll(top+"/a/b"), os.Symlink("/", top+"/a/b"))
	if _, err := maker.Make("/a/b/c", attr, false); err == nil {
		t.Error("a symlink in a known place is followed")
	}
}

func TestCheckOwner(t *testing.T) {
	top := apart.Dir(t)
	write(t, top+"/good/spec.hcl", "")
	write(t, top+"/good/open.hcl", "")
	write(t, top+"/good/sticky.hcl", "")
	write(t, top+"/alice/spec.hcl", "")
	write(t, top+"/group/spec.hcl", "")
	write(t, top+"/sticky/spec.hcl", "")
	write(t, top+"/sticky/alice.hcl", "")
	do(t,
		os.Chmod(top+"/good/open.hcl", 0o646), os.Chmod(top+"/good/sticky.hcl", 0o666|fs.ModeSticky),
		os.Chown(top+"/alice", 1000, 0), os.Chmod(top+"/group", 0o775),
		os.Chmod(top+"/sticky", 0o777|fs.ModeSticky), os.Chown(top+"/sticky/alice.hcl", 1000, 0),
		os.Symlink("good/spec.hcl", top+"/link.hcl"),
		os.Symlink(top+"/alice/spec.hcl", top+"/good/to-alice.hcl"),
		os.Symlink(top+"/good/spec.hcl", top+"/sticky/link.hcl"), os.Lchown(top+"/sticky/link.hcl", 1000, 0),
		os.Symlink("loop", top+"/loop"),
		os.Symlink("../alice/../good", top+"/good/detour"),
	)
	for path, want := range map[string]string{
		"/good":                 "",
		"/good/spec.hcl":        "",
		"/link.hcl":             "",
		"/sticky/spec.hcl":      "",
		"/good/open.hcl":        "/good/open.hcl is writable by others than root (mode 0646)",
		"/good/sticky.hcl":      "/good/sticky.hcl is writable by others than root (mode 1666)",
		"/alice/spec.hcl":       "/alice is owned by ",
		"/good/to-alice.hcl":    "/alice is owned by ",
		"/good/detour/spec.hcl": "/alice is owned by ",
		"/group/spec.hcl":       "/group is writable by others than root (mode 0775)",
		"/sticky/alice.hcl":     "/sticky/alice.hcl is owned by ",
		"/sticky/link.hcl":      "/sticky/link.hcl is owned by ",
	} {
		err := safedir.CheckOwner(top + path)
		_, typed := errors.AsType[*safedir.UnsafeError](err)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", path, err)
		case want == "":
		case !typed || !strings.HasPrefix(err.Error(), top+want) || !strings.Contains(err.Error(), "chown root"):
			t.Errorf("%s: error %v, want %s", path, err, want)
		}
	}
	if err := safedir.CheckOwner(top + "/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: error %v", err)
	}
	if err := safedir.CheckOwner(top + "/loop"); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a loop: error %v", err)
	}
	if err := safedir.CheckOwner("spec.hcl"); err == nil {
		t.Error("a relative path is accepted")
	}
}
