package doctor_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/doctor"
	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/test/apart"
)

// TestMain runs the tests apart: they mount, and /run is theirs.
func TestMain(m *testing.M) { os.Exit(apart.Run(nil, m.Run)) }

func mkdir(t *testing.T, elements ...string) string {
	t.Helper()
	path := filepath.Join(elements...)
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// overlay mounts one at a directory and gives its path.
func overlay(t *testing.T, top, name, lower string) string {
	t.Helper()
	at := mkdir(t, top, name, "m")
	c := overlayfs.Config{Lower: []string{lower}, Upper: mkdir(t, top, name, "u"), Work: mkdir(t, top, name, "w")}
	if err := host.Mount("test", at, c); err != nil {
		t.Fatal(err)
	}
	return at
}

func look(places ...doctor.Place) doctor.Facts {
	return doctor.Look(context.Background(), doctor.Question{Places: places})
}

// about gives what is known of the filesystem of a path.
func about(t *testing.T, f doctor.Facts, path string) doctor.Filesystem {
	t.Helper()
	for _, fs := range f.Filesystems {
		if slices.Contains(fs.Paths, path) {
			return fs
		}
	}
	t.Fatalf("nothing about %s in %+v", path, f.Filesystems)
	return doctor.Filesystem{}
}

func TestLookFilesystems(t *testing.T) {
	top := apart.Dir(t)
	base := mkdir(t, top, "base")
	mkdir(t, base, "file")
	merged := overlay(t, top, "one", base)
	twice := overlay(t, top, "two", merged)
	plain := mkdir(t, top, "plain")
	if err := unix.Mount("plain", plain, "ramfs", unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		t.Fatal(err)
	}
	disk := mkdir(t, base, "disk")
	if err := unix.Mount("/usr", disk, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(top, "state")
	place := func(path string, use doctor.Use, overlay string) doctor.Place {
		return doctor.Place{Path: path, Use: use, Overlay: overlay}
	}
	f := look(
		place(state, doctor.StateDir, ""),
		place(state+"/a/upper", doctor.Upper, "overlay.a"), place(state+"/b/upper", doctor.Upper, "overlay.b"),
		place(top+"/c/upper", doctor.Upper, "overlay.c"), place(top+"/d/upper", doctor.Upper, "overlay.d"),
		place(merged+"/upper", doctor.Upper, "overlay.e"), place(plain+"/upper", doctor.Upper, "overlay.f"),
		place(base, doctor.Lower, "overlay.a"), place(base, doctor.Lower, "overlay.b"),
		place(merged+"/file", doctor.Lower, "overlay.c"), place(twice+"/file", doctor.Lower, "overlay.d"),
		place(top+"/none", doctor.Lower, "overlay.e"), place("/proc/1/mem/x", doctor.Lower, "overlay.f"),
	)
	if f.TableErr != "" {
		t.Fatal(f.TableErr)
	}

	// what lies in the state_dir belongs to it
	fs := about(t, f, state)
	if fs.Use != doctor.StateDir || fs.Paths[0] != state || len(fs.Paths) != 3 || !fs.Missing || fs.Type != "tmpfs" ||
		fs.Mountpoint != apart.Scratch || !slices.Equal(fs.Overlays, []string{"overlay.a", "overlay.b"}) {
		t.Errorf("state_dir: %+v", fs)
	}
	if (fs.Upper != doctor.UpperTrial{}) || fs.Space == nil || fs.Space.Free == 0 || fs.UserXattrs == nil {
		t.Errorf("state_dir: %+v", fs)
	}
	fs = about(t, f, top+"/c/upper")
	if want := []string{top + "/c/upper", top + "/d/upper"}; !slices.Equal(fs.Paths, want) || fs.Use != doctor.Upper {
		t.Errorf("upperdirs: %+v", fs)
	}
	fs = about(t, f, merged+"/upper")
	if fs.Type != "overlay" || !strings.Contains(fs.Upper.Cause, "overlay") || fs.Upper.Remedy == "" {
		t.Errorf("upperdir on an overlay: %+v", fs)
	}
	if fs = about(t, f, plain+"/upper"); fs.Upper.Cause == "" || !slices.Equal(fs.Flags, []string{"nosuid", "nodev"}) {
		t.Errorf("upperdir on ramfs: %+v", fs)
	}

	fs = about(t, f, base)
	if fs.Use != doctor.Lower || fs.Depth != 0 || fs.ShowsTypes == nil || !*fs.ShowsTypes || len(fs.Overlays) != 2 {
		t.Errorf("lowerdir: %+v", fs)
	}
	if fs = about(t, f, merged+"/file"); fs.Depth != 1 {
		t.Errorf("lowerdir on an overlay: %+v", fs)
	}
	if fs = about(t, f, twice+"/file"); fs.Depth != 2 {
		t.Errorf("lowerdir on two overlays: %+v", fs)
	}
	if fs = about(t, f, "/proc/1/mem/x"); fs.Err == "" {
		t.Errorf("lowerdir that cannot be looked at: %+v", fs)
	}
	for _, fs := range f.Filesystems {
		if slices.Contains(fs.Paths, top+"/none") {
			t.Errorf("a missing lowerdir: %+v", fs)
		}
	}
	if len(f.Submount) != 1 || f.Submount[0].Lower != base || !slices.Equal(f.Submount[0].Mounts, []string{disk}) {
		t.Errorf("below lowerdirs: %+v", f.Submount)
	}
	for _, dir := range []string{top, merged, plain} {
		left, err := filepath.Glob(filepath.Join(dir, ".*probe*"))
		if err != nil || len(left) > 0 {
			t.Errorf("%q is left (%v)", left, err)
		}
	}
}

func TestLookTries(t *testing.T) {
	top := apart.Dir(t)
	base := mkdir(t, top, "base")
	twice := overlay(t, top, "two", overlay(t, top, "one", base))
	try := func(lower string, o overlayfs.Options) doctor.Overlay {
		c := overlayfs.Config{Lower: []string{lower}, Upper: top + "/u", Work: top + "/w", Options: o}
		return doctor.Overlay{Try: &c}
	}
	f := doctor.Look(context.Background(), doctor.Question{Overlays: []doctor.Overlay{
		try(base, nil), {Address: "overlay.mounted"}, try(twice, nil), try(base, overlayfs.Options{"bogus": "1"}),
	}})
	if f.TrialErr != "" {
		t.Fatal(f.TrialErr)
	}
	if got := slices.Sorted(maps.Keys(f.Refused)); !slices.Equal(got, []int{2, 3}) {
		t.Errorf("refused: %v", f.Refused)
	}
}

// TestLookCache: the kernel is asked once; what the note says counts, if it can be trusted.
func TestLookCache(t *testing.T) {
	apart.NeedRoot(t)
	first := look().Kernel
	if !first.Overlay || first.Options == nil {
		t.Fatalf("kernel: %+v", first)
	}
	st, err := os.Stat(doctor.CacheFile)
	if err != nil || st.Mode() != 0o644 {
		t.Fatalf("the note: %v %v", st, err)
	}
	text, err := os.ReadFile(doctor.CacheFile)
	if err != nil {
		t.Fatal(err)
	}
	marked := strings.Replace(string(text), `"xino=auto":true`, `"xino=auto":false`, 1)
	if marked == string(text) {
		t.Fatalf("xino=auto is not taken: %s", text)
	}
	write := func(text string, mode os.FileMode) {
		if err := os.WriteFile(doctor.CacheFile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(doctor.CacheFile, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, text string
		mode       os.FileMode
		uid        int
		used       bool
	}{
		{"as written", marked, 0o644, 0, true},
		{"writable by others", marked, 0o666, 0, false},
		{"not root's", marked, 0o644, 4242, false},
		{"of another boot", strings.Replace(marked, `"boot_id":"`, `"boot_id":"x`, 1), 0o644, 0, false},
		{"of another kernel", strings.Replace(marked, `"kernel":"`, `"kernel":"x`, 1), 0o644, 0, false},
		{"of an older version", strings.Replace(marked, `"index=on":true,`, "", 1), 0o644, 0, false},
		{"of a newer version", strings.Replace(marked, `"index=on":true`, `"index=on":true,"a":true`, 1), 0o644, 0, false},
		{"cut", marked[:len(marked)/2], 0o644, 0, false},
		{"empty", "", 0o644, 0, false},
	} {
		write(c.text, c.mode)
		if err := os.Chown(doctor.CacheFile, c.uid, 0); err != nil {
			t.Fatal(err)
		}
		if used := !look().Kernel.Options["xino=auto"]; used != c.used {
			t.Errorf("%s: used is %t", c.name, used)
		}
		if after, err := os.ReadFile(doctor.CacheFile); err != nil || !c.used && string(after) != string(text) {
			t.Errorf("%s: the note is not made anew: %s %v", c.name, after, err)
		}
	}

	// a link is not followed when it is read, and replaced when it is written
	elsewhere := filepath.Join(apart.Dir(t), "elsewhere")
	if err := os.Rename(doctor.CacheFile, elsewhere); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, doctor.CacheFile); err != nil {
		t.Fatal(err)
	}
	look()
	if st, err := os.Lstat(doctor.CacheFile); err != nil || !st.Mode().IsRegular() {
		t.Errorf("the note: %v %v", st, err)
	}
}

func TestLookHost(t *testing.T) {
	apart.NeedRoot(t)
	f := look()
	_, err := os.Readlink("/proc/1/ns/mnt") // some sandboxes hide it from root; then it is not known
	if want := (doctor.Privileges{Root: true, Mounts: true, OwnNamespace: err == nil}); f.Privileges != want {
		t.Errorf("privileges of root in a namespace of its own: %+v, want %+v", f.Privileges, want)
	}
	if f.Kernel.Release == "" || f.Mount.Text == "" {
		t.Errorf("kernel %+v, mount %+v", f.Kernel, f.Mount)
	}
}

func TestLookTree(t *testing.T) {
	tree := t.TempDir()
	look := func() doctor.Facts {
		q := doctor.Question{Root: tree, Places: []doctor.Place{{Path: "/", Use: doctor.Upper}}}
		return doctor.Look(context.Background(), q)
	}
	f := look()
	if (f.Tree != doctor.Tree{}) || f.Kernel.Release != "" || f.Filesystems != nil {
		t.Errorf("an empty tree: %+v", f)
	}
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(tree, name)
		mkdir(t, filepath.Dir(path))
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("usr/bin/mount", "")
	write("usr/lib/systemd/systemd", "")
	write("usr/sbin/mount.overlay", "")
	write("etc/fstab", "overlay /m overlay lowerdir=/a:/b 0 0\n")
	if err := os.Symlink("usr/sbin", filepath.Join(tree, "sbin")); err != nil {
		t.Fatal(err)
	}
	f = look()
	if want := (doctor.Tree{Mount: true, Systemd: true, Helper: "/sbin/mount.overlay"}); f.Tree != want {
		t.Errorf("tree %+v, want %+v", f.Tree, want)
	}
	if len(f.Fstab) != 1 || !f.Fstab[0].Careless {
		t.Errorf("fstab %+v", f.Fstab)
	}
}
