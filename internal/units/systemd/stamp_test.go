package systemd_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/overlayd/overlayd/internal/units/systemd"
)

// known is what a caller of ListBut remembers.
type known struct {
	mu     sync.Mutex
	stamps map[string]systemd.Stamp
}

// list lists the units, and gives those that were read.
func (k *known) list(t *testing.T, root string) (l *systemd.Listing, read []string) {
	t.Helper()
	l, err := systemd.Dir{Root: root}.ListBut(func(name string, s systemd.Stamp) bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.stamps[name] == s
	})
	if err != nil {
		t.Fatal(err)
	}
	k.stamps = map[string]systemd.Stamp{}
	for name, f := range l.Units {
		if f.Link != "" {
			continue
		}
		k.stamps[name] = f.Stamp
		if f.Unread != (f.Text == nil) {
			t.Errorf("%s: unread %t, text %q", name, f.Unread, f.Text)
		}
		if !f.Unread {
			read = append(read, name)
		}
	}
	slices.Sort(read)
	return l, read
}

func TestListBut(t *testing.T) {
	t.Parallel()
	root := tree(t, map[string]string{
		etc + "srv-a.mount": "text a", etc + "srv-b.mount": "text b", etc + "srv-c.mount": "-> /dev/null",
		etc + "overlayd.target": "target",
	})
	at := func(name string) string { return filepath.Join(root, etc, name) }
	var k known
	for _, c := range []struct {
		name string
		do   func() error
		read []string
	}{
		{"nothing is known", func() error { return nil }, []string{"overlayd.target", "srv-a.mount", "srv-b.mount"}},
		{"all is known", func() error { return nil }, nil},
		{"longer", func() error {
			return os.WriteFile(at("srv-a.mount"), []byte("a longer text"), 0o644)
		}, []string{"srv-a.mount"}},
		{"as long, and of the same times", func() error {
			was, err := os.Stat(at("srv-b.mount"))
			if err != nil {
				return err
			}
			if err := os.WriteFile(at("new"), []byte("text B"), 0o644); err != nil {
				return err
			}
			if err := os.Chtimes(at("new"), was.ModTime(), was.ModTime()); err != nil {
				return err
			}
			return os.Rename(at("new"), at("srv-b.mount"))
		}, []string{"srv-b.mount"}},
		{"another file of that name", func() error {
			return os.Rename(at("srv-b.mount"), at("srv-a.mount"))
		}, []string{"srv-a.mount"}},
		{"a link that becomes a file", func() error {
			if err := os.Remove(at("srv-c.mount")); err != nil {
				return err
			}
			return os.WriteFile(at("srv-c.mount"), nil, 0o644)
		}, []string{"srv-c.mount"}},
	} {
		if err := c.do(); err != nil {
			t.Fatal(c.name, err)
		}
		l, read := k.list(t, root)
		if diff := cmp.Diff(c.read, read); diff != "" {
			t.Errorf("%s: read: want -, got +:\n%s", c.name, diff)
		}
		whole, err := systemd.Dir{Root: root}.List()
		if err != nil {
			t.Fatal(err)
		}
		names := func(l *systemd.Listing) []string { return slices.Sorted(maps.Keys(l.Units)) }
		if diff := cmp.Diff(names(whole), names(l)); diff != "" {
			t.Errorf("%s: List -, ListBut +:\n%s", c.name, diff)
		}
	}
}

func TestStampSettled(t *testing.T) {
	t.Parallel()
	s := systemd.Stamp{Ctime: time.Unix(1000, 0).UnixNano()}
	for age, want := range map[time.Duration]bool{
		0: false, 10 * time.Millisecond: false, 100 * time.Millisecond: false, 101 * time.Millisecond: true, time.Hour: true,
		-time.Second: false,
	} {
		if got := s.Settled(time.Unix(1000, 0).Add(age)); got != want {
			t.Errorf("read %s after the change: %t, want %t", age, got, want)
		}
	}
}
