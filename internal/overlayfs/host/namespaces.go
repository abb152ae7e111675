package host

import (
	"fmt"
	"os"
	"runtime"
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
	_, others, err := namespaces()
	if err != nil {
		return err
	}
	inOrder(len(others), func(i int) *Namespace {
		for _, pid := range others[i].pids { // if the first went away meanwhile, another one in it will do
			if n := look(pid, others[i].id); n != nil {
				return n
			}
		}
		return nil
	}, func(n *Namespace) {
		if n != nil {
			visit(*n)
			_ = unix.Close(n.Root)
		}
	})
	return nil
}

// inOrder makes things for the numbers below n, some at once, for the kernel writes mount tables on several processors,
// and hands them on in the order of their numbers. Few are held at a time: a table can have megabytes.
func inOrder[T any](n int, produce func(i int) T, consume func(T)) {
	made := make([]chan T, n)
	start := func(i int) {
		if i < n {
			made[i] = make(chan T, 1)
			go func() { made[i] <- produce(i) }()
		}
	}
	ahead := min(4, runtime.GOMAXPROCS(0))
	for i := range ahead {
		start(i)
	}
	for i := range n {
		thing := <-made[i]
		start(i + ahead)
		consume(thing)
	}
}

// inhabited is a mount namespace with the processes in it.
type inhabited struct {
	id   uint64
	pids []int
}

// namespaces gives our own mount namespace, and all others in the order of their first processes.
func namespaces() (own uint64, others []inhabited, err error) {
	if own, err = namespaceOf("self"); err != nil {
		return 0, nil, fmt.Errorf("cannot tell the own mount namespace: %w", err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, nil, fmt.Errorf("cannot look for mount namespaces: %w", err)
	}
	at := map[uint64]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		id, err := namespaceOf(e.Name())
		if err != nil || id == own { // gone, or not ours to look at
			continue
		}
		i, known := at[id]
		if !known {
			i = len(others)
			at[id] = i
			others = append(others, inhabited{id: id})
		}
		others[i].pids = append(others[i].pids, pid)
	}
	return own, others, nil
}

// look reads the mount table of a process; nil if the process has gone, or is not ours to look at.
func look(pid int, id uint64) *Namespace {
	dir := procDir(pid)
	table, err := os.ReadFile(dir + "mountinfo")
	if err != nil {
		return nil
	}
	root, err := openRoot(dir)
	if err != nil {
		return nil
	}
	return &Namespace{pid, id, table, root}
}

func procDir(pid int) string { return "/proc/" + strconv.Itoa(pid) + "/" }

func openRoot(procDir string) (int, error) {
	return unix.Open(procDir+"root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
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
