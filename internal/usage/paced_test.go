package usage_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/usage"
	"github.com/overlayd/overlayd/test/apart"
)

func TestCountAsTrees(t *testing.T) {
	for name, script := range map[string]string{
		"empty":      ``,
		"files":      `mkdir -p a/b; head -c 100000 /dev/zero >a/f; head -c 5000 /dev/zero >a/b/g`,
		"wide":       `mkdir d; cd d; seq 3000 | xargs touch; seq -f d%g 300 | xargs mkdir`,
		"hard links": `head -c 9000 /dev/zero >f; ln f g; ln f h; mkdir d; ln f d/h; echo x >two; ln two d/two`,
		"linked out": `head -c 9000 /dev/zero >../outside; ln ../outside in; ln in again; head -c 9000 /dev/zero >f`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := mkdir(t, apart.Dir(t), "tree")
			sh(t, dir, script)
			got, err := usage.Count(t.Context(), dir, func() {})
			if want := tree(t, dir); err != nil || got != want {
				t.Errorf("%+v, %v, want %+v", got, err, want)
			}
		})
	}
}

// It may pause in each directory, and several times in a large one.
func TestCountPauses(t *testing.T) {
	dir := apart.Dir(t)
	sh(t, dir, `mkdir -p a/b/c; mkdir large; cd large; seq 1000 | xargs touch`)
	pauses := 0
	if _, err := usage.Count(t.Context(), dir, func() { pauses++ }); err != nil {
		t.Fatal(err)
	}
	if pauses < 4+5 {
		t.Errorf("%d pauses", pauses)
	}
}

// What happens while it pauses is seen, or passed over.
func TestCountCancelledInPause(t *testing.T) {
	dir := apart.Dir(t)
	sh(t, dir, `mkdir -p a/b/c`)
	ctx, cancel := context.WithCancel(t.Context())
	pauses := 0
	got, err := usage.Count(ctx, dir, func() { pauses++; cancel() })
	if !errors.Is(err, context.Canceled) || pauses != 1 || got != (usage.Usage{}) {
		t.Errorf("got %+v, %v after %d pauses", got, err, pauses)
	}
}

func TestCountBad(t *testing.T) {
	dir := apart.Dir(t)
	sh(t, dir, `: >file`)
	for _, bad := range []string{"file", "nowhere"} {
		path := filepath.Join(dir, bad)
		if _, err := usage.Count(t.Context(), path, func() {}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v", bad, err)
		}
	}
}

// Whatever a client makes, a count takes no more than it is allowed to, and gives back what it no longer needs.
func TestCountRoom(t *testing.T) {
	const room, several = 2000, 3
	for _, k := range []struct {
		name, script string
		large        bool
	}{
		{"wide", `mkdir a_directory_with_a_long_name_{1..100}`, true},
		{"deep", `for i in {1..30}; do mkdir d s; cd d; done`, true},
		{"many, one after the other", `for i in {1..10}; do mkdir -p d$i/{1..10}/e; done`, false},
		{"many links", `mkdir a b; for i in {1..4}; do : >a/$i; ln a/$i b/$i; done`, true},
		{"links side by side", `for i in {1..100}; do mkdir $i; : >$i/f; ln $i/f $i/g; done`, false},
	} {
		t.Run(k.name, func(t *testing.T) {
			dir := apart.Dir(t)
			sh(t, dir, k.script)
			limit := room
			if strings.Contains(k.name, "links") {
				limit = 1 << 20
			}
			_, err := usage.CountWithin(t.Context(), dir, limit, several)
			if large := err != nil && strings.Contains(err.Error(), "too large"); large != k.large {
				t.Errorf("error %v", err)
			}
		})
	}
}

// A count shows nowhere in the mount table: who waits for changes of that is not woken up.
func TestCountLeavesMountTable(t *testing.T) {
	dir := apart.Dir(t)
	if err := unix.Mount("upper", mkdir(t, dir, "shared"), "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", filepath.Join(dir, "shared"), "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	table, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0) // os.Open would poll it, too
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(table)
	changed := func() bool {
		fds := []unix.PollFd{{Fd: int32(table), Events: unix.POLLPRI}}
		if _, err := unix.Poll(fds, 0); err != nil {
			t.Fatal(err)
		}
		return fds[0].Revents&unix.POLLPRI != 0
	}
	changed()
	if _, err := usage.Count(t.Context(), filepath.Join(dir, "shared"), func() {}); err != nil {
		t.Fatal(err)
	}
	if changed() {
		t.Error("the mount table changed")
	}
	if err := unix.Mount("more", mkdir(t, dir, "more"), "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if !changed() {
		t.Error("a mount was not noticed: this tested nothing")
	}
}
