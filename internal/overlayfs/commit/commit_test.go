package commit_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs/commit"
)

// prepared makes a base by one script and a client that ran another.
func prepared(t *testing.T, options, base, client string) (*bench, commit.Client) {
	t.Helper()
	b := newBench(t)
	b.sh("umask 022; mkdir base; cd base; " + base)
	c := b.config("client", options, b.path("base"))
	b.mount("client", c)
	b.sh("umask 022; cd client; " + client)
	return b, b.client("client", c, true)
}

const (
	plain   = "redirect_dir=off,index=off,metacopy=off"
	moving  = "redirect_dir=on,index=off,metacopy=off"
	indexed = "redirect_dir=off,index=on,metacopy=off"
)

// Cases that chance rarely makes.
func TestDirectory(t *testing.T) {
	for _, tc := range []struct {
		name, options, base, client string
		layer                       []string // what is in the layer
	}{
		{"nothing", plain, "echo x >file", ":", nil},
		{"copied up, and as before", plain, "mkdir d; echo x >d/file", ": >>d/file; chown 0:0 d d/file", nil},
		{"a time alone", plain, "echo x >file", "touch -d @1 file", []string{"file"}},
		{"one of two names copied up", plain, "echo x >a; ln a b", ": >>a", []string{"a"}},
		{"a whiteout over nothing", plain, ":", "echo x >file; rm file", nil},
		{"removed and made again", plain, "mkdir -p d/e/f; echo x >d/x", "rm -r d; mkdir d", []string{"d opaque"}},
		{
			"a directory in place of a file", plain, "echo x >d", "rm d; mkdir d; echo x >d/x",
			[]string{"d", "d/x"},
		},
		{
			"sorts between a directory and what is in it", plain, "mkdir d d-; echo x >d/x; echo x >d-/x",
			"rm d/x d-/x",
			[]string{"d", "d-", "d-/x deleted", "d/x deleted"},
		},
		{
			"copied up beside it, and as before", plain, "mkdir d d-; echo x >d-/x; touch -d @1 d d-",
			"chown 0:0 d; rm d-/x; touch -d @1 d-",
			[]string{"d-", "d-/x deleted"},
		},
		{
			"both as before but for what is in them", plain, "mkdir d d-; touch d/x d-/x; touch -d @1 d d-",
			"rm d/x d-/x; touch -d @1 d d-",
			[]string{"d", "d-", "d-/x deleted", "d/x deleted"},
		},
		{
			"only what is below has changed", plain, "mkdir -p a/b/c; touch a/b/c/x; touch -d @1 a/b/c a/b a",
			"echo y >a/b/c/x; rm a/b/c/x; echo z >a/b/c/x; touch -d @1 a/b/c",
			[]string{"a", "a/b", "a/b/c", "a/b/c/x"},
		},
		{
			"moved", moving, "mkdir -p d/e; echo x >d/e/x; echo y >d/y", "mv d moved; rm moved/y",
			[]string{"d deleted", "moved", "moved/e", "moved/e/x"},
		},
		{
			// The new directory is opaque, and yet what came back is as it was: nothing of that needs a copy.
			"moved out, and back into a new one", moving, "mkdir -p p/d/e; echo x >p/d/e/x; echo y >p/y; touch -d @1 p/d",
			"mv p/d out; rm -r p; mkdir p; mv out p/d; touch -d @1 p/d",
			[]string{"p", "p/y deleted"},
		},
		{
			"a directory with the name of one that moved away", moving, "mkdir -p a b; echo 1 >a/x; echo 2 >b/x; echo y >b/y",
			"mv b c; mv a b",
			[]string{"a deleted", "b", "b/x", "b/y deleted", "c", "c/x", "c/y"},
		},
		{"a name of a file in the index", indexed, "echo x >a; mkdir d; ln a d/b", "echo y >a", []string{"a", "d", "d/b"}},
		{
			"names of a file that only the index has", indexed, "echo x >a; mkdir d; ln a d/b; ln a d/c", "echo y >a; rm a",
			[]string{"a deleted", "d", "d/b", "d/c"},
		},
		{
			"metacopy", "redirect_dir=on,index=off,metacopy=on", "echo x >file; echo y >moved",
			"chmod 600 file; mv moved there; chmod 600 there",
			[]string{"file", "moved deleted", "there"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, c := prepared(t, tc.options, tc.base, tc.client)
			r := b.toDirectory(c, "layer")
			if r.Empty() != (len(tc.layer) == 0) {
				t.Errorf("%+v, and the layer holds %q", r, tc.layer)
			}
			if got := layerOf(t, b.path("layer")); !slices.Equal(got, tc.layer) {
				t.Errorf("the layer holds %q, want %q", got, tc.layer)
			}
			b.same(b.path("client"), b.view("view", c.Config, b.path("layer"), b.path("base")), nil)
		})
	}
}

// The kernel merges the root whatever it says.
func TestOpaqueRoot(t *testing.T) {
	b, c := prepared(t, plain, "echo x >file; echo y >gone", "rm gone; echo z >new")
	b.sh("setfattr -n trusted.overlay.opaque -v y client.upper")
	b.toDirectory(c, "layer")
	b.same(b.path("client"), b.view("view", c.Config, b.path("layer"), b.path("base")), nil)
}

// layerOf lists a layer, deletions and opaque directories as such. No other mark of an overlay is to be in it.
func layerOf(t *testing.T, dir string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 {
			rel += " deleted"
		}
		list := make([]byte, 4096)
		n, err := unix.Llistxattr(path, list)
		if err != nil {
			return err
		}
		for name := range strings.SplitSeq(string(list[:n]), "\x00") {
			if mark, ok := strings.CutPrefix(name, "trusted.overlay."); ok {
				rel += " " + mark
			}
		}
		if rel != "." {
			lines = append(lines, rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return lines
}

func TestHolesStay(t *testing.T) {
	b, c := prepared(t, plain, ":",
		"truncate -s 1G empty; echo x >begin; truncate -s 1G begin; truncate -s 1G end; echo x >>end; "+
			"dd if=/dev/zero of=middle bs=1M count=1 seek=100 2>/dev/null; truncate -s 200M middle")
	r := b.toDirectory(c, "layer")
	if r.Bytes > 2<<20 {
		t.Errorf("%d bytes copied", r.Bytes)
	}
	for _, name := range []string{"empty", "begin", "end", "middle"} {
		var was, is unix.Stat_t
		b.check(errors.Join(unix.Stat(b.path("client/"+name), &was), unix.Stat(b.path("layer/"+name), &is)))
		if was.Size != is.Size || is.Blocks > was.Blocks {
			t.Errorf("%s has %d bytes in %d blocks, in the layer %d in %d", name, was.Size, was.Blocks, is.Size, is.Blocks)
		}
	}
	b.sh("cmp client/end layer/end; cmp client/middle layer/middle")
}

// The same changes give the same bytes, wherever and whenever.
func TestArchiveIsRepeatable(t *testing.T) {
	b, c := prepared(t, moving, "mkdir -p d/e; echo x >d/e/x; echo y >d/y; touch gone",
		"mv d moved; rm gone; echo z >z; ln z zz; setfattr -n user.a -v 1 z; setfattr -n user.b -v 2 z; mkfifo fifo")
	first := b.toArchive(c, "first.tar")
	b.sh("cat client/z client/moved/y >/dev/null; touch -a client/z")
	second := b.toArchive(c, "second.tar")
	if first.DiffID != second.DiffID || !strings.HasPrefix(first.DiffID, "sha256:") {
		t.Errorf("the archives have the diff IDs %q and %q", first.DiffID, second.DiffID)
	}
	var out bytes.Buffer
	third, err := commit.WriteArchive(b.Context(), c, &out)
	b.check(err)
	b.check(os.WriteFile(b.path("third.tar"), out.Bytes(), 0o600))
	if packed := b.toArchive(c, "packed.tgz"); packed.DiffID != third.DiffID {
		t.Errorf("compressed it has the diff ID %q, else %q", packed.DiffID, third.DiffID)
	}
	b.toArchive(c, "packed.tar.gz")
	b.sh("cmp first.tar second.tar; cmp first.tar third.tar; cmp packed.tgz packed.tar.gz")
	b.sh("gzip -dc packed.tgz | cmp - first.tar")
}

// What a tar cannot hold is told.
func TestArchiveWarns(t *testing.T) {
	b, c := prepared(t, plain, "echo x >socket", "setfattr -n user.empty .")
	b.check(os.Remove(b.path("client/socket")))
	b.check(unix.Mknod(b.path("client/socket"), unix.S_IFSOCK|0o600, 0))
	b.check(unix.Mknod(b.path("client/so\ncket"), unix.S_IFSOCK|0o600, 0))
	r := b.toArchive(c, "layer.tar")
	want := []string{
		`"/so\ncket" is a socket and left out: a tar has none`, "/socket is a socket and left out: a tar has none",
		"podman, umoci and Docker do not set xattrs that have no value: /",
	}
	if !slices.Equal(r.Warnings, want) {
		t.Errorf("warnings are %q, want %q", r.Warnings, want)
	}
	names := tarNames(t, b.path("layer.tar"))
	if want := []string{"./", ".wh.socket"}; !slices.Equal(names, want) { // the file below must not show
		t.Errorf("the archive holds %q, want %q", names, want)
	}
	if r := b.toDirectory(c, "layer"); len(r.Warnings) > 0 || r.Files != 2 {
		t.Errorf("a directory can hold it all: %+v", r)
	}
}

func tarNames(t *testing.T, file string) []string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var names []string
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

// Of names that were moved with their directory, and others that were not, it is told that they are files apart now.
func TestLinksLeftBehind(t *testing.T) {
	b, c := prepared(t, moving, "mkdir d; echo x >d/x; ln d/x y", "mv d moved")
	r := b.toDirectory(c, "layer")
	if len(r.Warnings) != 1 || !strings.HasSuffix(r.Warnings[0], ": /moved/x") {
		t.Errorf("warnings are %q", r.Warnings)
	}
}

// The client writes while its files are copied: that is told, and a tar stays one.
func TestTornFile(t *testing.T) {
	const size = 40_000_000
	for _, change := range []string{"echo more >>client/file", "truncate -s 5 client/file"} {
		for _, target := range []string{"layer", "layer.tar"} {
			b, c := prepared(t, plain, ":", "head -c 40000000 /dev/zero | tr '\\0' x >file; echo x >other")
			written := false
			c.Progress = func(done, _ int64) {
				if done > 0 && !written {
					written = true
					b.sh(change)
				}
			}
			r, err := to(b.Context(), c, b.path(target))
			b.check(err)
			if !written || !slices.Contains(r.Warnings, "/file changed while it was copied") {
				t.Errorf("%s into %s: written: %v, warnings: %q", change, target, written, r.Warnings)
			}
			if target == "layer.tar" {
				if names := tarNames(t, b.path(target)); !slices.Equal(names, []string{"./", "file", "other"}) {
					t.Errorf("the archive holds %q", names)
				}
			} else if info, err := os.Stat(b.path("layer/file")); err != nil || info.Size() != size {
				t.Errorf("the file in the layer: %v, %v", info, err)
			}
		}
	}
}

// Whatever ends a commit before its time, nothing is left of it.
func TestNothingIsLeft(t *testing.T) {
	b, c := prepared(t, plain, ":",
		"mkdir d; head -c 40000000 /dev/zero | tr '\\0' x >d/file; ln -s / d/link; mkfifo d/fifo")
	b.sh("mkdir full; mount -t tmpfs -o size=10M,mode=0755 full full; mkdir there")
	b.Cleanup(func() { b.sh("umount full") })
	for _, target := range []string{"full/layer", "full/layer.tar"} {
		if _, err := to(b.Context(), c, b.path(target)); !errors.Is(err, unix.ENOSPC) ||
			!strings.HasSuffix(err.Error(), ": no space left on the filesystem of "+b.path("full")+"; the layer takes about 38 MiB") {
			t.Errorf("%s: %v, want ENOSPC", target, err)
		}
	}
	for _, target := range []string{"there/layer", "there/layer.tar"} {
		ctx, cancel := context.WithCancel(b.Context())
		c.Progress = func(done, _ int64) {
			if done > 0 {
				cancel()
			}
		}
		if _, err := to(ctx, c, b.path(target)); !errors.Is(err, context.Canceled) ||
			err.Error() != "cannot commit to "+b.path(target)+": nothing was written" {
			t.Errorf("%s: %v, want context.Canceled", target, err)
		}
		c.Progress = func(int64, int64) { // it is overtaken
			b.check(os.MkdirAll(b.path(target+"/x"), 0o755))
		}
		if _, err := to(b.Context(), c, b.path(target)); err == nil || !strings.Contains(err.Error(), "appeared") {
			t.Errorf("%s: %v, want an error about what has appeared", target, err)
		}
		b.check(os.RemoveAll(b.path(target)))
		c.Progress = nil
	}
	for _, dir := range []string{"full", "there"} {
		entries, err := os.ReadDir(b.path(dir))
		b.check(err)
		if len(entries) > 0 {
			t.Errorf("%v is left in %s", entries, dir)
		}
	}
}

// A name says how an archive is packed.
func TestCheckArchive(t *testing.T) {
	for name, ending := range map[string]string{
		"-": "", "a": "", "a.tar": "", "a.tar.gz": "", "a.tgz": "", "a.layer": "", "xz": "", "a.xz/b.tar": "",
		"a.tar.xz": ".xz", "a.tar.zst": ".zst", "a.TAR.BZ2": ".BZ2", "a.lz4": ".lz4", "a.zip": ".zip", "a.txz": ".txz",
	} {
		err := commit.CheckArchive(name)
		switch {
		case ending == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case ending != "" && (err == nil || err.Error() != ending+" is not supported; use .tar, .tar.gz or .tgz"):
			t.Errorf("%s: %v, want one about %s", name, err, ending)
		}
	}
	b, c := prepared(t, plain, ":", "echo x >file")
	if _, err := commit.ToArchive(b.Context(), c, b.path("layer.tar.xz")); err == nil {
		t.Error("an archive of the wrong kind was written")
	}
}

func to(ctx context.Context, c commit.Client, target string) (commit.Result, error) {
	if strings.HasSuffix(target, ".tar") {
		return commit.ToArchive(ctx, c, target)
	}
	return commit.ToDirectory(ctx, c, target)
}

// Two commits to one place: the second is refused, the first goes on.
func TestOneAtATime(t *testing.T) {
	b, c := prepared(t, plain, ":", "echo x >file")
	asked := false
	c.Progress = func(int64, int64) {
		if asked {
			return
		}
		asked = true
		second := c
		second.Progress = nil
		if _, err := commit.ToDirectory(b.Context(), second, b.path("layer")); err == nil ||
			!strings.Contains(err.Error(), "another commit") {
			t.Errorf("a second commit gave %v", err)
		}
	}
	b.toDirectory(c, "layer")
	if !asked {
		t.Error("nobody asked")
	}
	b.sh("cmp client/file layer/file")
}
