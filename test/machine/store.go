package machine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Store is a cache folder with root trees and the machines made from them.
// Several programs may use one folder at the same time.
type Store struct {
	dir    string
	logf   func(format string, args ...any)
	slots  chan struct{}
	cgroup cgroups

	mu      sync.Mutex
	checked map[Suite]bool // trees found pristine by this program
}

// DefaultDir is where trees are kept: $OVERLAYD_CACHE, else overlayd in the
// user's cache folder.
func DefaultDir() (string, error) {
	if dir := os.Getenv("OVERLAYD_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cannot find a cache folder: %w; set OVERLAYD_CACHE", err)
	}
	return filepath.Join(dir, "overlayd"), nil
}

// Missing says why no machine can run here, or nil.
func Missing() error {
	if os.Geteuid() != 0 {
		return errors.New("booting machines needs root")
	}
	for _, program := range []string{"systemd-nspawn", "mmdebstrap", "unshare", "nsenter", "cp"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("booting machines needs %s: run test/setup.sh", program)
		}
	}
	_, err := ownCgroups()
	return err
}

// Open opens the cache folder dir, which it makes if need be, and removes what
// killed programs left there. logf tells what takes long. As many machines as the
// computer has processors, but at least two, run at a time.
func Open(ctx context.Context, dir string, logf func(format string, args ...any)) (*Store, error) {
	if err := Missing(); err != nil {
		return nil, err
	}
	cg, err := ownCgroups()
	if err != nil {
		return nil, err
	}
	s := &Store{
		dir: dir, logf: logf, slots: make(chan struct{}, max(2, runtime.NumCPU())), cgroup: cg,
		checked: make(map[Suite]bool),
	}
	for _, sub := range []string{s.trees(), s.machines()} {
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return nil, fmt.Errorf("cannot make cache folder: %w", err)
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return nil, fmt.Errorf("cannot look at the filesystem of %s: %w", dir, err)
	}
	if st.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return nil, fmt.Errorf("cannot keep machines in %s: it is on an overlay, which cannot hold the upperdir of another; "+
			"set OVERLAYD_CACHE to a folder on ext4, xfs, btrfs or tmpfs", dir)
	}
	return s, s.sweep(ctx)
}

func (s *Store) trees() string    { return filepath.Join(s.dir, "trees") }
func (s *Store) machines() string { return filepath.Join(s.dir, "machines") }

// Tree makes the pristine tree of a suite unless the cache has it. New does so
// by itself; call Tree to have the waiting done before the clock of a test starts.
func (s *Store) Tree(ctx context.Context, suite Suite) error {
	return s.withTree(ctx, suite, func(string) error { return nil })
}

// withTree calls use with the tree of a suite, which nobody removes or replaces meanwhile.
func (s *Store) withTree(ctx context.Context, suite Suite, use func(tree string) error) error {
	tree := filepath.Join(s.trees(), suite.key())
	for {
		unlock, err := lock(ctx, tree+".lock", unix.LOCK_SH)
		if err != nil {
			return err
		}
		if s.pristine(suite, tree) {
			defer unlock()
			return use(tree)
		}
		unlock()
		if err := s.build(ctx, suite, tree); err != nil {
			return fmt.Errorf("cannot make a root tree of Debian %s: %w", suite, err)
		}
	}
}

// pristine reports whether the tree is there and as it was made. Machines share
// the files below /usr with it by hard links: one that wrote into such a file in
// place, instead of replacing it, has spoilt the tree, which is then made anew.
// One look per suite and run will do.
func (s *Store) pristine(suite Suite, tree string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.checked[suite] {
		return true
	}
	want, err := os.ReadFile(tree + ".sum")
	if err != nil {
		return false
	}
	got, err := fingerprint(filepath.Join(tree, shared))
	s.checked[suite] = err == nil && got == string(want)
	return s.checked[suite]
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

// copyTree makes a machine's root directory from a pristine tree.
func copyTree(ctx context.Context, tree, root string) error {
	entries, err := os.ReadDir(tree)
	if err != nil {
		return err
	}
	argv := []string{"cp", "--archive", "--reflink=auto", "--target-directory=" + root, "--"}
	for _, entry := range entries {
		if entry.Name() != shared {
			argv = append(argv, filepath.Join(tree, entry.Name()))
		}
	}
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	for _, argv := range [][]string{
		argv,
		{"cp", "--archive", "--link", "--target-directory=" + root, "--", filepath.Join(tree, shared)},
	} {
		if out, err := isolated(ctx, argv...); err != nil {
			return fmt.Errorf("cannot copy %s: %w\n%s", tree, err, tail(out, 5))
		}
	}
	return nil
}

func (s *Store) build(ctx context.Context, suite Suite, tree string) error {
	unlock, err := lock(ctx, tree+".lock", unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	if s.pristine(suite, tree) {
		return nil // somebody else was faster
	}
	s.logf("making the root tree of Debian %s (once; takes a minute)", suite)
	s.prune(suite)
	unfinished := tree + ".new"
	for _, dir := range []string{unfinished, tree} {
		if err := removeTree(dir); err != nil {
			return err
		}
	}
	if out, err := isolated(ctx, suite.recipe(unfinished)...); err != nil {
		return fmt.Errorf("%s failed: %w\n%s", strings.Join(suite.recipe(unfinished), " "), err, tail(out, 20))
	}
	if err := finish(unfinished); err != nil {
		return err
	}
	if err := os.Rename(unfinished, tree); err != nil {
		return err
	}
	sum, err := fingerprint(filepath.Join(tree, shared))
	if err != nil {
		return err
	}
	return os.WriteFile(tree+".sum", []byte(sum), 0o644)
}

// prune removes trees of the suite that came from other recipes and that nobody uses.
func (s *Store) prune(suite Suite) {
	locks, err := filepath.Glob(filepath.Join(s.trees(), string(suite)+"-*.lock"))
	if err != nil {
		return
	}
	for _, file := range locks {
		tree := strings.TrimSuffix(file, ".lock")
		if filepath.Base(tree) == suite.key() {
			continue
		}
		unlock, ok := tryLock(file)
		if !ok {
			continue
		}
		if removeTree(tree) == nil && removeTree(tree+".new") == nil {
			_ = os.Remove(tree + ".sum")
			_ = os.Remove(file)
		}
		unlock()
	}
}

// sweep removes the machines of programs that are gone. A machine is alive
// while its program holds the lock in its folder.
func (s *Store) sweep(ctx context.Context) error {
	unlock, err := lock(ctx, s.machines()+".lock", unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	entries, err := os.ReadDir(s.machines())
	if err != nil {
		return err
	}
	for _, entry := range entries {
		dir := filepath.Join(s.machines(), entry.Name())
		unlock, ok := tryLock(filepath.Join(dir, "lock"))
		if !ok {
			continue
		}
		s.logf("removing %s, left by a run that was killed", dir)
		err := s.discard(entry.Name())
		unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// discard removes all that is left of a machine without processes.
func (s *Store) discard(name string) error {
	s.cgroup.remove(name)
	// systemd-nspawn leaves an empty folder per machine in this computer's /run.
	_ = os.Remove(filepath.Join("/run/systemd/nspawn/propagate", name))
	return removeTree(filepath.Join(s.machines(), name))
}

// lock takes a lock that goes with the process. Waiting for another program
// that makes a tree is bounded by ctx.
func lock(ctx context.Context, file string, how int) (unlock func(), err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	var flockErr error
	done := make(chan struct{})
	go func() {
		flockErr = unix.Flock(int(f.Fd()), how)
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		// The waiter ends when it gets the lock, and lets go at once.
		go func() {
			<-done
			f.Close()
		}()
		return nil, fmt.Errorf("cannot lock %s: %w", file, ctx.Err())
	}
	if flockErr != nil {
		f.Close()
		return nil, fmt.Errorf("cannot lock %s: %w", file, flockErr)
	}
	return func() { f.Close() }, nil
}

func tryLock(file string) (unlock func(), ok bool) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, false
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		f.Close()
		return nil, false
	}
	return func() { f.Close() }, true
}

// removeTree removes a tree unless something is mounted in it: then it would
// remove what is mounted there.
func removeTree(dir string) error {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); len(fields) > 4 && (fields[4] == dir || strings.HasPrefix(fields[4], dir+"/")) {
			return fmt.Errorf("cannot remove %s: something is mounted at %s", dir, fields[4])
		}
	}
	if err := os.RemoveAll(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
