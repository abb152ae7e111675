package commit_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/layers"
	"github.com/overlayd/overlayd/test/scramble"
)

// What podman diff says of a container is what layers.Changes says of the same upperdir, but for what podman has other
// words for, each with its reason.
func TestChangesAgreeWithPodman(t *testing.T) {
	need(t, "podman")
	agreed := 0
	for seed := uint64(0); agreed < *seeds; seed++ {
		if seed > uint64(*seeds)*10 {
			t.Fatalf("podman had an opinion on %d of %d containers only", agreed, seed)
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			if compareWithPodman(newBench(t), seed) {
				agreed++
			}
		})
		if t.Failed() {
			return
		}
	}
}

func compareWithPodman(b *bench, seed uint64) bool {
	o := scramble.Options{OCI: true, OneName: true}
	base := b.lowers(1, seed, "", o)
	empty := b.config("nothing", "")
	b.toArchive(b.client("base", overlayfs.Config{
		Lower: []string{empty.Upper}, Upper: base[0], Work: empty.Work, Options: overlayfs.Options{},
	}, false), "base.tar")
	image := b.podman("import", "-q", b.path("base.tar"))
	container := b.podman("create", "--network", "none", image, "none")
	merged := b.podman("mount", container)
	b.Cleanup(func() { b.podman("umount", "-f", container) })
	log, err := scramble.Run(merged, seed, 15, o)
	b.check(err)

	theirs, ok := b.podmanDiff(container)
	if !ok {
		return false
	}
	c := b.mounted(merged)
	ours := b.changes(c, merged)
	theySay := func(kind, path string) bool { return slices.Contains(theirs, kind+" "+path) }
	for _, line := range ours {
		kind, path := line[:1], line[2:]
		agree := theySay(kind, path)
		// An opaque directory was removed, they say, if there was a directory, and added if there was a file; what the
		// old directory held goes with it.
		if kind == "C" {
			agree = agree || theySay("D", path) || theySay("A", path)
		}
		for above := filepath.Dir(path); kind == "D" && !agree && above != "/"; above = filepath.Dir(above) {
			agree = theySay("D", above)
		}
		if !agree {
			b.Errorf("podman does not say %q", line)
		}
	}
	for _, line := range theirs {
		kind, path := line[:1], line[2:]
		agree := slices.Contains(ours, line)
		switch kind {
		case "A": // they follow symlinks in the base, and one that leads nowhere is nothing to them
			dangling := find(base[0], path)&fs.ModeSymlink != 0 && find(c.Upper, path) != 0
			agree = agree || dangling || slices.Contains(ours, "C "+path)
		case "C": // in the upperdir: the parent of something changed, or copied up and as before
			agree = agree || find(c.Upper, path) != 0
		case "D": // a whiteout over nothing, or an opaque directory
			agree = agree || find(base[0], path) == 0 || find(merged, path) != 0
		}
		if !agree {
			b.Errorf("podman says %q, and nothing of the kind is true", line)
		}
	}
	if b.Failed() {
		b.Logf("overlayd: %q\npodman: %q\nafter\n%s", ours, theirs, strings.Join(log, "\n"))
	}
	return true
}

// mounted reads from the mount table what is mounted at a path.
func (b *bench) mounted(at string) overlayfs.Config {
	b.Helper()
	f, err := os.Open("/proc/self/mountinfo")
	b.check(err)
	defer f.Close()
	table, err := overlayfs.ParseTable(f)
	b.check(err)
	m, ok := table.Top(at)
	if !ok || m.Overlay == nil {
		b.Fatalf("no overlay is mounted at %s", at)
	}
	return *m.Overlay
}

func (b *bench) changes(c overlayfs.Config, mountpoint string) []string {
	b.Helper()
	v, err := layers.Open(c, mountpoint, defaults)
	b.check(err)
	defer v.Close()
	var lines []string
	_, err = v.Changes(b.Context(), func(c layers.Change) error {
		lines = append(lines, string(c.Kind)+" "+inJSON(c.Path))
		return nil
	})
	b.check(err)
	return lines
}

// inJSON is a text after a way through JSON, where bytes that are not UTF-8 do not survive.
func inJSON(text string) string {
	var out string
	data, err := json.Marshal(text)
	if err == nil {
		err = json.Unmarshal(data, &out)
	}
	if err != nil {
		panic(err) // texts are always fine
	}
	return out
}

// exists is set in the mode of what find found.
const exists = fs.FileMode(1)

// find looks for a path that has gone through JSON, and returns its mode, 0 if there is none.
func find(dir, path string) fs.FileMode {
	mode := exists | fs.ModeDir
	for name := range strings.SplitSeq(path[1:], "/") {
		entries, err := os.ReadDir(dir)
		if err != nil || mode&fs.ModeDir == 0 {
			return 0
		}
		at := slices.IndexFunc(entries, func(e fs.DirEntry) bool { return inJSON(e.Name()) == name })
		if at < 0 {
			return 0
		}
		dir, mode = filepath.Join(dir, entries[at].Name()), entries[at].Type()|exists
	}
	return mode
}

// podmanDiff says what podman has to say; false if it fails, as it does where a directory came in place of a file, or a
// symlink in the base leads to itself.
func (b *bench) podmanDiff(container string) ([]string, bool) {
	b.Helper()
	out, err := b.podmanCommand("diff", "--format", "json", container).CombinedOutput()
	for _, reason := range []error{unix.ENOTDIR, unix.ELOOP} {
		if err != nil && strings.HasSuffix(strings.TrimSpace(string(out)), ": "+reason.Error()) {
			return nil, false
		}
	}
	if err != nil {
		b.Fatalf("podman diff: %v\n%s", err, out)
	}
	var diff struct{ Added, Changed, Deleted []string }
	b.check(json.Unmarshal(out, &diff))
	var lines []string
	for kind, paths := range map[string][]string{"A": diff.Added, "C": diff.Changed, "D": diff.Deleted} {
		for _, path := range paths {
			lines = append(lines, kind+" "+path)
		}
	}
	slices.Sort(lines)
	return lines, true
}
