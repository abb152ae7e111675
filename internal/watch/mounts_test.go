package watch_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/watch"
	"github.com/overlayd/overlayd/test/apart"
)

func mount(t *testing.T, what, at, kind string, flags uintptr) {
	t.Helper()
	if err := unix.Mount(what, at, kind, flags, ""); err != nil {
		t.Fatalf("cannot mount at %s: %v", at, err)
	}
}

func unmount(t *testing.T, at string) {
	t.Helper()
	if err := unix.Unmount(at, 0); err != nil {
		t.Fatalf("cannot unmount %s: %v", at, err)
	}
}

func TestMounts(t *testing.T) {
	dir := apart.Dir(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changes, err := watch.Mounts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		mount(t, "watch", dir, "tmpfs", 0)
		await(t, changes, "a mount")
		mount(t, "", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY)
		await(t, changes, "a remount")
		unmount(t, dir)
		await(t, changes, "an unmount")
	}
	cancel()
	for late := time.After(patience); ; {
		select {
		case _, ok := <-changes:
			if !ok {
				return
			}
		case <-late:
			t.Fatal("the channel is not closed at the end of the context")
		}
	}
}

// TestMountTableOnce: a change is told once, whether it comes before or while one waits, so that nothing spins.
func TestMountTableOnce(t *testing.T) {
	dir := apart.Dir(t)
	m, err := watch.OpenMountTable()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	expect := func(wantChanged, wantEnded bool) {
		t.Helper()
		changed, ended, err := m.Wait()
		if err != nil || changed != wantChanged || ended != wantEnded {
			t.Fatalf("Wait: changed %v, ended %v, %v; want %v, %v", changed, ended, err, wantChanged, wantEnded)
		}
	}
	mount(t, "watch", dir, "tmpfs", 0)
	unmount(t, dir)
	expect(true, false)
	mount(t, "watch", dir, "tmpfs", 0)
	expect(true, false)
	unmount(t, dir)
	m.Stop()
	expect(true, true)
	expect(false, true)
}

// TestMountsDescriptors: nothing stays open when the context has ended.
func TestMountsDescriptors(t *testing.T) {
	before := descriptors(t)
	ctx, cancel := context.WithCancel(t.Context())
	var all []<-chan struct{}
	for range 50 {
		changes, err := watch.Mounts(ctx)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, changes)
	}
	cancel()
	for _, changes := range all {
		select {
		case <-changes:
		case <-time.After(patience):
			t.Fatal("the channel is not closed at the end of the context")
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("open before: %s\nafter: %s", before, after)
	}
}

// descriptors lists what this process has open of the kinds that package watch opens.
func descriptors(t *testing.T) string {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var open []string
	for _, entry := range list {
		to, _ := os.Readlink(filepath.Join("/proc/self/fd", entry.Name()))
		if strings.HasSuffix(to, "/mountinfo") || to == "anon_inode:[eventfd]" || to == "anon_inode:inotify" {
			open = append(open, entry.Name()+":"+to)
		}
	}
	return strings.Join(open, " ")
}
