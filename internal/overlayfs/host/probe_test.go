package host_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/test/apart"
)

func TestProberLook(t *testing.T) {
	top := apart.Dir(t)
	dirs(t, top, "safe/empty", "safe/full/x", "alice/dir", "open", "sticky/root", "sticky/alice", "real/below")
	write(t, top+"/file", "")
	for _, err := range []error{
		os.Chown(top+"/alice", 12345, 0),
		os.Chmod(top+"/open", 0o777),
		os.Chmod(top+"/sticky", 0o777|os.ModeSticky),
		os.Chown(top+"/sticky/alice", 12345, 0),
		os.Chmod(top+"/safe/full", 0o750),
		os.Symlink("real", top+"/link"),
		os.Symlink(top+"/nowhere/at/all", top+"/dangling"),
		os.Symlink("loop", top+"/loop"),
		os.Symlink(top+"/alice/dir", top+"/into-alice"),
		unix.Mkfifo(top+"/fifo", 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	ro := dirs(t, top, "ro")[0]
	if err := unix.Mount("ro", ro, "ramfs", unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		t.Fatal(err)
	}
	dirs(t, ro, "dir")
	if err := unix.Mount("", ro, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID, ""); err != nil {
		t.Fatal(err)
	}

	type want struct {
		exists, isDir, empty             bool
		symlink, real, base, unsafe, err string // paths without the scratch directory
	}
	p := host.NewProber(table(t))
	for path, w := range map[string]want{
		"/safe/empty":     {exists: true, isDir: true, empty: true, real: "/safe/empty", base: "/safe/empty"},
		"/safe/full":      {exists: true, isDir: true, real: "/safe/full", base: "/safe/full"},
		"/safe/none":      {real: "/safe/none", base: "/safe"},
		"/safe/none/deep": {real: "/safe/none/deep", base: "/safe"},
		"/file":           {exists: true, real: "/file", base: ""},
		"/fifo":           {exists: true, real: "/fifo", base: ""},
		"/file/x":         {real: "/file/x", base: "", err: "TOP/file is not a directory"},
		"/alice":          {exists: true, isDir: true, real: "/alice", base: "/alice"},
		"/alice/dir": {
			exists: true, isDir: true, empty: true, real: "/alice/dir", base: "/alice/dir",
			unsafe: "TOP/alice is owned by uid 12345",
		},
		"/alice/none":  {real: "/alice/none", base: "/alice", unsafe: "TOP/alice is owned by uid 12345"},
		"/alice/dir/x": {real: "/alice/dir/x", base: "/alice/dir", unsafe: "TOP/alice is owned by uid 12345"},
		"/open":        {exists: true, isDir: true, empty: true, real: "/open", base: "/open"},
		"/open/x":      {real: "/open/x", base: "/open", unsafe: "TOP/open is writable by others than root (mode 0777)"},
		"/sticky/root": {exists: true, isDir: true, empty: true, real: "/sticky/root", base: "/sticky/root"},
		"/sticky/none": {real: "/sticky/none", base: "/sticky"},
		"/sticky/alice": {
			exists: true, isDir: true, empty: true, real: "/sticky/alice", base: "/sticky/alice",
			unsafe: "TOP/sticky/alice belongs to uid 12345, in a directory that all may write to",
		},
		"/link": {exists: true, isDir: true, symlink: "/link", real: "/real", base: "/real"},
		"/link/below": {
			exists: true, isDir: true, empty: true, symlink: "/link", real: "/real/below", base: "/real/below",
		},
		"/link/none": {symlink: "/link", real: "/real/none", base: "/real"},
		"/dangling":  {symlink: "/dangling", real: "/nowhere/at/all", base: ""},
		"/into-alice": {
			exists: true, isDir: true, empty: true, symlink: "/into-alice", real: "/alice/dir", base: "/alice/dir",
			unsafe: "TOP/alice is owned by uid 12345",
		},
		"/loop": {symlink: "/loop", real: "/loop", base: "", err: "cannot follow the symlink TOP/loop: "},
	} {
		got := p.Look(top + path)
		place := func(path string) string {
			if path == top {
				return ""
			}
			return strings.TrimPrefix(path, top)
		}
		have := want{
			got.Exists, got.IsDir, got.Empty, place(got.Symlink), place(got.Real), place(got.Base),
			strings.ReplaceAll(got.Unsafe, top, "TOP"), strings.ReplaceAll(got.Err, top, "TOP"),
		}
		if w.err != "" && strings.HasPrefix(have.err, w.err) {
			have.err = w.err
		}
		if d := cmp.Diff(w, have, cmp.AllowUnexported(want{})); d != "" {
			t.Errorf("%s (-want +got):\n%s", path, d)
		}
		if again := p.Look(top + path); !cmp.Equal(got, again) {
			t.Errorf("%s looks different the second time: %s", path, cmp.Diff(got, again))
		}
	}

	full := p.Look(top + "/safe/full")
	if full.Mode != unix.S_IFDIR|0o750 || full.UID != 0 || full.FSType != "tmpfs" ||
		full.Magic != unix.TMPFS_MAGIC || full.ReadOnly {
		t.Errorf("got %+v", full)
	}
	dir := p.Look(ro + "/dir")
	if dir.FSType != "ramfs" || !dir.ReadOnly || dir.Network ||
		!cmp.Equal(dir.Flags, overlayfs.Options{"nosuid": "", "ro": ""}) {
		t.Errorf("got %+v", dir)
	}
	if m, _ := table(t).Top(ro); dir.MountID != m.ID || p.Look(ro).MountID != m.ID || p.Look(ro+"/none").MountID != m.ID {
		t.Errorf("mount IDs %d, %d, %d, want %d", dir.MountID, p.Look(ro).MountID, p.Look(ro+"/none").MountID, m.ID)
	}
	if got := p.Look("relative"); got.Err == "" || got.Exists {
		t.Errorf("a relative path gives %+v", got)
	}
	if got := p.Look("/"); !got.Exists || !got.IsDir || got.Unsafe != "" || got.Real != "/" {
		t.Errorf("the root gives %+v", got)
	}
	text, err := json.Marshal(dir)
	if err != nil {
		t.Fatal(err)
	}
	var back overlayfs.PathInfo
	if err := json.Unmarshal(text, &back); err != nil || !cmp.Equal(dir, back) {
		t.Errorf("as JSON it comes back as %+v, %v", back, err)
	}
}

func TestCheckUpper(t *testing.T) {
	top := apart.Dir(t)
	other, merged := overlay(t, top+"/other", nil)
	mount(t, merged, other)
	d := dirs(t, top, "fine/upper", "ro", "ramfs", "mounted")
	for _, err := range []error{
		unix.Mount("ramfs", d[2], "ramfs", 0, ""),
		unix.Mount("ro", d[1], "tmpfs", unix.MS_RDONLY, ""),
		unix.Mount("mounted", d[3], "tmpfs", 0, ""),
		os.Symlink(d[0], top+"/link"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	listing := func(path string) string {
		var names []string
		entries, err := os.ReadDir(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return strings.Join(names, " ")
	}
	var trials host.UpperTrials // what has passed for one says nothing of another mount
	for _, test := range []struct{ name, path, cause string }{
		{"fine", d[0], ""},
		{"beside it", top + "/fine/other", ""},
		{"not there yet", top + "/fine/none/none", ""},
		{"a mountpoint", d[3], ""},
		{"on an overlay", merged + "/upper", "it is on an overlay"},
		{"read-only", d[1] + "/upper", "its filesystem is mounted read-only"},
		{"no attributes", d[2], "keeps no trusted.* attributes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := listing(top) + listing(top+"/fine")
			err := host.CheckUpper(test.path)
			bad, typed := errors.AsType[*host.UpperError](err)
			switch {
			case test.cause == "" && err != nil:
				t.Error(err)
			case test.cause != "" && (!typed || !strings.Contains(bad.Cause, test.cause) || bad.Remedy == ""):
				t.Errorf("error %v, want %q", err, test.cause)
			}
			if again := trials.Check(test.path); fmt.Sprint(again) != fmt.Sprint(err) {
				t.Errorf("among others: error %v, alone %v", again, err)
			}
			if after := listing(top) + listing(top+"/fine"); after != before {
				t.Errorf("something is left: %s", after)
			}
		})
	}
	if err := host.CheckUpper(top + "/link/x"); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a symlink on the way: error %v", err)
	}
}
