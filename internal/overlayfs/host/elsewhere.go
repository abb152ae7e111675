package host

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// Namespaces remembers of other mount namespaces which overlays they hold, for as long as no mount comes or goes there.
// The zero Namespaces remembers nothing yet; a nil one never does. It is not safe for use by several goroutines at
// once.
type Namespaces struct {
	known map[uint64]holding // by the number of the namespace
}

// holding is which writable overlays a namespace has.
type holding struct {
	set  mountSet
	devs []dev
}

// dev is the device number of a super block, as in "0:45".
type dev struct{ major, minor uint32 }

// Uses returns the live writable overlays that matter for mounts that are to come up, while none goes down: those of t,
// the own mount table, hidden ones included, and those of all other namespaces that are not copies of ours. A copy uses
// what ours uses, and that is told already. Follows is not told: use [OverlayUses] where something goes down.
//
// The caller knows which directories the upperdirs and workdirs of t are, the zero FileID for what is none. Linux 6.11
// and later tell without a look at their mount tables that namespaces have not changed.
func (n *Namespaces) Uses(t *overlayfs.Table, id func(dir string) overlayfs.FileID) ([]overlayfs.Use, error) {
	own, others, err := namespaces()
	if err != nil {
		return nil, err
	}
	mounts := t.All()
	uses := make([]overlayfs.Use, 0, len(mounts))
	ours := make(map[dev]bool, len(mounts))
	for i := range mounts {
		m := &mounts[i]
		if m.Overlay == nil || m.Overlay.Upper == "" {
			continue
		}
		uses = append(uses, overlayfs.Use{
			Mountpoint: m.Mountpoint, Source: m.Source, Dev: m.Dev, Namespace: own,
			Upper: id(m.Overlay.Upper), Work: id(m.Overlay.Work),
		})
		if d, ok := parseDev([]byte(m.Dev)); ok {
			ours[d] = true
		}
	}
	f := finder{known: make(map[string]overlayfs.Use), peers: make(map[string]int), masters: make(map[int]int), uses: uses}
	now := make(map[uint64]holding, len(others))
	inOrder(len(others), func(i int) found { return n.find(others[i], ours) }, func(at found) {
		if at.root >= 0 {
			f.add(at.mounts, at.pid, at.id, at.root)
			_ = unix.Close(at.root)
		}
		if at.now.set.namespace != 0 {
			now[at.now.set.namespace] = at.now
		}
	})
	if n != nil {
		n.known = now
	}
	return f.uses, nil
}

// found is what was seen of a namespace.
type found struct {
	pid    int
	id     uint64
	root   int               // descriptor of the root directory of the mounts' paths, -1 where there are none
	mounts []overlayfs.Mount // writable overlays that are no copies of ours
	now    holding           // what to remember; of namespace 0: nothing
}

// find looks for overlays in a namespace that are not ours.
func (n *Namespaces) find(space inhabited, ours map[dev]bool) found {
	for _, pid := range space.pids { // if the first went away meanwhile, another one in it will do
		var before mountSet
		var asked bool
		if n != nil {
			if before, asked = mountsOf(pid); asked {
				h, known := n.known[before.namespace]
				strange := func(d dev) bool { return !ours[d] }
				if known && h.set == before && !slices.ContainsFunc(h.devs, strange) {
					return found{root: -1, now: h}
				}
			}
		}
		at, ok := read(pid, ours)
		if !ok {
			continue
		}
		at.id = space.id
		if asked {
			if after, ok := mountsOf(pid); ok && after == before {
				at.now.set = after
			}
		}
		return at
	}
	return found{root: -1}
}

// read reads the mount table of a process for writable overlays. It leaves those that are copies of ours unparsed.
func read(pid int, ours map[dev]bool) (at found, ok bool) {
	at = found{pid: pid, root: -1}
	text, err := readWhole(procDir(pid) + "mountinfo")
	if err != nil {
		return at, false
	}
	var strange []byte
	for line := range bytes.Lines(text) {
		if !bytes.Contains(line, []byte(overlayMark)) || !bytes.Contains(line, []byte("upperdir=")) {
			continue
		}
		d, ok := devOf(line)
		at.now.devs = append(at.now.devs, d)
		if !ok || !ours[d] {
			strange = append(strange, line...)
		}
	}
	if len(strange) == 0 {
		return at, true
	}
	// The kernel wrote it; what cannot be read has no overlays that could be told.
	if at.mounts, err = overlayfs.ParseMounts(bytes.NewReader(strange)); err != nil {
		return at, true
	}
	if at.root, err = openRoot(procDir(pid)); err != nil {
		return at, false
	}
	return at, true
}

// devOf reads the third field of a line of the mount table.
func devOf(line []byte) (dev, bool) {
	for range 2 {
		i := bytes.IndexByte(line, ' ')
		if i < 0 {
			return dev{}, false
		}
		line = line[i+1:]
	}
	i := bytes.IndexByte(line, ' ')
	if i < 0 {
		return dev{}, false
	}
	return parseDev(line[:i])
}

func parseDev(text []byte) (dev, bool) {
	major, minor, ok := bytes.Cut(text, []byte(":"))
	x, err := strconv.ParseUint(string(major), 10, 32)
	y, err2 := strconv.ParseUint(string(minor), 10, 32)
	return dev{uint32(x), uint32(y)}, ok && errors.Join(err, err2) == nil
}

// readWhole reads a file of /proc, whose size is not known beforehand.
func readWhole(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text := bytes.NewBuffer(make([]byte, 0, 256<<10))
	_, err = io.Copy(text, f)
	return text.Bytes(), err
}
