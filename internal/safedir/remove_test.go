package safedir_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/safedir"
	"github.com/overlayd/overlayd/test/apart"
)

func TestRemoveTree(t *testing.T) {
	top := apart.Dir(t)
	write(t, top+"/outside/file", "")
	write(t, top+"/tree/a/b/c", "")
	mkdir(t, top+"/tree/empty", top+"/tree/closed")
	write(t, top+"/tree/closed/x", "")
	do(t,
		os.Chmod(top+"/tree/closed", 0),
		os.Symlink(top+"/outside", top+"/tree/link"), os.Symlink("none", top+"/tree/a/dangling"),
		unix.Mkfifo(top+"/tree/fifo", 0o600), unix.Mknod(top+"/tree/whiteout", unix.S_IFCHR, 0),
	)
	for i := range 3000 { // more than one reading of a directory
		write(t, fmt.Sprintf("%s/tree/many/%d-%s", top, i, strings.Repeat("x", 100)), "")
	}
	if err := safedir.RemoveTree(top + "/tree"); err != nil {
		t.Fatal(err)
	}
	if exists(top + "/tree") {
		t.Error("it is still there")
	}
	if !exists(top + "/outside/file") {
		t.Error("a symlink was followed")
	}
	if err := safedir.RemoveTree(top + "/tree"); err != nil {
		t.Errorf("gone already: %v", err)
	}
	if err := safedir.RemoveTree(top + "/tree/x/y"); err != nil {
		t.Errorf("gone with what is above: %v", err)
	}
}

// TestRemoveDeepTree has a tree far deeper than a path can be long or a process may have files open.
func TestRemoveDeepTree(t *testing.T) {
	const depth = 20000
	top := apart.Dir(t)
	dir, err := unix.Open(top, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	do(t, err)
	for range depth {
		do(t, unix.Mkdirat(dir, "deeper", 0o755))
		next, err := unix.Openat(dir, "deeper", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		do(t, err, unix.Close(dir))
		dir = next
	}
	do(t, unix.Close(dir))
	if err := safedir.RemoveTree(top + "/deeper"); err != nil {
		t.Fatal(err)
	}
	if exists(top + "/deeper") {
		t.Error("it is still there")
	}
}

func TestRemoveTreeRefuses(t *testing.T) {
	top := apart.Dir(t)
	mkdir(t, top+"/tree/mnt", top+"/mnt", top+"/bindfile", top+"/outside/dir")
	write(t, top+"/file", "")
	write(t, top+"/bindfile/x", "")
	do(t,
		unix.Mount("x", top+"/tree/mnt", "tmpfs", 0, ""), unix.Mount(top+"/outside", top+"/mnt", "", unix.MS_BIND, ""),
		unix.Mount(top+"/file", top+"/bindfile/x", "", unix.MS_BIND, ""),
		os.Symlink("outside", top+"/link"),
	)
	write(t, top+"/tree/mnt/data", "")
	for _, test := range []struct{ path, want string }{
		{"/tree", "something is mounted at " + top + "/tree/mnt; unmount it first"},
		{"/mnt", "something is mounted at " + top + "/mnt; unmount it first"},
		{"/bindfile", "something is mounted at " + top + "/bindfile/x; unmount it first"},
		{"/link", top + "/link is a symlink to outside"},
		{"/link/dir", top + "/link is a symlink to outside"},
		{"/file", "it is not a directory"},
		{"/outside/../file", "the path is not absolute and clean"},
	} {
		err := safedir.RemoveTree(top + test.path)
		if err == nil || !strings.HasPrefix(err.Error(), "cannot remove "+top+test.path+": "+test.want) {
			t.Errorf("%s: error %v, want %s", test.path, err, test.want)
		}
	}
	for _, path := range []string{"/tree/mnt/data", "/outside/dir", "/file", "/bindfile/x"} {
		if !exists(top + path) {
			t.Errorf("%s is gone", path)
		}
	}
	for _, path := range []string{"/", "", "relative"} {
		if err := safedir.RemoveTree(path); err == nil {
			t.Errorf("%q: no error", path)
		}
	}
}

// immutable sets or clears chattr +i.
func immutable(t *testing.T, path string, on bool) error {
	t.Helper()
	const flag = 0x10 // FS_IMMUTABLE_FL
	f, err := os.Open(path)
	do(t, err)
	defer f.Close()
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return err
	}
	flags &^= flag
	if on {
		flags |= flag
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags))
}

func TestRemoveTreeImmutable(t *testing.T) {
	top := apart.Dir(t)
	write(t, top+"/tree/sub/file", "")
	write(t, top+"/other/dir/file", "")
	for _, test := range []struct{ path, protect string }{
		{"/tree", "/tree/sub/file"}, {"/other", "/other/dir"},
	} {
		if err := immutable(t, top+test.protect, true); err != nil { // tmpfs can since 6.6
			t.Skipf("the filesystem knows no immutable files: %v", err)
		}
		t.Cleanup(func() { _ = immutable(t, top+test.protect, false) })
		err := safedir.RemoveTree(top + test.path)
		want := top + test.protect + " is immutable or append-only (chattr -i -a)"
		if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

func TestRemoveEmpty(t *testing.T) {
	top := apart.Dir(t)
	mkdir(t, top+"/a/b/c", top+"/keep/x/y", top+"/alone/z")
	write(t, top+"/keep/file", "")
	for _, test := range []struct{ path, upTo, gone, left string }{
		{"/a/b/c", "/a", "/a", ""},
		{"/a/b/c", "/a", "/a", ""}, // gone already
		{"/keep/x/y", "/keep", "/keep/x", "/keep/file"},
		{"/alone/z", "", "/alone/z", "/alone"},
	} {
		upTo := test.upTo
		if upTo != "" {
			upTo = top + upTo
		}
		if err := safedir.RemoveEmpty(top+test.path, upTo); err != nil {
			t.Errorf("%s: %v", test.path, err)
		}
		if exists(top+test.gone) || test.left != "" && !exists(top+test.left) {
			t.Errorf("%s: %s should be gone, %s left", test.path, test.gone, test.left)
		}
	}
	mkdir(t, top+"/mnt", top+"/real")
	do(t, unix.Mount("x", top+"/mnt", "tmpfs", 0, ""), os.Symlink("real", top+"/link"))
	for path, want := range map[string]string{
		"/mnt":  "something is mounted at",
		"/link": "is a symlink to real",
	} {
		if err := safedir.RemoveEmpty(top+path, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", path, err, want)
		}
	}
	if err := safedir.RemoveEmpty(top+"/a", top+"/b"); err == nil {
		t.Error("paths that have nothing to do with each other are accepted")
	}
}

func TestEmptyWork(t *testing.T) {
	top := apart.Dir(t)
	scratch, volatile := top+"/w/work", top+"/volatile/work" // the kernel's, in the workdir
	write(t, scratch+"/a/b/c/file", "")
	write(t, top+"/w/index/handle", "")
	write(t, top+"/outside/file", "")
	do(t, os.Symlink(top+"/outside", scratch+"/link"), os.Chmod(scratch, 0))
	mkdir(t, top+"/link-work", volatile+"/incompat/volatile", volatile+"/rest", top+"/fresh")
	do(t, os.Symlink(top+"/outside", top+"/link-work/work"), os.Symlink("w", top+"/link"))
	for _, path := range []string{"/w", "/w", "/link-work", "/fresh", "/none"} {
		if err := safedir.EmptyWork(t.Context(), top+path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	if entries, err := os.ReadDir(scratch); err != nil || len(entries) != 0 {
		t.Errorf("work holds %v, %v", entries, err)
	}
	if !exists(top+"/w/index/handle") || !exists(top+"/outside/file") {
		t.Error("more than work was emptied")
	}
	if exists(top + "/link-work/work") {
		t.Error("a symlink stayed in the kernel's place")
	}
	err := safedir.EmptyWork(t.Context(), top+"/volatile")
	if v, ok := errors.AsType[*safedir.VolatileError](err); !ok || v.Path != volatile+"/incompat/volatile" {
		t.Errorf("volatile: error %v", err)
	}
	if !exists(volatile + "/rest") {
		t.Error("volatile: it was emptied all the same")
	}
	if _, ok := errors.AsType[*safedir.SymlinkError](safedir.EmptyWork(t.Context(), top+"/link")); !ok {
		t.Error("a symlink to a workdir is followed")
	}
}

func TestMarker(t *testing.T) {
	top := apart.Dir(t)
	if _, ok, err := safedir.ReadMarker(top); ok || err != nil {
		t.Errorf("no marker: %t, %v", ok, err)
	}
	if _, ok, err := safedir.ReadMarker(top + "/none"); ok || err != nil {
		t.Errorf("no directory: %t, %v", ok, err)
	}
	write(t, top+"/.overlayd.new", "left by a kill")
	for _, m := range []safedir.Marker{
		{Address: `overlay.client["a b"]`, Mountpoint: "/srv/\u00e9\\"},
		{Address: "overlay.other", Mountpoint: "/srv/b"},
	} {
		for range 2 {
			if err := safedir.WriteMarker(top, m); err != nil {
				t.Fatal(err)
			}
			if got, ok, err := safedir.ReadMarker(top); got != m || !ok || err != nil {
				t.Errorf("got %+v, %t, %v; want %+v", got, ok, err, m)
			}
		}
	}
	if exists(top + "/.overlayd.new") {
		t.Error("the temporary file is left")
	}
}

func TestMarkerRefuses(t *testing.T) {
	top := apart.Dir(t)
	good := `{"address":"overlay.a","mountpoint":"/a"}`
	for name, test := range map[string]struct {
		plant func(path string) error
		want  string
	}{
		"alice": {func(path string) error {
			return errors.Join(os.WriteFile(path, []byte(good), 0o644), os.Chown(path, 1000, 1000))
		}, "it belongs to "},
		"symlink": {func(path string) error {
			return errors.Join(os.WriteFile(path+".x", []byte(good), 0o644), os.Symlink(".overlayd.x", path))
		}, "it is a symlink"},
		"fifo":    {func(path string) error { return unix.Mkfifo(path, 0o600) }, "it is not a file"},
		"empty":   {func(path string) error { return os.WriteFile(path, nil, 0o644) }, "it is damaged"},
		"unknown": {func(path string) error { return os.WriteFile(path, []byte(`{"x":1}`), 0o644) }, "it is damaged"},
		"long":    {func(path string) error { return os.WriteFile(path, make([]byte, 1<<20), 0o644) }, "it is too long"},
	} {
		dir := top + "/" + name
		mkdir(t, dir)
		do(t, test.plant(dir+"/.overlayd"))
		_, ok, err := safedir.ReadMarker(dir)
		if ok || err == nil || !strings.HasPrefix(err.Error(), "cannot read "+dir+"/.overlayd: "+test.want) {
			t.Errorf("%s: %t, %v; want %s", name, ok, err, test.want)
		}
	}
}

// TestMarkerOfCopy: a mark is the directory's that it was written for, under whatever name, and not its copy's.
func TestMarkerOfCopy(t *testing.T) {
	top := apart.Dir(t)
	mkdir(t, top+"/data")
	m := safedir.Marker{Address: "overlay.a", Mountpoint: "/m/a"}
	do(t, safedir.WriteMarker(top+"/data", m))
	if out, err := exec.Command("cp", "-a", top+"/data", top+"/copy").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	do(t, os.Rename(top+"/data", top+"/moved"))
	if got, ok, err := safedir.ReadMarker(top + "/moved"); got != m || !ok || err != nil {
		t.Errorf("moved: %v, %t, %v", got, ok, err)
	}
	if _, ok, err := safedir.ReadMarker(top + "/copy"); ok || err == nil {
		t.Errorf("a copy counts as the directory itself: %t, %v", ok, err)
	}
	// A client whose root a directory is can write the file, and root's it would be.
	mkdir(t, top+"/planted")
	write(t, top+"/planted/"+safedir.MarkerName, `{"address":"overlay.a","mountpoint":"/m/a"}`)
	if _, ok, err := safedir.ReadMarker(top + "/planted"); ok || err == nil {
		t.Errorf("a planted mark counts: %t, %v", ok, err)
	}
	do(t, safedir.WriteMarker(top+"/copy", m))
	if got, ok, err := safedir.ReadMarker(top + "/copy"); got != m || !ok || err != nil {
		t.Errorf("marked again: %v, %t, %v", got, ok, err)
	}
}
