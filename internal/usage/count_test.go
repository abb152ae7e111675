package usage_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/usage"
	"github.com/overlayd/overlayd/test/apart"
)

func tree(t *testing.T, dir string) usage.Usage {
	t.Helper()
	trees, err := usage.Trees(t.Context(), []string{dir}, usage.Options{})
	if err = errors.Join(err, trees[0].Err); err != nil {
		t.Fatal(err)
	}
	return trees[0].Stored
}

// What a tree takes is what du(1) says, and its inodes are those that find(1) finds.
func TestTreeAsDu(t *testing.T) {
	for name, script := range map[string]string{
		"empty":      ``,
		"files":      `mkdir -p a/b; head -c 100000 /dev/zero >a/f; head -c 5000 /dev/zero >a/b/g; : >empty`,
		"sparse":     `truncate -s 1G hole; dd if=/dev/zero of=mixed bs=4k count=1 seek=1000 status=none`,
		"hard links": `head -c 9000 /dev/zero >f; ln f g; mkdir d; ln f d/h; ln f d/i`,
		"symlinks":   `mkdir d; ln -s / root; ln -s d again; ln -s nowhere broken; ln -s .. d/up`,
		"specials":   `mkfifo fifo; mknod null c 1 3; mknod whiteout c 0 0`,
		"names":      `mkdir -- $'new\nline' ' ' '-n'; echo x >$'new\nline/\xff'; echo y >' /*'`,
		"wide":       `mkdir d; cd d; seq 30000 | xargs touch; seq -f d%g 3000 | xargs mkdir`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := apart.Dir(t)
			sh(t, dir, script)
			got := tree(t, dir)
			if want := du(t, dir); got.Bytes != want {
				t.Errorf("%d bytes, du says %d", got.Bytes, want)
			}
			inodes := strings.TrimSpace(sh(t, dir, `find . -printf '%i\n' | sort -u | wc -l`))
			if fmt.Sprint(got.Inodes) != inodes {
				t.Errorf("%d inodes, find says %s", got.Inodes, inodes)
			}
		})
	}
}

// A tree may be deeper than a path may be long, and than a process may have descriptors.
func TestTreeDeep(t *testing.T) {
	dir := apart.Dir(t)
	const depth = 6000
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range depth {
		if err := errors.Join(unix.Mkdirat(fd, "directory", 0o755), unix.Mkdirat(fd, "sibling", 0o755)); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, "directory", unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(fd)
		fd = next
	}
	_ = unix.Close(fd)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := limit
	low.Cur = 64
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	}()
	if got := tree(t, dir).Inodes; got != 2*depth+1 {
		t.Errorf("%d inodes, want %d", got, 2*depth+1)
	}
}

// What is mounted in a tree is not part of it, and what the mount hides is.
func TestTreeCrossesNoMount(t *testing.T) {
	dir := apart.Dir(t)
	sh(t, dir, `mkdir -p below/d; head -c 40000 /dev/zero >below/hidden; head -c 4096 /dev/zero >file`)
	want := tree(t, dir)
	mount := func(source, target, fstype string, flags uintptr) {
		t.Helper()
		if err := unix.Mount(source, filepath.Join(dir, target), fstype, flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	mount("other", "below", "tmpfs", 0)
	sh(t, dir, `head -c 70000 /dev/zero >below/other`)
	other := apart.Dir(t)
	sh(t, other, `head -c 90000 /dev/zero >f`)
	mount(filepath.Join(other, "f"), "file", "", unix.MS_BIND)
	if got := tree(t, dir); got != want {
		t.Errorf("%+v with mounts, %+v without", got, want)
	}
}

// Nothing is read beyond a symlink below the top; the top itself may be one, as for the kernel.
func TestTreeTop(t *testing.T) {
	dir := apart.Dir(t)
	sh(t, dir, `mkdir d; head -c 9000 /dev/zero >d/f; ln -s d link; : >file`)
	if got, want := tree(t, filepath.Join(dir, "link")), tree(t, filepath.Join(dir, "d")); got != want {
		t.Errorf("%+v by a link, %+v directly", got, want)
	}
	for _, bad := range []string{"file", "nowhere"} {
		path := filepath.Join(dir, bad)
		trees, err := usage.Trees(t.Context(), []string{path, dir}, usage.Options{Parallel: 2})
		if err != nil || trees[0].Err == nil || !strings.Contains(trees[0].Err.Error(), path) || trees[1].Err != nil {
			t.Errorf("%s: got %+v, %v", bad, trees, err)
		}
	}
}

func TestTreeCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := usage.Trees(ctx, []string{t.TempDir()}, usage.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// Without the right to read, the error says what it takes.
func TestTreeUnreadable(t *testing.T) {
	dir := apart.Dir(t)
	sh(t, dir, `mkdir -p d/e; chmod 700 d/e`)
	apart.NeedRoot(t)
	_, err := usage.CountAlone(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := asNobody(t, func() error { _, err := usage.CountAlone(t.Context(), dir); return err }); err == nil ||
		!errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "d/e") ||
		!strings.Contains(err.Error(), "takes root") {
		t.Errorf("error %v", err)
	}
}
