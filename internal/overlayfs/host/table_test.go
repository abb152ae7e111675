package host_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
)

func TestReadTable(t *testing.T) {
	got, err := host.ReadTable()
	if err != nil {
		t.Fatal(err)
	}
	if m, ok := got.Covering("/proc/self"); !ok || m.FSType != "proc" {
		t.Errorf("/proc/self lies on %+v", m)
	}
	if _, err := host.ReadTableAt(t.TempDir() + "/none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no table: error %v", err)
	}
}

func TestWatchTable(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount")
	}
	w, err := host.WatchTable()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	dir := t.TempDir()
	is := func(want bool, after string) {
		t.Helper()
		if got := w.Changed(); got != want {
			t.Errorf("changed is %v after %s", got, after)
		}
	}
	is(false, "nothing")
	if err := unix.Mount("watched", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	is(true, "a mount")
	is(false, "nothing more")
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	is(true, "an unmount")
	var none *host.TableWatch
	none.Close()
	if !none.Changed() {
		t.Error("without a watch nothing has changed")
	}
}

func TestReadDefaults(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  overlayfs.Defaults
	}{
		"Debian": {
			files: map[string]string{
				"redirect_dir": "N\n", "index": "N\n", "metacopy": "N\n", "nfs_export": "N\n",
				"redirect_always_follow": "Y\n", "xino_auto": "Y\n", "redirect_max": "256\n",
			},
			want: overlayfs.Defaults{RedirectAlwaysFollow: true, XinoAuto: true},
		},
		"others": {
			files: map[string]string{
				"redirect_dir": "Y\n", "index": "1\n", "metacopy": "Y\n", "redirect_always_follow": "N\n",
			},
			want: overlayfs.Defaults{RedirectDir: true, Index: true, Metacopy: true},
		},
		"not to be seen": {want: overlayfs.Defaults{RedirectAlwaysFollow: true}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range test.files {
				write(t, filepath.Join(dir, file), text)
			}
			got, err := host.ReadDefaultsAt(dir)
			if err != nil || got != test.want {
				t.Errorf("got %+v, %v; want %+v", got, err, test.want)
			}
		})
	}
}

func TestOverlayLine(t *testing.T) {
	for _, test := range []struct {
		record, want string
		ok           bool
	}{
		{"3,1234,567,-;overlayfs: failed '/a b': -2\n SUBSYSTEM=x\n", "overlayfs: failed '/a b': -2", true},
		{"3,1,5,-;overlayfs: failed '/\\xc3\\xa9\\x5cx': -2\n", "overlayfs: failed '/\u00e9\\x': -2", true},
		{"3,1,5,-;overlay: Unknown parameter 'bogus'\n", "overlay: Unknown parameter 'bogus'", true},
		{"3,1,5,-;overlayfs: \\xzz\\x", "overlayfs: \\xzz\\x", true},
		{"6,1,5,-;eth0: overlayfs: no\n", "", false},
		{"overlayfs: no record", "", false},
		{"", "", false},
	} {
		got, ok := host.OverlayLine(test.record)
		if got != test.want || ok != test.ok {
			t.Errorf("%q: %q, %t; want %q, %t", test.record, got, ok, test.want, test.ok)
		}
	}
}

// TestConcerns: overlays that fail at the same time write into one log.
func TestConcerns(t *testing.T) {
	c := overlayfs.Config{Lower: []string{"/l1", "/l2"}, Upper: "/u", Work: "/w"}
	for line, want := range map[string]bool{
		"overlayfs: workdir and upperdir must be separate subtrees":        true,
		"overlayfs: cleanup of 'work/a' failed (-39)":                      true,
		"overlayfs: failed to resolve '/l2': -2":                           true,
		"overlayfs: failed to create directory /w/work (errno: 17)":        true,
		"overlayfs: failed to resolve '/other': -2":                        false,
		"overlayfs: failed to create directory /elsewhere/x (errno: 17); ": false,
	} {
		if got := host.Concerns(line, c); got != want {
			t.Errorf("%s: %t, want %t", line, got, want)
		}
	}
}
