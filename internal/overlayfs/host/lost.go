package host

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// LostUsers finds the processes that hold an overlay which is in no mount table any more, as "umount --lazy" leaves it:
// by working directory, root, program, open file or a mapping that they can write to. Which upperdir such an overlay
// has cannot be seen: ask [InUse]. This process is left out, and kernel threads; those that even root may not look into
// are passed over. Without root it is ErrNotPermitted.
//
// One scan of /proc tells the mounts that are held. Only those that neither our mount table nor the process's own has
// are looked at, each once, and with a limit of time: a dead network filesystem is what is often unmounted lazily.
func LostUsers() ([]overlayfs.Process, error) {
	if os.Geteuid() != 0 {
		return nil, ErrNotPermitted
	}
	s := lostScan{known: map[int]bool{}, views: map[string]map[int]bool{}, overlay: map[int]bool{}}
	if err := readIDs("/proc/self/mountinfo", s.known); err != nil {
		return nil, err
	}
	pids, err := processes()
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		s.process(pid)
	}
	return s.lost(pids), nil
}

// statfsLimit is how long all filesystems together may take to say what they are.
const statfsLimit = time.Second

type lostScan struct {
	known   map[int]bool            // the mounts of our own table
	views   map[string]map[int]bool // those that others see, by viewOf
	overlay map[int]bool            // whether a mount that is in neither is an overlay
	waited  time.Duration           // for filesystems
	pid     int                     // whose view is the one below
	view    string
	found   []lostUse
}

// lostUse is how a process holds a mount.
type lostUse struct {
	pid, mount int
	link       string // in /proc/PID
}

// processes gives the numbers of all processes but this one.
func processes() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	pids := make([]int, 0, len(entries))
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// process notes which overlays that seem lost a process holds. Whatever fails, the process has gone.
func (s *lostScan) process(pid int) {
	dir := procDir(pid)
	if _, err := os.Readlink(dir + "exe"); err != nil {
		return // a kernel thread, gone, or not to be looked into
	}
	for _, link := range []string{"cwd", "root", "exe"} {
		s.hold(pid, link, mountOf(dir+link))
	}
	fds, _ := os.ReadDir(dir + "fd")
	for _, fd := range fds {
		// What has no path (sockets, pipes) is on no filesystem that could be mounted.
		if text, err := os.Readlink(dir + "fd/" + fd.Name()); err == nil && strings.HasPrefix(text, "/") {
			s.hold(pid, "fd/"+fd.Name(), mountOfFile(dir+"fdinfo/"+fd.Name()))
		}
	}
	s.mappings(pid)
}

// mappings looks at those that write to a file: "start-end perms offset dev inode   path".
func (s *lostScan) mappings(pid int) {
	dir := procDir(pid)
	text, _ := os.ReadFile(dir + "maps")
	for line := range bytes.Lines(text) {
		fields := bytes.SplitN(line, []byte(" "), 3)
		if len(fields) < 3 || !bytes.HasPrefix(fields[1], []byte("rw")) || !bytes.HasSuffix(fields[1], []byte("s")) ||
			!bytes.Contains(fields[2], []byte("/")) {
			continue
		}
		start, end, _ := bytes.Cut(fields[0], []byte("-"))
		// maps pads the addresses with zeros, the names of map_files do not.
		link := "map_files/" + string(bytes.TrimLeft(start, "0")) + "-" + string(bytes.TrimLeft(end, "0"))
		s.hold(pid, link, mountOf(dir+link))
	}
}

// hold takes in that a process holds a mount, 0 for none.
func (s *lostScan) hold(pid int, link string, mount int) {
	if mount == 0 || s.known[mount] || s.sees(pid, mount) {
		return
	}
	is, asked := s.overlay[mount]
	if !asked {
		is = s.isOverlay(procDir(pid)+link, mount)
	}
	if is {
		s.found = append(s.found, lostUse{pid, mount, link})
	}
}

// sees tells whether a mount is in a process's own mount table.
func (s *lostScan) sees(pid, mount int) bool {
	if s.pid != pid {
		s.pid, s.view = pid, viewOf(pid)
	}
	ids, read := s.views[s.view]
	if !read {
		ids = map[int]bool{}
		if readIDs(procDir(pid)+"mountinfo", ids) == nil && s.view != "" {
			s.views[s.view] = ids
		}
	}
	return ids[mount]
}

// viewOf names what a process sees of the mounts: its namespace, and there what lies below its root. It is "" for one
// that has gone.
func viewOf(pid int) string {
	space, err := os.Readlink(procDir(pid) + "ns/mnt")
	root, err2 := os.Readlink(procDir(pid) + "root")
	if err != nil || err2 != nil {
		return ""
	}
	return space + root
}

// isOverlay asks what filesystem a link of /proc leads to, and remembers it. What does not answer in time counts as
// another one; the question is left behind then.
func (s *lostScan) isOverlay(link string, mount int) bool {
	if s.waited >= statfsLimit {
		return false
	}
	type answer struct {
		is  bool
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		var st unix.Statfs_t
		err := unix.Statfs(link, &st)
		answers <- answer{err == nil && st.Type == unix.OVERLAYFS_SUPER_MAGIC, err}
	}()
	begin := time.Now()
	defer func() { s.waited += time.Since(begin) }()
	select {
	case a := <-answers:
		if a.err == nil { // else the process has let go of it, and another one may tell
			s.overlay[mount] = a.is
		}
		return a.is
	case <-time.After(statfsLimit - s.waited):
		return false
	}
}

// lost gives the processes that hold what is in no mount table at all: a process may hold what another namespace has
// mounted, or what lies outside its root.
func (s *lostScan) lost(pids []int) []overlayfs.Process {
	if len(s.found) == 0 {
		return nil
	}
	mounted, seen := map[int]bool{}, map[string]bool{}
	for _, pid := range append([]int{os.Getpid()}, pids...) {
		if view := viewOf(pid); !seen[view] {
			// That of a process that goes now is no longer of interest.
			seen[view] = readIDs(procDir(pid)+"mountinfo", mounted) == nil
		}
	}
	var out []overlayfs.Process
	for _, u := range s.found {
		// What was let go of in the meantime may have been unmounted as it should be.
		dir := procDir(u.pid)
		if mounted[u.mount] || mountOf(dir+u.link) != u.mount || len(out) > 0 && out[len(out)-1].PID == u.pid {
			continue
		}
		out = append(out, overlayfs.Process{PID: u.pid, Command: command(dir)})
	}
	return out
}

// mountOf gives the number of the mount that a link of /proc leads to, 0 if that cannot be told. It asks nothing of the
// filesystem that the kernel does not know.
func mountOf(link string) int {
	var sx unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, link, unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, unix.STATX_MNT_ID, &sx)
	if err != nil || sx.Mask&unix.STATX_MNT_ID == 0 {
		return 0
	}
	return int(sx.Mnt_id)
}

// mountOfFile reads the number of the mount of an open file in /proc/PID/fdinfo, without a look at the file.
func mountOfFile(fdinfo string) int {
	fd, err := unix.Open(fdinfo, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	var buf [128]byte // pos, flags and mnt_id come first
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return 0
	}
	_, after, _ := bytes.Cut(buf[:n], []byte("mnt_id:"))
	line, _, ended := bytes.Cut(after, []byte("\n"))
	id, err := strconv.Atoi(string(bytes.TrimSpace(line)))
	if err != nil || !ended {
		return 0
	}
	return id
}

// readIDs adds the numbers of the mounts in a mount table, the first field of each line.
func readIDs(mountinfo string, ids map[int]bool) error {
	text, err := readMountinfo(mountinfo)
	if err != nil {
		return err
	}
	for line := range bytes.Lines(text) {
		field, _, _ := bytes.Cut(line, []byte(" "))
		if id, err := strconv.Atoi(string(field)); err == nil {
			ids[id] = true
		}
	}
	return nil
}
