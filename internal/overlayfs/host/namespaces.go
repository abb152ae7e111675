package host

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Namespace is another mount namespace, seen through one process in it.
type Namespace struct {
	PID   int
	ID    uint64 // inode number of the namespace
	Table []byte // its mount table, /proc/PID/mountinfo
	Root  int    // descriptor of the process's root directory, where the paths of the table begin
}

// OtherNamespaces calls visit for each mount namespace but our own, once for each. It reads a mount table for each: ask
// when something is to change, not for each look. Without root, those of other users' processes are left out. What the
// namespace holds is good until visit returns.
func OtherNamespaces(visit func(Namespace)) error {
	own, err := namespaceOf("self")
	if err != nil {
		return fmt.Errorf("cannot tell the own mount namespace: %w", err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return fmt.Errorf("cannot look for mount namespaces: %w", err)
	}
	seen := map[uint64]bool{own: true}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		id, err := namespaceOf(e.Name())
		if err != nil || seen[id] { // gone, or not ours to look at
			continue
		}
		seen[id] = look(pid, id, visit) // if that process went away meanwhile, another one in it will do
	}
	return nil
}

func look(pid int, id uint64, visit func(Namespace)) bool {
	dir := fmt.Sprintf("/proc/%d/", pid)
	table, err := os.ReadFile(dir + "mountinfo")
	if err != nil {
		return false
	}
	root, err := unix.Open(dir+"root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(root)
	visit(Namespace{pid, id, table, root})
	return true
}

// namespaceOf returns the inode of a process's mount namespace.
func namespaceOf(pid string) (uint64, error) {
	text, err := os.Readlink("/proc/" + pid + "/ns/mnt")
	if err != nil {
		return 0, err
	}
	id := strings.TrimSuffix(strings.TrimPrefix(text, "mnt:["), "]")
	return strconv.ParseUint(id, 10, 64)
}
