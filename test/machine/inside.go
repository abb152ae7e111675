package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Install copies a file of this computer to path in the machine, whose folder is there.
func (m *Machine) Install(file, path string, mode os.FileMode) error {
	root, err := os.OpenRoot(m.Root()) // an absolute symlink of the machine's must not lead to this computer's files
	if err != nil {
		return err
	}
	defer root.Close()
	in, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("cannot install %s: %w", path, err)
	}
	defer in.Close()
	path = strings.TrimPrefix(path, "/")
	if err := root.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // it may be a hard link
		return fmt.Errorf("cannot install %s: %w", path, err)
	}
	out, err := root.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, mode.Perm())
	if err != nil {
		return fmt.Errorf("cannot install %s: %w", path, err)
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Chmod(mode.Perm()), out.Close()); err != nil { // whatever the umask here
		return fmt.Errorf("cannot install %s: %w", path, err)
	}
	return nil
}

// InstallTree copies a folder of this computer to path in the machine. A folder
// that is not there is an empty one.
func (m *Machine) InstallTree(folder, path string) error {
	root, err := os.OpenRoot(m.Root())
	if err != nil {
		return err
	}
	defer root.Close()
	path = strings.TrimPrefix(path, "/")
	if err := root.RemoveAll(path); err != nil {
		return fmt.Errorf("cannot install %s: %w", path, err)
	}
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	source := os.DirFS(folder)
	return fs.WalkDir(source, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return root.MkdirAll(filepath.Join(path, name), 0o755)
		}
		data, err := fs.ReadFile(source, name)
		if err != nil {
			return err
		}
		return root.WriteFile(filepath.Join(path, name), data, 0o644)
	})
}

// Command prepares a command in the machine, to be used like one of [exec.CommandContext].
// It runs as root with a plain environment, in "/". When ctx ends, it is killed with its children.
func (m *Machine) Command(ctx context.Context, argv ...string) *exec.Cmd {
	leader := 0
	if m.running != nil {
		leader = m.running.leader
	}
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--target", fmt.Sprint(leader), "--all", "--"}, argv...)...)
	cmd.Env = plainEnv()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the group spans the namespaces
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = waitDelay
	return cmd
}

// KillCommand kills what a started command of Command runs in the machine, in
// the middle of whatever it does. Wait for the command as usual.
func (m *Machine) KillCommand(cmd *exec.Cmd) error {
	// nsenter itself stays to reap it, so that its end is known from Wait.
	killed := false
	for _, p := range descendants(cmd.Process.Pid) {
		if err := unix.Kill(p.pid, unix.SIGKILL); err == nil {
			killed = true
		} else if !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("cannot kill process %d: %w", p.pid, err)
		}
	}
	if killed {
		return nil
	}
	// Not forked yet, or over.
	if err := cmd.Cancel(); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("cannot kill %v: %w", cmd.Args, err)
	}
	return nil
}

// WriteFile writes a file in the running machine, folders above it included, as root's.
func (m *Machine) WriteFile(ctx context.Context, path string, data []byte, mode os.FileMode) error {
	cmd := m.Command(ctx, "sh", "-euc", `mkdir -p "$(dirname -- "$1")"; cat >"$1"; chmod "$2" "$1"`,
		"sh", path, fmt.Sprintf("%o", mode.Perm()))
	cmd.Stdin = strings.NewReader(string(data))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot write %s in the machine: %w: %s", path, err, tail(out, 3))
	}
	return nil
}
