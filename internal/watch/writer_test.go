package watch_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/watch"
	"github.com/overlayd/overlayd/test/apart"
)

func TestBeingWritten(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "spec.hcl")
	sh(t, dir, "echo 1 > spec.hcl; ln -s spec.hcl link; ln -s nowhere dangling; mkdir dir; mkfifo fifo")
	expect := func(name string, wantWriting, wantKnown bool) {
		t.Helper()
		writing, known := watch.BeingWritten(filepath.Join(dir, name))
		if writing != wantWriting || known != wantKnown {
			t.Errorf("BeingWritten(%s) = %v, %v; want %v, %v", name, writing, known, wantWriting, wantKnown)
		}
	}
	expect("spec.hcl", false, true)
	expect("link", false, true)
	for _, name := range []string{"dangling", "dir", "fifo", "none", "spec.hcl/none"} {
		expect(name, false, false)
	}
	reader, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	expect("spec.hcl", false, true)
	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	expect("spec.hcl", true, true)
	expect("link", true, true)
	writer.Close()
	expect("spec.hcl", false, true)
}

// TestBeingWrittenMapped: a mapping outlives its descriptor, and writes all the same.
func TestBeingWrittenMapped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spec.hcl")
	if err := os.WriteFile(path, make([]byte, 4096), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	mapped, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	if writing, known := watch.BeingWritten(path); !writing || !known {
		t.Errorf("mapped: %v, %v; want true, true", writing, known)
	}
	if err := unix.Munmap(mapped); err != nil {
		t.Fatal(err)
	}
	if writing, known := watch.BeingWritten(path); writing || !known {
		t.Errorf("unmapped: %v, %v; want false, true", writing, known)
	}
}

// TestBeingWrittenForeign: who neither owns a file nor has CAP_LEASE cannot know.
func TestBeingWrittenForeign(t *testing.T) {
	apart.NeedRoot(t)
	path := filepath.Join(t.TempDir(), "spec.hcl")
	sh(t, "/", "echo 1 > "+path+"; chown 1 "+path)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine, and its lack of CAP_LEASE with it
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var caps [2]unix.CapUserData
		if err := unix.Capget(&header, &caps[0]); err != nil {
			t.Error(err)
			return
		}
		caps[0].Effective &^= 1 << unix.CAP_LEASE
		if err := unix.Capset(&header, &caps[0]); err != nil {
			t.Error(err)
			return
		}
		if writing, known := watch.BeingWritten(path); writing || known {
			t.Errorf("the file of somebody else: %v, %v; want false, false", writing, known)
		}
	}()
	<-done
}
