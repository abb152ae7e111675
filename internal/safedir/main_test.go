package safedir_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/test/apart"
)

// TestMain runs the tests apart: they mount things, and need a place whose ancestors all belong to root.
func TestMain(m *testing.M) { os.Exit(apart.Run(nil, m.Run)) }

func do(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		do(t, os.MkdirAll(path, 0o755))
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	mkdir(t, filepath.Dir(path))
	do(t, os.WriteFile(path, []byte(text), 0o644))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// is describes a directory's owner and mode.
func is(t *testing.T, path string) string {
	t.Helper()
	var st unix.Stat_t
	do(t, unix.Lstat(path, &st))
	return fmt.Sprintf("%d:%d %o", st.Uid, st.Gid, st.Mode)
}
