package host

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// ErrNotPermitted says that only root may look.
var ErrNotPermitted = errors.New("not permitted: only root sees what other users' processes hold")

// Users finds the processes that hold one of the mounts (mount ID → its mountpoint): by working directory, root,
// program, open file or mapping. One scan of /proc serves all of them. This process is left out, and kernel threads;
// those that even root may not look into are passed over, unless that is all of them: ErrNotPermitted.
//
// Links are read first and followed only where the text lies below one of the mountpoints, so that a process on a
// dead network filesystem elsewhere does not hang the scan. For the same reason nothing is synced or automounted.
func Users(mountIDs map[int]string) (map[int][]overlayfs.Process, error) {
	if os.Geteuid() != 0 {
		return nil, ErrNotPermitted
	}
	s := scan{points: make(map[string]bool), ids: mountIDs, users: make(map[int][]overlayfs.Process)}
	for _, point := range mountIDs {
		s.points[point] = true
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if err := s.process(pid); err != nil {
			return nil, err
		}
	}
	if s.denied > 0 && s.seen == 0 {
		return nil, ErrNotPermitted
	}
	for _, users := range s.users { // the entries of /proc come in the order of names
		slices.SortFunc(users, func(a, b overlayfs.Process) int { return a.PID - b.PID })
	}
	return s.users, nil
}

type scan struct {
	points map[string]bool
	ids    map[int]string
	users  map[int][]overlayfs.Process

	seen, denied int
}

func (s *scan) process(pid int) error {
	dir := "/proc/" + strconv.Itoa(pid)
	exe, err := os.Readlink(dir + "/exe")
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ESRCH):
		return nil // a kernel thread, or gone by now
	case errors.Is(err, fs.ErrPermission):
		s.denied++ // it has a capability that this process lacks, as those outside a container may
		return nil
	case err != nil:
		return err
	}
	s.seen++
	held := make(map[int]bool)
	s.look(dir+"/exe", exe, held)
	for _, link := range []string{"cwd", "root"} {
		if text, err := os.Readlink(dir + "/" + link); err == nil {
			s.look(dir+"/"+link, text, held)
		}
	}
	fds, _ := os.ReadDir(dir + "/fd") // gone: no users
	for _, fd := range fds {
		path := filepath.Join(dir, "fd", fd.Name())
		if text, err := os.Readlink(path); err == nil {
			s.look(path, text, held)
		}
	}
	s.mappings(dir, held)
	if len(held) == 0 {
		return nil
	}
	p := overlayfs.Process{PID: pid, Command: command(dir)}
	for id := range held {
		s.users[id] = append(s.users[id], p)
	}
	return nil
}

// look follows link, whose text is given, if that lies on one of the mountpoints.
func (s *scan) look(link, text string, held map[int]bool) {
	if !s.below(text) {
		return
	}
	var sx unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, link, unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, unix.STATX_MNT_ID, &sx)
	if err != nil || sx.Mask&unix.STATX_MNT_ID == 0 {
		return
	}
	if _, ok := s.ids[int(sx.Mnt_id)]; ok {
		held[int(sx.Mnt_id)] = true
	}
}

func (s *scan) below(text string) bool {
	if !strings.HasPrefix(text, "/") { // socket:[…], and what is out of this root's reach
		return false
	}
	text = strings.TrimSuffix(text, " (deleted)")
	for {
		if s.points[text] {
			return true
		}
		if text == "/" {
			return false
		}
		text = filepath.Dir(text)
	}
}

// mappings reads /proc/PID/maps, one file for all mappings, and follows only those that matter:
// "start-end perms offset dev inode   path".
func (s *scan) mappings(dir string, held map[int]bool) {
	text, err := os.ReadFile(dir + "/maps")
	if err != nil {
		return
	}
	for line := range bytes.Lines(text) {
		at := bytes.IndexByte(line, '/')
		if at < 0 {
			continue
		}
		path := strings.TrimSuffix(string(line[at:]), "\n")
		if !s.below(strings.ReplaceAll(path, `\012`, "\n")) {
			continue
		}
		addresses, _, _ := strings.Cut(string(line), " ")
		start, end, _ := strings.Cut(addresses, "-")
		// maps pads the addresses with zeros, the names of map_files do not.
		name := strings.TrimLeft(start, "0") + "-" + strings.TrimLeft(end, "0")
		s.look(dir+"/map_files/"+name, path, held)
	}
}

// command is what to call the process to people: its command line without what would disturb a terminal.
func command(dir string) string {
	const longest = 200
	text, _ := os.ReadFile(dir + "/cmdline")
	if len(text) == 0 {
		text, _ = os.ReadFile(dir + "/comm")
	}
	line := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(text), "?"))
	line = strings.TrimSpace(line)
	if len(line) > longest {
		line = strings.ToValidUTF8(line[:longest], "") + "…"
	}
	return line
}
