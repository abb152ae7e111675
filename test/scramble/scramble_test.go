package scramble_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/test/apart"
	"github.com/overlayd/overlayd/test/scramble"
)

func TestMain(m *testing.M) { os.Exit(apart.Run(nil, m.Run)) }

// mounted makes an overlay over a random tree.
func mounted(t *testing.T, seed uint64, options string) (lower, merged string) {
	t.Helper()
	dir := apart.Dir(t)
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	lower, merged = dir+"/lower", dir+"/merged"
	if err := scramble.Tree(lower, seed, scramble.Options{}); err != nil {
		t.Fatal(err)
	}
	data := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work,%s", lower, dir, dir, options)
	if err := unix.Mount("overlay", merged, "overlay", 0, data); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(unix.Unmount(merged, unix.MNT_DETACH), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	return lower, merged
}

func same(t *testing.T, a, b string) []string {
	t.Helper()
	lines, err := scramble.Same(a, b)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func diff(t *testing.T, base, merged string) []string {
	t.Helper()
	lines, err := scramble.Diff(base, merged)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// What a seed does depends on nothing but the seed; and all kinds of overlay take it without a surprise.
func TestRunIsRepeatable(t *testing.T) {
	o := scramble.Options{WhiteoutNames: true, Private: "trusted.overlay.", SameTimes: true}
	for _, options := range []string{
		"redirect_dir=off,index=off,metacopy=off", "redirect_dir=on,index=on,metacopy=on", "userxattr",
	} {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("%s/%d", options, seed), func(t *testing.T) {
				lower1, merged1 := mounted(t, seed, options)
				lower2, merged2 := mounted(t, seed, options)
				if lines := same(t, lower1, lower2); len(lines) > 0 {
					t.Fatalf("two trees of a seed differ:\n%s", strings.Join(lines, "\n"))
				}
				// The root of the view is the upperdir's, made at another time.
				if lines := same(t, lower1, merged1); len(lines) > 1 || !strings.HasPrefix(lines[0], `"/": mtime`) {
					t.Fatalf("an untouched overlay differs from its base:\n%s", strings.Join(lines, "\n"))
				}
				log1, err := scramble.Run(merged1, seed, 60, o)
				if err != nil {
					t.Fatal(err)
				}
				log2, err := scramble.Run(merged2, seed, 60, o)
				if err != nil {
					t.Fatal(err)
				}
				replace := func(log []string) string {
					return strings.NewReplacer(merged1, "", merged2, "").Replace(strings.Join(log, "\n"))
				}
				if d := cmp.Diff(replace(log1), replace(log2)); d != "" {
					t.Errorf("two runs of a seed did different things:\n%s", d)
				}
				left, right := diff(t, lower1, merged1), diff(t, lower2, merged2)
				if len(left) == 0 || !slices.Equal(left, right) {
					t.Errorf("two runs of a seed came to different results:\n%s", cmp.Diff(left, right))
				}
			})
		}
	}
}

func TestDiffAndSame(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(dir string) error
		diff   []string
		same   []string // what each line must begin with
	}{
		{"nothing", func(string) error { return nil }, nil, nil},
		{
			"added", func(dir string) error { return os.MkdirAll(dir+"/new/below", 0o755) },
			[]string{"A /new", "A /new/below"},
			[]string{`"/": mtime`, `"/new": only in`},
		},
		{
			"deleted directory", func(dir string) error { return os.RemoveAll(dir + "/dir") },
			[]string{"D /dir"},
			[]string{`"/": mtime`, `"/dir": only in`},
		},
		{
			"directory to file", func(dir string) error {
				return errors.Join(os.RemoveAll(dir+"/dir"), os.WriteFile(dir+"/dir", nil, 0o644))
			},
			[]string{"C /dir"},
			[]string{`"/": mtime`, `"/dir": mode`},
		},
		{
			"file to directory", func(dir string) error {
				return errors.Join(os.Remove(dir+"/file"), os.MkdirAll(dir+"/file/x/y", 0o755))
			},
			[]string{"C /file", "A /file/x", "A /file/x/y"},
			[]string{`"/": mtime`, `"/file": mode`},
		},
		{
			"order", func(dir string) error {
				return errors.Join(os.Mkdir(dir+"/dir/z", 0o755), os.Mkdir(dir+"/dir.z", 0o755))
			},
			[]string{"A /dir.z", "A /dir/z"},
			[]string{`"/": mtime`, `"/dir": mtime`, `"/dir/z": only in`, `"/dir.z": only in`},
		},
		{
			"mode of the root", func(dir string) error { return os.Chmod(dir, 0o700) },
			[]string{"C /"},
			[]string{`"/": mode`},
		},
		{
			"time", func(dir string) error {
				at := []unix.Timespec{{}, {Sec: 1, Nsec: 2}}
				return unix.UtimesNanoAt(unix.AT_FDCWD, dir+"/link", at, unix.AT_SYMLINK_NOFOLLOW)
			},
			nil,
			[]string{`"/link": mtime`},
		},
		{
			"xattr", func(dir string) error { return unix.Lsetxattr(dir+"/link", "trusted.x", nil, 0) },
			[]string{"C /link"},
			[]string{`"/link": xattrs`},
		},
		{
			"owner", func(dir string) error { return os.Lchown(dir+"/dir/file", 1, 2) },
			[]string{"C /dir/file", "C /file"},
			[]string{`"/dir/file": owner`, `"/file": owner`},
		},
		{
			"hard link broken", func(dir string) error {
				return errors.Join(os.Rename(dir+"/copy", dir+"/file"), os.Chtimes(dir, then, then))
			},
			[]string{"D /copy"},
			[]string{`"/copy": only in`, "only in"},
		},
		{
			"contents", func(dir string) error {
				return errors.Join(os.WriteFile(dir+"/copy", []byte("TEXT"), 0o644), os.Chtimes(dir+"/copy", then, then))
			},
			[]string{"C /copy"},
			[]string{`"/copy": contents`},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			apart.NeedRoot(t) // for owners and trusted xattrs
			a, b := small(t), small(t)
			if err := tc.change(b); err != nil {
				t.Fatal(err)
			}
			if got := diff(t, a, b); !slices.Equal(got, tc.diff) {
				t.Errorf("Diff says %q, want %q", got, tc.diff)
			}
			got := same(t, a, b)
			if len(got) != len(tc.same) {
				t.Fatalf("Same says %q, want %q", got, tc.same)
			}
			for i, want := range tc.same {
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("Same says %q, want %q…", got[i], want)
				}
			}
		})
	}
}

var then = time.Unix(1_000_000_000, 0)

// small makes a tree of one of each, all of one time.
func small(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	err := errors.Join(
		os.Mkdir(dir+"/dir", 0o755),
		os.WriteFile(dir+"/file", []byte("text"), 0o644),
		os.WriteFile(dir+"/copy", []byte("text"), 0o644),
		os.Link(dir+"/file", dir+"/dir/file"),
		os.Symlink("file", dir+"/link"),
	)
	at := []unix.Timespec{{}, unix.NsecToTimespec(then.UnixNano())}
	for _, name := range []string{"/file", "/copy", "/link", "/dir", "/"} {
		err = errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, dir+name, at, unix.AT_SYMLINK_NOFOLLOW))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
