package systemd_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/overlayd/overlayd/internal/units"
	"github.com/overlayd/overlayd/internal/units/systemd"
)

func unitText(where, options string) string {
	return string(units.Mount{Where: where, Options: options, WantedBy: []string{units.TargetName}}.Render())
}

// show is everything in the unit directory: name to text, link or "/".
func show(t *testing.T, root string) map[string]string {
	t.Helper()
	dir := filepath.Join(root, etc)
	shown := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		must(t, err)
		switch {
		case e.IsDir():
			shown[name] = "/"
		case e.Type() == fs.ModeSymlink:
			link, err := os.Readlink(path)
			must(t, err)
			shown[name] = "-> " + link
		default:
			text, err := os.ReadFile(path)
			must(t, err)
			shown[name] = string(text)
		}
		return nil
	}))
	return shown
}

func apply(t *testing.T, root string, b systemd.Batch) error {
	t.Helper()
	staged, err := systemd.Dir{Root: root}.Stage(b)
	if err != nil {
		return err
	}
	return staged.Commit()
}

func TestBatch(t *testing.T) {
	t.Parallel()
	a, a2, b := unitText("/srv/a", "old"), unitText("/srv/a", "new"), unitText("/srv/b", "x")
	target := string(units.RenderTarget())
	root := t.TempDir()
	must(t, apply(t, root, systemd.Batch{
		Write: map[string][]byte{"srv-a.mount": []byte(a), units.TargetName: []byte(target)},
		Link:  [][2]string{{units.TargetName, "srv-a.mount"}, {"multi-user.target", units.TargetName}},
	}))
	want := map[string]string{
		"srv-a.mount":                             a,
		"overlayd.target":                         target,
		"overlayd.target.wants":                   "/",
		"overlayd.target.wants/srv-a.mount":       "-> ../srv-a.mount",
		"multi-user.target.wants":                 "/",
		"multi-user.target.wants/overlayd.target": "-> ../overlayd.target",
	}
	if diff := cmp.Diff(want, show(t, root)); diff != "" {
		t.Fatalf("first (-want +got):\n%s", diff)
	}
	for _, name := range []string{"srv-a.mount", "overlayd.target"} {
		info, err := os.Stat(filepath.Join(root, etc, name))
		must(t, err)
		if info.Mode() != 0o644 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
		if owner := info.Sys().(*syscall.Stat_t); owner.Uid != uint32(os.Geteuid()) {
			t.Errorf("%s belongs to %d", name, owner.Uid)
		}
	}

	must(t, apply(t, root, systemd.Batch{
		Write: map[string][]byte{"srv-a.mount": []byte(a2), "srv-b.mount": []byte(b)},
		Link:  [][2]string{{units.TargetName, "srv-a.mount"}, {units.TargetName, "srv-b.mount"}},
	}))
	want["srv-a.mount"], want["srv-b.mount"] = a2, b
	want["overlayd.target.wants/srv-b.mount"] = "-> ../srv-b.mount"
	if diff := cmp.Diff(want, show(t, root)); diff != "" {
		t.Fatalf("second (-want +got):\n%s", diff)
	}

	last := systemd.Batch{
		Remove: []string{"srv-a.mount", "srv-b.mount", units.TargetName, "srv-never.mount"},
		Unlink: [][2]string{
			{units.TargetName, "srv-a.mount"},
			{units.TargetName, "srv-b.mount"},
			{"multi-user.target", units.TargetName},
			{units.TargetName, "srv-never.mount"},
			{"never.target", "srv-a.mount"},
		},
	}
	must(t, apply(t, root, last))
	if diff := cmp.Diff(map[string]string{}, show(t, root)); diff != "" {
		t.Fatalf("removed (-want +got):\n%s", diff)
	}
	must(t, apply(t, root, last))
}

func TestManyTextsAndLongNames(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	b := systemd.Batch{Write: map[string][]byte{}}
	for i := range 40 {
		where := "/" + strings.Repeat("x", units.MaxName-len(".mount")-i)
		b.Write[units.Name(where)] = []byte(unitText(where, "x"))
	}
	must(t, apply(t, root, b))
	got := show(t, root)
	for name, text := range b.Write {
		if got[name] != string(text) {
			t.Errorf("%s has text %q", name, got[name])
		}
	}
	if len(got) != len(b.Write) {
		t.Errorf("%d entries, want %d", len(got), len(b.Write))
	}
}

func TestDiscard(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	staged, err := systemd.Dir{Root: root}.Stage(systemd.Batch{
		Write: map[string][]byte{"srv-a.mount": []byte(unitText("/srv/a", ""))},
		Link:  [][2]string{{units.TargetName, "srv-a.mount"}},
	})
	must(t, err)
	if got := show(t, root); len(got) != 1 || got["srv-a.mount"] != "" {
		t.Errorf("staged: %v, want one temporary", slices.Collect(maps.Keys(got)))
	}
	staged.Discard()
	staged.Discard()
	if got := show(t, root); len(got) != 0 {
		t.Errorf("discarded: %v", got)
	}
}

// TestRefuses: what overlayd did not make is neither replaced nor removed, and nothing else happens.
func TestRefuses(t *testing.T) {
	t.Parallel()
	ours := unitText("/srv/a", "x")
	foreign := map[string]string{
		etc + "srv-foreign.mount": "[Mount]\nWhat=/dev/sda1\nWhere=/srv/foreign\n",
		etc + "srv-masked.mount":  "-> /dev/null",
		etc + "srv-link.mount":    "-> ours",
		etc + "ours":              ours,
		etc + "srv-dir.mount/":    "",
		etc + "srv-empty.mount":   "",
		etc + "overlayd.target":   "[Unit]\nDescription=mine\n",
	}
	for unit, want := range map[string]string{
		"srv-foreign.mount": "overlayd did not write it",
		"srv-masked.mount":  "it is a symlink to /dev/null",
		"srv-link.mount":    "it is a symlink to ours",
		"srv-dir.mount":     "it is not a file",
		"srv-empty.mount":   "overlayd did not write it",
		"overlayd.target":   "overlayd did not write it",
		"srv-a/b.mount":     "names no mount so",
		"../x.mount":        "names no mount so",
		"a.service":         "not a .mount unit",
		"":                  "not a .mount unit",
		strings.Repeat("x", units.MaxName) + ".mount": "systemd takes 255",
	} {
		root := tree(t, foreign)
		before := show(t, root)
		for verb, b := range map[string]systemd.Batch{
			"write":  {Write: map[string][]byte{unit: []byte(ours), "srv-a.mount": []byte(ours)}},
			"remove": {Write: map[string][]byte{"srv-a.mount": []byte(ours)}, Remove: []string{unit}},
		} {
			err := apply(t, root, b)
			var refused *systemd.BatchError
			if !errors.As(err, &refused) || len(refused.Units) != 1 || refused.Units[unit] == nil ||
				!strings.Contains(err.Error(), want) {
				t.Errorf("%s %s: %v, want %q", verb, unit, err, want)
			}
			if diff := cmp.Diff(before, show(t, root)); diff != "" {
				t.Errorf("%s %s (-before +after):\n%s", verb, unit, diff)
			}
		}
	}
	for _, target := range []string{"", ".", "../x", "a/b", strings.Repeat("x", 250)} {
		err := apply(t, t.TempDir(), systemd.Batch{Link: [][2]string{{target, "srv-a.mount"}}})
		if err == nil || !strings.Contains(err.Error(), "not a unit name") {
			t.Errorf("target %q: %v", target, err)
		}
	}
}

// TestPlantedBetween: what turns up between Stage and Commit stops its unit, and no other.
func TestPlantedBetween(t *testing.T) {
	t.Parallel()
	for name, plant := range map[string]func(path string) error{
		"symlink":   func(path string) error { return os.Symlink("/etc/passwd", path) },
		"file":      func(path string) error { return os.WriteFile(path, []byte("[Mount]\n"), 0o644) },
		"directory": func(path string) error { return os.Mkdir(path, 0o755) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours := unitText("/srv/a", "")
			root := tree(t, map[string]string{etc + "srv-old.mount": ours, etc + "srv-gone.mount": ours})
			staged, err := systemd.Dir{Root: root}.Stage(systemd.Batch{
				Write: map[string][]byte{
					"srv-a.mount": []byte(ours), "srv-b.mount": []byte(ours), "srv-old.mount": []byte(ours + "\n"),
				},
				Remove: []string{"srv-gone.mount"},
			})
			must(t, err)
			planted := []string{"srv-a.mount", "srv-gone.mount", "srv-old.mount"}
			for _, unit := range planted {
				path := filepath.Join(root, etc, unit)
				must(t, os.RemoveAll(path))
				must(t, plant(path))
			}
			before := show(t, root)
			err = staged.Commit()
			var failed *systemd.BatchError
			if !errors.As(err, &failed) {
				t.Fatalf("Commit: %v", err)
			}
			if diff := cmp.Diff(planted, slices.Sorted(maps.Keys(failed.Units))); diff != "" {
				t.Errorf("failed units (-want +got):\n%s", diff)
			}
			for _, unit := range planted {
				if !strings.Contains(failed.Units[unit].Error(), filepath.Join(root, etc, unit)) {
					t.Errorf("error does not name the path: %v", failed.Units[unit])
				}
			}
			maps.DeleteFunc(before, func(name, _ string) bool { return strings.HasPrefix(name, ".overlayd-") })
			before["srv-b.mount"] = ours
			if diff := cmp.Diff(before, show(t, root)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestWantsOfOthers(t *testing.T) {
	t.Parallel()
	root := tree(t, map[string]string{
		etc + "a.target.wants/srv-a.mount": "-> /etc/systemd/system/srv-a.mount",
		etc + "a.target.wants/srv-b.mount": "a file",
		etc + "b.target.wants":             "a file",
	})
	must(t, apply(t, root, systemd.Batch{Link: [][2]string{{"a.target", "srv-a.mount"}}}))
	before := show(t, root)
	for _, b := range []systemd.Batch{
		{Link: [][2]string{{"a.target", "srv-b.mount"}}},
		{Unlink: [][2]string{{"a.target", "srv-b.mount"}}},
		{Link: [][2]string{{"b.target", "srv-b.mount"}}},
		{Unlink: [][2]string{{"b.target", "srv-b.mount"}}},
	} {
		if err := apply(t, root, b); err == nil || !strings.Contains(err.Error(), ".target.wants") {
			t.Errorf("%+v: %v", b, err)
		}
		if diff := cmp.Diff(before, show(t, root)); diff != "" {
			t.Errorf("%+v (-before +after):\n%s", b, diff)
		}
	}
	must(t, apply(t, root, systemd.Batch{Unlink: [][2]string{{"a.target", "srv-a.mount"}}}))
	delete(before, "a.target.wants/srv-a.mount")
	if diff := cmp.Diff(before, show(t, root)); diff != "" {
		t.Errorf("unlinked (-want +got):\n%s", diff)
	}
}

func TestReadOnlyDirectory(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("root writes to read-only directories; run as another user")
	}
	root := tree(t, map[string]string{etc: ""})
	dir := filepath.Join(root, etc)
	must(t, os.Chmod(dir, 0o555))
	t.Cleanup(func() { must(t, os.Chmod(dir, 0o755)) })
	err := apply(t, root, systemd.Batch{Write: map[string][]byte{"srv-a.mount": []byte(unitText("/srv/a", ""))}})
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), dir) {
		t.Errorf("error %v", err)
	}
}

func TestUnitDirectoryIsAFile(t *testing.T) {
	t.Parallel()
	root := tree(t, map[string]string{"etc/systemd/system": "a file"})
	err := apply(t, root, systemd.Batch{Write: map[string][]byte{"srv-a.mount": []byte(unitText("/srv/a", ""))}})
	if !errors.Is(err, syscall.ENOTDIR) || !strings.Contains(err.Error(), filepath.Join(root, "etc/systemd/system")) {
		t.Errorf("error %v", err)
	}
}

// TestKilled stops a commit after each of its steps. Each unit has its old text or its new one, no link that the batch
// does not mean to remove dangles, and the next run gets to the same end.
func TestKilled(t *testing.T) {
	t.Parallel()
	oldText, newText := unitText("/srv/a", "old"), unitText("/srv/a", "new")
	before := map[string]string{
		etc + "srv-change.mount":                       oldText,
		etc + "srv-remove.mount":                       oldText,
		etc + "overlayd.target.wants/srv-remove.mount": "-> ../srv-remove.mount",
		etc + "overlayd.target.wants/srv-change.mount": "-> ../srv-change.mount",
	}
	batch := systemd.Batch{
		Write:  map[string][]byte{"srv-change.mount": []byte(newText), "srv-new.mount": []byte(newText)},
		Remove: []string{"srv-remove.mount"},
		Link:   [][2]string{{units.TargetName, "srv-new.mount"}},
		Unlink: [][2]string{{units.TargetName, "srv-remove.mount"}},
	}
	end := map[string]string{
		"srv-change.mount":                       newText,
		"srv-new.mount":                          newText,
		"overlayd.target.wants":                  "/",
		"overlayd.target.wants/srv-new.mount":    "-> ../srv-new.mount",
		"overlayd.target.wants/srv-change.mount": "-> ../srv-change.mount",
	}
	steps := 1
	for n := 0; n <= steps; n++ {
		root := tree(t, before)
		dir := systemd.Dir{Root: root}
		staged, err := dir.Stage(batch)
		must(t, err)
		steps, err = staged.CommitPrefix(n)
		must(t, err)
		killed := show(t, root)
		for unit, texts := range map[string][]string{
			"srv-change.mount": {oldText, newText},
			"srv-new.mount":    {"", newText},
			"srv-remove.mount": {oldText, ""},
		} {
			if !slices.Contains(texts, killed[unit]) {
				t.Errorf("killed after %d steps: %s has text %q", n, unit, killed[unit])
			}
		}
		for name, link := range killed {
			if unit, ok := strings.CutPrefix(link, "-> ../"); ok && killed[unit] == "" {
				t.Errorf("killed after %d steps: %s dangles", n, name)
			}
		}
		must(t, apply(t, root, batch))
		if diff := cmp.Diff(end, show(t, root)); diff != "" {
			t.Errorf("killed after %d steps and run again (-want +got):\n%s", n, diff)
		}
	}
	if steps != 5 {
		t.Errorf("%d steps, want 5", steps)
	}
}

func BenchmarkStageAndCommit(b *testing.B) {
	const n = 2000
	batch := systemd.Batch{Write: map[string][]byte{}}
	for i := range n {
		m := units.Mount{Where: fmt.Sprintf("/srv/merged/client_%d", i)}
		batch.Write[m.FileName()] = m.Render()
		batch.Link = append(batch.Link, [2]string{units.TargetName, m.FileName()})
	}
	for b.Loop() {
		staged, err := systemd.Dir{Root: b.TempDir()}.Stage(batch)
		if err != nil {
			b.Fatal(err)
		}
		if err := staged.Commit(); err != nil {
			b.Fatal(err)
		}
	}
}
