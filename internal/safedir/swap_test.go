package safedir_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/safedir"
	"github.com/overlayd/overlayd/test/apart"
)

func TestRenew(t *testing.T) {
	top := apart.Dir(t)
	old := filepath.Join(top, "upper")
	mkdir(t, old)
	write(t, old+"/file", "precious")
	attr := safedir.Attr{UID: 7, GID: 8, Mode: os.ModeSticky | 0o751}
	do(t, safedir.Renew(old, attr, "upper.old", nil))
	if entries, err := os.ReadDir(old); err != nil || len(entries) > 0 {
		t.Errorf("the new directory holds %v, %v", entries, err)
	}
	var st unix.Stat_t
	do(t, unix.Stat(old, &st))
	if st.Uid != 7 || st.Gid != 8 || st.Mode&0o7777 != 0o1751 {
		t.Errorf("the new directory belongs to %d:%d and has mode %o", st.Uid, st.Gid, st.Mode)
	}
	if text, err := os.ReadFile(old + ".old/file"); err != nil || string(text) != "precious" {
		t.Errorf("the old directory holds %q, %v", text, err)
	}
}

func TestRenewRefuses(t *testing.T) {
	top := apart.Dir(t)
	mkdir(t, top+"/upper", top+"/upper.taken", top+"/elsewhere/upper")
	write(t, top+"/upper/file", "precious")
	write(t, top+"/elsewhere/upper/file", "precious")
	do(t, os.Symlink(top+"/elsewhere", top+"/link"))
	for path, aside := range map[string]string{
		top + "/upper":      "upper.taken",
		top + "/missing":    "missing.old",
		top + "/link/upper": "upper.old",
		"relative":          "relative.old",
		"/":                 "root.old",
	} {
		if err := safedir.Renew(path, safedir.Attr{Mode: 0o755}, aside, nil); err == nil {
			t.Errorf("%s was renewed", path)
		}
	}
	var link *safedir.SymlinkError
	if err := safedir.Renew(top+"/link/upper", safedir.Attr{}, "upper.old", nil); !errors.As(err, &link) {
		t.Errorf("through a symlink: %v", err)
	}
	for _, f := range []string{"/upper/file", "/elsewhere/upper/file"} {
		if text, err := os.ReadFile(top + f); err != nil || string(text) != "precious" {
			t.Errorf("%s holds %q, %v", f, text, err)
		}
	}
	for _, name := range []string{"/missing.old", "/elsewhere/upper.old"} {
		if exists(top + name) {
			t.Errorf("%s is left", name)
		}
	}
}

// TestRenewPrepares: what is not ready does not take the place of what is there.
func TestRenewPrepares(t *testing.T) {
	top := apart.Dir(t)
	write(t, top+"/upper/file", "precious")
	broken := errors.New("broken")
	err := safedir.Renew(top+"/upper", safedir.Attr{Mode: 0o755}, "old", func(dir string) error {
		if dir != top+"/old" || !exists(dir) || !exists(top+"/upper/file") {
			t.Errorf("%s is prepared at the wrong moment", dir)
		}
		return broken
	})
	if !errors.Is(err, broken) || exists(top+"/old") || !exists(top+"/upper/file") {
		t.Errorf("renewed, or something is left: %v", err)
	}
}

func TestTakeBack(t *testing.T) {
	top := apart.Dir(t)
	write(t, top+"/upper/file", "precious")
	do(t, safedir.Renew(top+"/upper", safedir.Attr{Mode: 0o755}, "old", nil))
	do(t, safedir.TakeBack(top+"/upper", "old"))
	if !exists(top+"/upper/file") || exists(top+"/old") {
		t.Error("it is not as it was")
	}
	do(t, safedir.Renew(top+"/upper", safedir.Attr{Mode: 0o755}, "old", nil))
	write(t, top+"/upper/new", "precious too")
	if err := safedir.TakeBack(top+"/upper", "old"); err == nil || !exists(top+"/old/new") || !exists(top+"/upper/file") {
		t.Errorf("what was written to the new directory is gone: %v", err)
	}
}

func TestClear(t *testing.T) {
	top := apart.Dir(t)
	write(t, top+"/upper/d/file", "x")
	write(t, top+"/beside", "precious")
	do(t, os.Symlink(top, top+"/upper/link"), unix.Setxattr(top+"/upper", "user.mine", []byte("1"), 0),
		unix.Setxattr(top+"/upper", "trusted.overlay.opaque", []byte("y"), 0))
	do(t, safedir.Clear(t.Context(), top+"/upper", safedir.Attr{UID: 7, GID: 8, Mode: 0o750}))
	if entries, err := os.ReadDir(top + "/upper"); err != nil || len(entries) > 0 {
		t.Errorf("it holds %v, %v", entries, err)
	}
	if got := is(t, top+"/upper"); got != "7:8 40750" {
		t.Errorf("it is %s", got)
	}
	if n, err := unix.Listxattr(top+"/upper", nil); n != 0 || err != nil {
		t.Errorf("%d bytes of attribute names are left, %v", n, err)
	}
	if !exists(top + "/beside") {
		t.Error("what is beside it is gone")
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	write(t, top+"/upper/file", "x")
	if err := safedir.Clear(stopped, top+"/upper", safedir.Attr{}); !errors.Is(err, context.Canceled) {
		t.Errorf("it goes on when it is to stop: %v", err)
	}
	if err := safedir.RemoveTreeContext(stopped, top+"/upper"); !errors.Is(err, context.Canceled) {
		t.Errorf("it goes on when it is to stop: %v", err)
	}
}

func TestMoveInto(t *testing.T) {
	top := apart.Dir(t)
	mkdir(t, top+"/victim")
	write(t, top+"/upper/d/sub/file", "mine")
	write(t, top+"/upper/d/other", "other")
	do(t, safedir.MoveInto(top+"/upper", []string{"d/sub/file", "d/other"}, top+"/aside"))
	for _, f := range []string{"d/sub/file", "d/other"} {
		if exists(top+"/upper/"+f) || !exists(top+"/aside/"+f) {
			t.Errorf("%s did not move", f)
		}
	}
	if info, err := os.Stat(top + "/aside"); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("what was moved is not root's alone: %v, %v", info, err)
	}

	write(t, top+"/victim/file", "precious")
	write(t, top+"/upper/d/other", "again")
	do(t, os.Symlink(top+"/victim", top+"/upper/link"))
	for i, rel := range []string{"link/file", "../victim/file", "/d", ".", "d//sub", "missing", "d/missing/x"} {
		if err := safedir.MoveInto(top+"/upper", []string{rel}, fmt.Sprint(top, "/aside", i)); err == nil {
			t.Errorf("%s moved", rel)
		}
	}
	// Somebody else made the directory: what is put there would be theirs.
	if err := safedir.MoveInto(top+"/upper", []string{"d/other"}, top+"/aside"); !errors.Is(err, os.ErrExist) {
		t.Errorf("moved into a directory that was there: %v", err)
	}
	if text, err := os.ReadFile(top + "/victim/file"); err != nil || string(text) != "precious" {
		t.Errorf("the victim holds %q, %v", text, err)
	}
}
