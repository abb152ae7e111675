package systemd_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/overlayd/overlayd/internal/units"
	"github.com/overlayd/overlayd/internal/units/systemd"
)

// tree makes files below a new directory: name to text; "-> TARGET" makes a symlink, a name that ends in / a
// directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if name[len(name)-1] == '/' {
			must(t, os.MkdirAll(path, 0o755))
			continue
		}
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		var target string
		if n, _ := fmt.Sscanf(text, "-> %s", &target); n == 1 {
			must(t, os.Symlink(target, path))
			continue
		}
		must(t, os.WriteFile(path, []byte(text), 0o644))
	}
	return root
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const etc = "etc/systemd/system/"

func TestList(t *testing.T) {
	t.Parallel()
	root := tree(t, map[string]string{
		etc + "srv-a.mount":                               "text a",
		etc + "srv-b.mount":                               "",
		etc + "srv-c.mount":                               "-> /dev/null",
		etc + "srv-d.mount":                               "-> /usr/lib/systemd/system/srv-d.mount",
		etc + "srv-e.mount/":                              "",
		etc + "overlayd.target":                           "target",
		etc + "other.target":                              "not listed",
		etc + "a.service":                                 "not listed",
		etc + "overlayd.target.wants/srv-a.mount":         "-> ../srv-a.mount",
		etc + "overlayd.target.wants/gone.mount":          "-> ../gone.mount",
		etc + "overlayd.target.wants/a.service":           "-> ../a.service",
		etc + "overlayd.target.wants/srv-b.mount":         "not a link",
		etc + "multi-user.target.wants/overlayd.target":   "-> ../overlayd.target",
		etc + "empty.target.wants/":                       "",
		etc + "file.target.wants":                         "not a directory",
		"run/systemd/generator/srv-f.mount":               "fstab",
		"run/systemd/generator/srv-d.mount":               "hidden",
		"run/systemd/system/srv-d.mount":                  "-> /dev/null",
		"usr/lib/systemd/system/srv-d.mount":              "hidden too",
		"usr/lib/systemd/system/graphical.target":         "x",
		"usr/lib/systemd/system/default.target":           "-> graphical.target",
		"usr/lib/systemd/system/a.service":                "not listed",
		"usr/lib/systemd/system/dir.mount/":               "",
		"usr/lib/systemd/system/graphical.target.wants/x": "not listed",
		"lib": "-> usr/lib",
	})
	got, err := systemd.Dir{Root: root}.List()
	must(t, err)
	file := func(name, text, link string) systemd.UnitFile {
		u := systemd.UnitFile{Name: name, Path: filepath.Join(root, etc, name), Link: link}
		if link == "" && text != "directory" {
			u.Text = []byte(text)
		}
		return u
	}
	want := &systemd.Listing{
		Units: map[string]systemd.UnitFile{
			"srv-a.mount":     file("srv-a.mount", "text a", ""),
			"srv-b.mount":     file("srv-b.mount", "", ""),
			"srv-c.mount":     file("srv-c.mount", "", "/dev/null"),
			"srv-d.mount":     file("srv-d.mount", "", "/usr/lib/systemd/system/srv-d.mount"),
			"srv-e.mount":     file("srv-e.mount", "directory", ""),
			"overlayd.target": file("overlayd.target", "target", ""),
		},
		Elsewhere: map[string]string{
			"srv-d.mount":      "/dev/null",
			"srv-f.mount":      filepath.Join(root, "run/systemd/generator/srv-f.mount"),
			"graphical.target": filepath.Join(root, "usr/lib/systemd/system/graphical.target"),
			"default.target":   filepath.Join(root, "usr/lib/systemd/system/default.target"),
		},
		DropIns: map[string][]string{},
		Wants: map[string]map[string]bool{
			"overlayd.target":   {"srv-a.mount": true, "gone.mount": true},
			"multi-user.target": {"overlayd.target": true},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +listed):\n%s", diff)
	}
}

func TestListOfNothing(t *testing.T) {
	t.Parallel()
	l, err := systemd.Dir{Root: t.TempDir()}.List()
	must(t, err)
	if len(l.Units)+len(l.Elsewhere)+len(l.DropIns)+len(l.Wants) != 0 {
		t.Errorf("%+v", l)
	}
	if _, err := (systemd.Dir{Root: filepath.Join(t.TempDir(), "none")}).List(); err == nil {
		t.Error("no error for a root that does not exist")
	}
}

func TestDropIns(t *testing.T) {
	t.Parallel()
	const sets, other = "[Mount]\nOptions=ro\n", "[Unit]\nAfter=x.service\n"
	root := tree(t, map[string]string{
		etc + "srv-a.mount.d/20.conf":                        sets,
		etc + "srv-a.mount.d/10.conf":                        sets,
		etc + "srv-a.mount.d/30.conf":                        other,
		etc + "srv-a.mount.d/40.txt":                         sets,
		etc + "srv-a.mount.d/50.conf":                        "-> /dev/null",
		etc + "srv-a.mount.d/60.conf":                        "-> nowhere",
		etc + "srv-a.mount.d/70.conf":                        "-> /srv/real.conf",
		"srv/real.conf":                                      sets,
		"usr/lib/systemd/system/srv-a.mount.d/50.conf":       sets,
		"usr/lib/systemd/system/srv-a.mount.d/60.conf":       sets,
		"usr/lib/systemd/system/srv-a.mount.d/30.conf":       sets,
		"run/systemd/system/srv-.mount.d/x.conf":             sets,
		"run/systemd/system.control/mount.d/y.conf":          sets,
		"run/systemd/system/srv-a\\x2db-.mount.d/never.conf": sets,
		etc + "srv-b.mount.d":                                "not a directory",
		etc + "srv-a.service.d/x.conf":                       sets,
	})
	l, err := systemd.Dir{Root: root}.List()
	must(t, err)
	in := func(names ...string) []string {
		for i, name := range names {
			names[i] = filepath.Join(root, name)
		}
		return names
	}
	prefix := in("run/systemd/system/srv-.mount.d/x.conf", "run/systemd/system.control/mount.d/y.conf")
	own := in(etc+"srv-a.mount.d/10.conf", etc+"srv-a.mount.d/20.conf", etc+"srv-a.mount.d/70.conf",
		"usr/lib/systemd/system/srv-a.mount.d/60.conf")
	for unit, want := range map[string][]string{
		"srv-a.mount":   append(own, prefix...),
		"srv-a-b.mount": prefix,
		"srv.mount":     prefix[1:],
		"x-srv-a.mount": prefix[1:],
		"-.mount":       prefix[1:],
	} {
		if diff := cmp.Diff(want, l.DropInsOf(unit)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", unit, diff)
		}
	}
	none := &systemd.Listing{}
	if got := none.DropInsOf("a.mount"); got != nil {
		t.Errorf("got %v of none", got)
	}
}

// TestListStaysBelowRoot: an absolute link of an image means a file of the image.
func TestListStaysBelowRoot(t *testing.T) {
	t.Parallel()
	root := tree(t, map[string]string{
		"etc":                             "-> /real",
		"real/systemd/system/srv-a.mount": "inside",
		"usr/lib/systemd/system":          "-> ../../../../../../../../../../usr/lib/systemd/system",
	})
	l, err := systemd.Dir{Root: root}.List()
	if err == nil {
		t.Fatalf("a link that leads to itself was followed out of the root: %v", l.Elsewhere)
	}
	must(t, os.Remove(filepath.Join(root, "usr/lib/systemd/system")))
	l, err = systemd.Dir{Root: root}.List()
	must(t, err)
	if string(l.Units["srv-a.mount"].Text) != "inside" {
		t.Errorf("units %v", l.Units)
	}
}

func BenchmarkList(b *testing.B) {
	root := b.TempDir()
	dir := filepath.Join(root, etc)
	if err := os.MkdirAll(filepath.Join(dir, "overlayd.target.wants"), 0o755); err != nil {
		b.Fatal(err)
	}
	const n = 10000
	for i := range n {
		m := units.Mount{Where: fmt.Sprintf("/srv/merged/client_%d", i), Options: "lowerdir=/a,upperdir=/b,workdir=/c"}
		if err := os.WriteFile(filepath.Join(dir, m.FileName()), m.Render(), 0o644); err != nil {
			b.Fatal(err)
		}
		if err := os.Symlink("../"+m.FileName(), filepath.Join(dir, "overlayd.target.wants", m.FileName())); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		l, err := systemd.Dir{Root: root}.List()
		if err != nil || len(l.Units) != n {
			b.Fatal(len(l.Units), err)
		}
	}
}
