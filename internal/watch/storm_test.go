package watch_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/watch"
)

// tree is a small directory tree that random operations are done to, and the paths of interest in it.
type tree struct{ top string }

var (
	treeNames = []string{"a", "b", "c", "x.hcl", "y.hcl", "link"}
	treeLinks = []string{
		"a", "b", "../b", "..", "a/b", "/a/b", "/c", "/b/x.hcl", "x.hcl", "../a/y.hcl", "none", "../c/none", "link",
	}
)

func (r tree) paths() []watch.Path {
	var list []watch.Path
	for _, path := range []string{"a/b", "b/link", "c/x.hcl", "link", "a/c/../x.hcl", "c"} {
		list = append(list, watch.Path{Path: r.top + "/" + path, Match: hcl})
	}
	return list
}

// do does an operation. What cannot be done, as there is nothing to do it to, is nothing done.
func (r tree) do(op, from, to, aside byte) {
	pick := func(b byte) string {
		n := len(treeNames)
		path := filepath.Join(r.top, treeNames[int(b)%n])
		if b := int(b) / n; b%4 != 0 {
			path = filepath.Join(path, treeNames[b/4%n])
		}
		return path
	}
	path := pick(from)
	switch op % 10 {
	case 0, 1:
		_ = os.Mkdir(path, 0o755)
	case 2:
		_ = os.MkdirAll(filepath.Join(path, "b"), 0o755)
	case 3:
		_ = os.WriteFile(path, []byte{to, aside}, 0o644)
	case 4:
		_ = os.Rename(path, pick(to))
	case 5:
		_ = unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, pick(to), unix.RENAME_EXCHANGE)
	case 6:
		_ = os.RemoveAll(path)
	case 7:
		link := treeLinks[int(aside)%len(treeLinks)]
		if strings.HasPrefix(link, "/") {
			link = r.top + link
		}
		if err := os.Symlink(link, filepath.Join(r.top, "tmp")); err != nil {
			return
		}
		_ = os.Rename(filepath.Join(r.top, "tmp"), path)
		_ = os.Remove(filepath.Join(r.top, "tmp"))
	case 8:
		_ = os.Remove(path)
	case 9:
		_ = os.Chmod(path, 0o700|os.FileMode(aside&0o77))
	}
}

// look tells what the paths lead to: by the kernel and the standard library, not by what is tested.
func (r tree) look() string {
	var b strings.Builder
	file := func(path string) os.FileInfo {
		info, err := os.Stat(path)
		if err != nil {
			fmt.Fprintln(&b, path, "leads nowhere")
			return nil
		}
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintln(&b, path, st.Dev, st.Ino, info.Mode())
		if !info.IsDir() {
			text, _ := os.ReadFile(path)
			fmt.Fprintf(&b, "%q %v\n", text, info.ModTime())
		}
		return info
	}
	for _, p := range r.paths() {
		info := file(p.Path)
		if info == nil || !info.IsDir() {
			continue
		}
		entries, _ := os.ReadDir(p.Path)
		for _, entry := range entries {
			if p.Match(entry.Name()) {
				path := filepath.Join(p.Path, entry.Name())
				to, _ := os.Readlink(path)
				fmt.Fprintf(&b, "%q %v\n", to, entry.Type())
				file(path)
			}
		}
	}
	return b.String()
}

// inKernel returns the inodes that the one inotify instance of this process watches.
func inKernel(t *testing.T) []uint64 {
	t.Helper()
	var inodes []uint64
	found := 0
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if to, _ := os.Readlink("/proc/self/fd/" + entry.Name()); to != "anon_inode:inotify" {
			continue
		}
		found++
		text, err := os.ReadFile("/proc/self/fdinfo/" + entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var wd, ino uint64
			// "inotify wd:3 ino:9e7e sdev:800013 mask:..." (proc_pid_fdinfo(5))
			if n, _ := fmt.Sscanf(line, "inotify wd:%x ino:%x", &wd, &ino); n == 2 {
				inodes = append(inodes, ino)
			}
		}
	}
	if found != 1 {
		t.Fatalf("this process has %d inotify instances, want 1", found)
	}
	slices.Sort(inodes)
	return inodes
}

func inodes(paths []string) []uint64 {
	var list []uint64
	for _, path := range paths {
		var st unix.Stat_t
		_ = unix.Lstat(path, &st) // 0 if it is not there
		list = append(list, st.Ino)
	}
	slices.Sort(list)
	return list
}

// FuzzFiles does four bytes' worth of operation at a time. Whatever changed, there is a hint; and exactly the right
// directories are watched, by fsnotify's account and by the kernel's.
func FuzzFiles(f *testing.F) {
	chance := rand.NewChaCha8([32]byte{1})
	for range 40 {
		data := make([]byte, 160)
		_, _ = chance.Read(data) // never fails
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := tree{t.TempDir()}
		marks := t.TempDir()
		s := watch.NewStepped(t, marks)
		if err := s.Set(r.paths()); err != nil {
			t.Fatal(err)
		}
		before := r.look()
		for op := range slices.Chunk(data[:min(len(data), 400)], 4) { // more is only slower
			if len(op) < 4 {
				break
			}
			r.do(op[0], op[1], op[2], op[3])
			after := r.look()
			if hint := s.Step(t); !hint && before != after {
				t.Fatalf("no hint: from\n%sto\n%s", before, after)
			}
			before = after
			watched := s.Watched()
			if !sameBut(s.Kept(), watched, marks) {
				t.Fatalf("fsnotify watches\n%q instead of\n%q", s.Kept(), watched)
			}
			if got, want := inKernel(t), inodes(append(watched, marks)); !slices.Equal(got, want) {
				t.Fatalf("the kernel watches inodes\n%v instead of\n%v", got, want)
			}
		}
		watched := s.Watched()
		if err := s.Set(r.paths()); err != nil {
			t.Fatal(err)
		}
		if s.Step(t) || !slices.Equal(s.Watched(), watched) {
			t.Fatalf("another Set watches\n%q instead of\n%q", s.Watched(), watched)
		}
	})
}

// TestFilesStorm changes things while paths are walked. Who reads again on every hint has the truth in the end.
func TestFilesStorm(t *testing.T) {
	for seed := range byte(10) {
		r := tree{t.TempDir()}
		f := start(t, r.paths()...)
		known := r.look()
		done := make(chan struct{})
		go func() {
			defer close(done)
			chance := rand.NewChaCha8([32]byte{seed})
			op := make([]byte, 4)
			for range 2000 {
				_, _ = chance.Read(op)
				r.do(op[0], op[1], op[2], op[3])
			}
		}()
		for storm := true; storm; {
			select {
			case <-f.Changes():
				known = r.look()
			case <-done:
				storm = false
			}
		}
		for late := time.After(patience); known != r.look(); {
			select {
			case <-f.Changes():
				known = r.look()
			case <-late:
				t.Fatalf("seed %d: no hint: from\n%sto\n%s", seed, known, r.look())
			}
		}
		// All is told, but not all may be tidied up yet. Each round brings it closer.
		var watched, got, want []uint64
		for round := 0; ; round++ {
			if err := os.RemoveAll(r.top + "/c"); err != nil {
				t.Fatal(err)
			}
			await(t, f.Changes(), "the removal of c")
			if err := os.Mkdir(r.top+"/c", 0o755); err != nil {
				t.Fatal(err)
			}
			await(t, f.Changes(), "a new c")
			watched, got, want = inodes(f.Kept()), inKernel(t), inodes(f.Watched())
			if slices.Equal(got, want) && slices.Equal(watched, want) {
				break
			}
			if round == 100 {
				t.Fatalf("seed %d: the kernel watches\n%v, fsnotify\n%v instead of\n%v", seed, got, watched, want)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFilesClose: nothing runs and nothing is open after Close, also in the middle of a storm.
func TestFilesClose(t *testing.T) {
	before := descriptors(t)
	for range 20 {
		r := tree{t.TempDir()}
		f := start(t, r.paths()...)
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for i := byte(0); ; i++ {
				select {
				case <-stop:
					return
				default:
					r.do(i, i, i, i)
				}
			}
		}()
		await(t, f.Changes(), "a storm")
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		close(stop)
		<-done
		for range f.Changes() { // closed, perhaps with a last hint in it
		}
		if err, ok := <-f.Errors(); ok {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Errorf("the second Close: %v", err)
		}
		if err := f.Set(r.paths()); err == nil {
			t.Error("Set works after Close")
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("open before: %s\nafter: %s", before, after)
	}
	for late := time.Now().Add(patience); ; {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		// A goroutine may have said that it is done and be on its last instructions.
		if !bytes.Contains(stacks, []byte("watch.(*Files)")) && !bytes.Contains(stacks, []byte("fsnotify")) {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("still running after Close:\n%s", stacks)
		}
		runtime.Gosched()
	}
}
