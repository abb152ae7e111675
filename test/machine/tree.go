package machine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// tree is a cached root tree: what it is called, and how it is made.
type tree struct {
	name string // trees of the same name and another key came from an older recipe
	key  string // changes with the recipe, so that an old tree is never taken for a new one
	what string // for people
	make func(ctx context.Context, dir string) error
}

// newTree names a tree by what it is for and keys it by its recipe.
func newTree(name, what string, recipe []string, build func(ctx context.Context, dir string) error) tree {
	digest := sha256.Sum256([]byte(strings.Join(recipe, "\n")))
	return tree{name: name, key: name + "-" + hex.EncodeToString(digest[:6]), what: what, make: build}
}

// withTree calls use with the folder of a tree, which nobody removes or replaces meanwhile.
func (s *Store) withTree(ctx context.Context, t tree, use func(dir string) error) error {
	dir := filepath.Join(s.trees(), t.key)
	for {
		unlock, err := lock(ctx, dir+".lock", unix.LOCK_SH)
		if err != nil {
			return err
		}
		if s.pristine(t, dir) {
			defer unlock()
			return use(dir)
		}
		unlock()
		if err := s.build(ctx, t, dir); err != nil {
			return fmt.Errorf("cannot make a root tree of %s: %w", t.what, err)
		}
	}
}

// pristine reports whether the tree is there and as it was made. Machines share
// the files below /usr with it by hard links: one that wrote into such a file in
// place, instead of replacing it, has spoilt the tree, which is then made anew.
// One look per tree and run will do, unless another program has made it anew.
func (s *Store) pristine(t tree, dir string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	want, err := os.ReadFile(dir + ".sum")
	if err != nil {
		return false
	}
	if s.checked[t.key] == string(want) {
		return true
	}
	got, err := fingerprint(filepath.Join(dir, shared))
	if err != nil || got != string(want) {
		return false
	}
	s.checked[t.key] = got
	return true
}

// shared is the part of a tree that machines have as hard links: most of it, and
// nothing that a system changes by itself.
const shared = "usr"

// fingerprint is a digest of the files of a folder, by what lstat(2) tells.
func fingerprint(dir string) (string, error) {
	digest := sha256.New()
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			st.Mtim = unix.Timespec{}
		}
		fmt.Fprintln(digest, name, st.Mode, st.Uid, st.Gid, st.Size, st.Mtim)
		return nil
	})
	return hex.EncodeToString(digest.Sum(nil)), err
}

// copyTree copies a tree to root, which is not there yet.
func copyTree(ctx context.Context, dir, root string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	argv := []string{"cp", "--archive", "--reflink=auto", "--target-directory=" + root, "--"}
	for _, entry := range entries {
		if entry.Name() != shared {
			argv = append(argv, filepath.Join(dir, entry.Name()))
		}
	}
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	for _, argv := range [][]string{
		argv,
		{"cp", "--archive", "--link", "--target-directory=" + root, "--", filepath.Join(dir, shared)},
	} {
		if out, err := isolated(ctx, argv...); err != nil {
			return fmt.Errorf("cannot copy %s: %w\n%s", dir, err, tail(out, 5))
		}
	}
	return nil
}

func (s *Store) build(ctx context.Context, t tree, dir string) error {
	unlock, err := lock(ctx, dir+".lock", unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	if s.pristine(t, dir) {
		return nil // somebody else was faster
	}
	s.logf("making the root tree of %s (once)", t.what)
	s.prune(t)
	unfinished := dir + ".new"
	for _, old := range []string{unfinished, dir} {
		if err := removeTree(old); err != nil {
			return err
		}
	}
	if err := t.make(ctx, unfinished); err != nil {
		return errors.Join(err, removeTree(unfinished))
	}
	if err := os.Rename(unfinished, dir); err != nil {
		return err
	}
	sum, err := fingerprint(filepath.Join(dir, shared))
	if err != nil {
		return err
	}
	return os.WriteFile(dir+".sum", []byte(sum), 0o644)
}

// prune removes trees of the same name that came from other recipes and that nobody uses.
func (s *Store) prune(t tree) {
	locks, err := filepath.Glob(filepath.Join(s.trees(), t.name+"-*.lock"))
	if err != nil {
		return
	}
	for _, file := range locks {
		dir := strings.TrimSuffix(file, ".lock")
		if filepath.Base(dir) == t.key {
			continue
		}
		unlock, ok := tryLock(file)
		if !ok {
			continue
		}
		// The sum first: without it, what is half removed is no tree.
		_ = os.Remove(dir + ".sum")
		if removeTree(dir) == nil && removeTree(dir+".new") == nil {
			_ = os.Remove(file)
		}
		unlock()
	}
}
