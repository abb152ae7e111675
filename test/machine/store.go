package machine

import (
	"context"
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
	checked map[string]string // sums of the trees that this program found pristine, by key
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
		checked: make(map[string]string),
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
	for {
		f, err := flock(ctx, file, how)
		if err != nil {
			return nil, fmt.Errorf("cannot lock %s: %w", file, err)
		}
		// A lock file that was pruned while this one waited for it locks nothing.
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Nlink > 0 {
			return func() { f.Close() }, err
		}
		f.Close()
	}
}

func flock(ctx context.Context, file string, how int) (*os.File, error) {
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
		return nil, ctx.Err()
	}
	if flockErr != nil {
		f.Close()
		return nil, flockErr
	}
	return f, nil
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
