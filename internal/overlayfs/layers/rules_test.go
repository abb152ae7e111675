package layers_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/test/apart"
)

// What layers mean, case by case: made by hand, as other tools and other kernels leave them. Each is mounted as well,
// so that the kernel says what base and merged are.
func TestRules(t *testing.T) {
	redirects := overlayfs.Options{"redirect_dir": "on"}
	metacopy := overlayfs.Options{"metacopy": "on"}
	for _, c := range []struct {
		name    string
		options overlayfs.Options
		make    string
		want    string
	}{
		{"whiteouts", nil, `
			file l1/f; dir l1/d; file l1/d/x
			whiteout u/f; whiteout u/d; whiteout u/nothing`, "D /d, D /f"},
		{"a whiteout of a tool that may make no devices", nil, `
			file l1/f; file l1/d/f; file l1/d/g
			file u/f; mark u/f whiteout y
			dir u/d; mark u/d opaque x; file u/d/f; mark u/d/f whiteout y`, "D /d/f, D /f"},
		{"no whiteout: not empty", nil, `file l1/f; file u/f text; mark u/f whiteout y`, "C /f"},
		{"a character device that is no whiteout", nil, `file l1/f; device u/f`, "C /f"},
		{"a whiteout in a lowerdir", nil, `
			file l1/only; whiteout l1/f; file l2/f; whiteout l1/gone; file l2/gone
			whiteout u/gone; file u/f`, "A /f"},
		{"a whiteout in the lowest of them", nil, `file l1/x; whiteout l1/f; whiteout u/f`, ""},
		{"opaque", nil, `
			file l1/d/a; file l1/d/b; file u/d/b; file u/d/c; mark u/d opaque y`, "D /d/a, A /d/c"},
		{"opaque over nothing", nil, `file l1/x; dir u/d; mark u/d opaque y; file u/d/f`, "A /d, A /d/f"},
		{"opaque over a file", nil, `file l1/d; dir u/d; mark u/d opaque y; file u/d/f`, "C /d, A /d/f"},
		{"a directory over a file, without a mark", nil, `file l1/d; file u/d/f`, "C /d, A /d/f"},
		{"a file over a directory", nil, `file l1/d/f; file u/d`, "C /d"},
		{"opaque in a lowerdir", nil, `
			file l1/d/a; mark l1/d opaque y; file l2/d/b; file u/d/b; whiteout u/d/c`, "A /d/b"},
		{"opaque in the lowest says nothing", nil, `file l1/d/a; mark l1/d opaque y; file u/d/a text`, "C /d/a"},
		{"a file in the middle ends the directory", nil, `
			file l1/d/a; file l2/d; file l3/d/b; file u/d/b`, "A /d/b"},
		{"copied up and equal", nil, `file l1/d/a text; file u/d/a text`, ""},
		{"the same size", nil, `file l1/a text; file u/a next`, "C /a"},
		{"symlinks", nil, `
			symlink l1/same to; symlink l1/other to; symlink u/same to; symlink u/other from; symlink u/new to
			dir l1/d; symlink u/d /etc`, "C /d, A /new, C /other"},
		{"modes and owners", nil, `
			file l1/mode; file u/mode; mode u/mode 600; dir l1/d; dir u/d; mode u/d 700
			file l1/owner; file u/owner; owner u/owner 7`, "C /d, C /mode, C /owner"},
		{
			"xattrs", nil, `
			file l1/a; file l1/b; file l1/c; file u/a; xattr u/a user.x 1
			file u/b; xattr u/b user.overlay.opaque y; file u/c; mark u/c origin x
			file l1/d; xattr l1/d user.x 1; file u/d; file l1/e; xattr l1/e user.x 1; file u/e; xattr u/e user.x 2`,
			"C /a, C /b, C /d, C /e",
		},
		{"xattrs of the client's that are named as the overlay's", nil, `
			file l1/a; file u/a; mark u/a overlay.opaque y
			file l1/b; mark l1/b overlay.opaque y; file u/b; mark u/b overlay.opaque y`, "C /a"},
		{"xattrs are of user with userxattr", overlayfs.Options{"userxattr": ""}, `
			file l1/d/a; dir u/d; xattr u/d user.overlay.opaque y; xattr u/d trusted.overlay.opaque y
			file l1/e/a; dir u/e; xattr u/e trusted.overlay.opaque y`, "C /d, D /d/a, C /e"},
		{"redirects and metacopy are refused with userxattr", overlayfs.Options{"userxattr": ""}, `
			file l1/d/a; dir u/e; xattr u/e user.overlay.redirect d
			file l1/f text; file u/f; size u/f 4; xattr u/f user.overlay.metacopy ""`, "A /e, C /f"},
		{"a directory that moved", redirects, `
			file l1/d/a; file l1/d/s/b; file l1/x/y; whiteout u/d; dir u/e; mark u/e redirect d
			file u/e/new`, "D /d, A /e, A /e/a, A /e/new, A /e/s, A /e/s/b"},
		{"and back again", redirects, `file l1/d/a; file l1/d/b; dir u/d; mark u/d redirect d; whiteout u/d/b`, "D /d/b"},
		{"over another one", redirects, `
			file l1/d/a; file l1/d/b text; file l1/e/b; file l1/e/c; whiteout u/d
			dir u/e; mark u/e redirect /d`, "D /d, A /e/a, C /e/b, D /e/c"},
		{
			"deeper down", redirects, `
			file l1/d/s/a; file l1/d/t; whiteout u/d/s; dir u/d; dir u/e/s; mark u/e/s redirect /d/s`,
			"D /d/s, A /e, A /e/s, A /e/s/a",
		},
		{
			"below one that moved", redirects, `
			file l1/d/s/a; whiteout u/d; dir u/e; mark u/e redirect d; dir u/e/t; mark u/e/t redirect s; whiteout u/e/s`,
			"D /d, A /e, A /e/t, A /e/t/a",
		},
		{
			"through an opaque directory", redirects, `
			file l1/d/a; file l1/e/x; whiteout u/d; dir u/e; mark u/e opaque y; dir u/e/d; mark u/e/d redirect /d`,
			"D /d, A /e/d, A /e/d/a, D /e/x",
		},
		{
			"to what is no directory", redirects, `file l1/f; file l1/x; dir u/d; mark u/d redirect f; whiteout u/f`,
			"A /d, D /f",
		},
		{"to what a lowerdir deleted", redirects, `
			whiteout l1/d; file l1/x; file l2/d/a; dir u/e; mark u/e redirect d`, "A /e"},
		{"moved in a lowerdir", redirects, `
			whiteout l1/d; dir l1/e; mark l1/e redirect d; file l2/d/a; file l2/d/b
			whiteout u/e/a; file u/e/b text; dir u/e`, "D /e/a, C /e/b"},
		{"moved in a lowerdir and once more", redirects, `
			whiteout l1/d; dir l1/e; mark l1/e redirect d; file l2/d/a
			whiteout u/e; dir u/g; mark u/g redirect e`, "D /e, A /g, A /g/a"},
		{"along a path that a lowerdir moved", redirects, `
			whiteout l1/d; dir l1/e; mark l1/e redirect d; file l1/e/s/one; file l2/d/s/two
			whiteout u/e/s; dir u/e; dir u/t; mark u/t redirect /e/s`, "D /e/s, A /t, A /t/one, A /t/two"},
		{"along a path that a lowerdir moved away", redirects, `
			whiteout l1/d; dir l1/e; mark l1/e redirect /d; file l2/d/s/two; file l3/d/s/three
			whiteout u/e/s; dir u/e; dir u/t; mark u/t redirect /e/s`, "D /e/s, A /t, A /t/three, A /t/two"},
		{"along a path of which a lowerdir moved the middle", redirects, `
			whiteout l1/p/d; dir l1/p/e; mark l1/p/e redirect d; file l2/p/d/s/two; file l2/d/s/no
			whiteout u/p/e/s; dir u/t; mark u/t redirect /p/e/s`, "D /p/e/s, A /t, A /t/two"},
		{"absolute in a lowerdir, from a directory that the others lack", redirects, `
			dir l1/p/e; mark l1/p/e redirect /d; whiteout l1/d; file l2/d/a; file l3/d/b
			file u/p/e/c`, "A /p/e/c"},
		{"through what is opaque in a lowerdir", redirects, `
			dir l1/o; mark l1/o opaque y; dir l1/o/d; mark l1/o/d redirect /d; whiteout l1/d; file l2/d/a; file l2/o/x
			whiteout u/o/d; dir u/o; dir u/e; mark u/e redirect /o/d`, "A /e, A /e/a, D /o/d"},
		{
			"redirects that are none", redirects, `
			file l1/d/a; dir u/a; mark u/a redirect ""; dir u/b; mark u/b redirect d/a; dir u/c; mark u/c redirect //d
			dir u/d; mark u/d redirect ..; dir u/e; mark u/e redirect /d/; dir u/f; mark u/f redirect /d/../d`,
			"A /a, A /b, A /c, C /d, A /e, A /f",
		},
		{"redirects that are none, in a lowerdir", redirects, `
			dir l1/d; mark l1/d redirect a/b; file l2/d/x; file u/d/y
			file l2/e/f; mark l2/e redirect a/b; file u/e/g`, "A /e/g"},
		{"redirects that are not to be followed", overlayfs.Options{"redirect_dir": "nofollow"}, `
			file l1/d/a; file l1/x; dir u/e; mark u/e redirect d; whiteout u/d`, "D /d, A /e"},
		{"redirects that are followed without being made", nil, `
			file l1/d/a; dir u/e; mark u/e redirect d; whiteout u/d`, "D /d, A /e, A /e/a"},
		{"metacopy", metacopy, `
			file l1/a text; file u/a; size u/a 4; mark u/a metacopy ""; mode u/a 600
			file l1/b text; file u/b; size u/b 4; mark u/b metacopy ""`, "C /a"},
		{
			"metacopy that moved", metacopy, `
			file l1/a text; file u/b; size u/b 4; mark u/b metacopy ""; mark u/b redirect a; whiteout u/a
			file l1/c textes; file l1/d texted; file u/c; size u/c 6; mark u/c metacopy ""; mark u/c redirect /d`,
			"D /a, A /b, C /c",
		},
		{"metacopy in a lowerdir", metacopy, `
			file l1/a; size l1/a 4; mark l1/a metacopy ""; mode l1/a 600; file l2/a text
			file u/a text; mode u/a 600
			file l1/b; size l1/b 4; mark l1/b metacopy ""; file l2/b text; file u/b; size u/b 4; mark u/b metacopy ""
			mode u/b 600`, "C /b"},
		{
			"metacopy of nothing", metacopy,
			`file l1/x; file u/a; mark u/a metacopy ""; dir l1/d; file u/d; mark u/d metacopy ""`, "A /a, C /d",
		},
		{"metacopy that is off", nil, `
			file l1/a text; file u/a; size u/a 4; mark u/a metacopy ""; file l1/b text`, "C /a"},
		{
			"order", nil, `
			file l1/x; file u/a/x; file u/a-b/x; file u/a.b; file u/a/-; file u/a0; file u/a!/a-/b; file u/a!/a/b`,
			"A /a, A /a!, A /a!/a, A /a!/a-, A /a!/a-/b, A /a!/a/b, A /a-b, A /a-b/x, A /a.b, A /a/-, A /a/x, A /a0",
		},
	} {
		t.Run(c.name, func(t *testing.T) { checkRule(t, c.options, c.make, c.want) })
	}
}

func checkRule(t *testing.T, options overlayfs.Options, script, want string) {
	top := apart.Dir(t)
	lowers := 1
	for strings.Contains(script, fmt.Sprintf("l%d/", lowers+1)) {
		lowers++
	}
	c, mountpoint := overlay(t, top, lowers, options)
	build(t, top, script)
	got, notes := changes(t, c, "")
	if text := strings.Join(got, ", "); text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	if notes.Moved || notes.Walked {
		t.Errorf("notes: %+v", notes)
	}

	// What the client saw before it did anything is the overlay with another upperdir, an empty one.
	pristine := c
	pristine.Upper, pristine.Work = filepath.Join(top, "pu"), filepath.Join(top, "pw")
	base := filepath.Join(top, "pm")
	makeDirs(t, pristine.Upper, pristine.Work, base)
	mount(t, pristine, base)
	mount(t, c, mountpoint)
	if kernel := compareTrees(t, base, mountpoint); !slices.Equal(got, kernel) {
		t.Errorf("the kernel shows\n%q, we say\n%q", kernel, got)
	}
	if mounted, _ := changes(t, c, mountpoint); !slices.Equal(got, mounted) {
		t.Errorf("mounted it is\n%q, not\n%q", mounted, got)
	}
}

// build makes layers: commands by lines or semicolons, with paths below top. Directories above are made as needed.
func build(t testing.TB, top, script string) {
	t.Helper()
	for _, line := range strings.FieldsFunc(script, func(r rune) bool { return r == '\n' || r == ';' }) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		path := filepath.Join(top, words[1])
		makeDirs(t, filepath.Dir(path))
		value := ""
		if len(words) > 2 {
			value = words[len(words)-1]
		}
		if value == `""` {
			value = ""
		}
		number := func(base int) int {
			n, err := strconv.ParseInt(value, base, 32)
			if err != nil {
				t.Fatal(err)
			}
			return int(n)
		}
		var err error
		switch words[0] {
		case "dir":
			err = os.MkdirAll(path, 0o755)
		case "file":
			err = os.WriteFile(path, []byte(value), 0o644)
		case "whiteout":
			err = unix.Mknod(path, unix.S_IFCHR, 0)
		case "device":
			err = unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3)))
		case "symlink":
			err = os.Symlink(value, path)
		case "size":
			err = os.Truncate(path, int64(number(10)))
		case "mode":
			err = unix.Chmod(path, uint32(number(8)))
		case "owner":
			err = os.Lchown(path, number(10), -1)
		case "mark":
			err = unix.Lsetxattr(path, "trusted.overlay."+words[2], []byte(value), 0)
		case "xattr":
			err = unix.Lsetxattr(path, words[2], []byte(value), 0)
		default:
			err = errors.New("no such command")
		}
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
}

// compareTrees tells what a client of merged sees otherwise than one of base. What the kernel lists but lets nobody
// look at differs from all else.
func compareTrees(t testing.TB, base, merged string) []string {
	t.Helper()
	was, now := lookAround(t, base), lookAround(t, merged)
	var out []string
	for path, what := range now {
		old, ok := was[path]
		switch {
		case !ok:
			out = append(out, "A "+path)
		case old != what:
			out = append(out, "C "+path)
		}
	}
	for path := range was {
		if _, ok := now[path]; ok {
			continue
		}
		above, ok := now[filepath.Dir(path)]
		if filepath.Dir(path) == "/" || ok && strings.HasPrefix(above, "d") {
			out = append(out, "D "+path)
		}
	}
	slices.SortFunc(out, func(a, b string) int { return strings.Compare(a[2:], b[2:]) })
	return out
}

// lookAround describes all that is below a directory.
func lookAround(t testing.TB, top string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		rel := strings.TrimPrefix(path, top)
		if rel == "" || errors.Is(err, fs.ErrNotExist) { // listed, but a whiteout
			return nil
		}
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			all[rel] = "refused"
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		text := fmt.Sprintf("%o %d %d %x", st.Mode, st.Uid, st.Gid, st.Rdev)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			text = "d" + text
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text += target
		case unix.S_IFREG:
			contents, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += string(contents)
		}
		all[rel] = text + xattrs(t, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func xattrs(t testing.TB, path string) string {
	t.Helper()
	list := make([]byte, 4096)
	n, err := unix.Llistxattr(path, list)
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Split(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00")
	slices.Sort(names)
	out := ""
	for _, name := range names {
		if name == "" {
			continue
		}
		value := make([]byte, 4096)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			t.Fatal(err)
		}
		out += fmt.Sprintf(" %s=%q", name, value[:n])
	}
	return out
}
