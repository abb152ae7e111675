package host

import (
	"maps"
	"math"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// Held remembers which directories the overlays of our own mount table have as upperdir and workdir. It is true for as
// long as they are mounted, whatever becomes of the names. The zero Held remembers nothing yet. Before Linux 6.8 it
// never does, for the numbers of mounts are given out again. It is not safe for use by several goroutines at once.
type Held struct {
	last uint64       // the newest mount that was there before what is known was looked at
	next uint64       // the same, for what is going to be known
	ids  map[int]Dirs // by the number in the mount table
}

// Dirs are the upperdir and workdir of an overlay.
type Dirs struct{ Upper, Work overlayfs.FileID }

// Begin has to be called before the mount table is read.
func (h *Held) Begin() {
	h.next = math.MaxUint64
	if last, ok := newest(h.last); ok {
		h.next = last
	}
}

// newest gives the newest mount of our namespace, which is last or a later one.
func newest(last uint64) (uint64, bool) {
	ok := listMounts(0, last, func(ids []uint64) {
		if len(ids) > 0 {
			last = ids[len(ids)-1]
		}
	})
	return last, ok
}

// Of gives the directories of those overlays of t that are known, by the number of the mount. t was read after Begin.
func (h *Held) Of(t *overlayfs.Table) map[int]Dirs {
	if len(h.ids) == 0 || h.next == math.MaxUint64 {
		h.ids = nil
		return nil
	}
	ok := true
	sure := listMounts(0, h.last, func(ids []uint64) {
		for _, unique := range ids {
			id, is := numberInTable(unique)
			ok = ok && is // else it has gone meanwhile, and its number may be another's
			delete(h.ids, id)
		}
	})
	if !ok || !sure {
		h.ids = nil
	}
	for id := range h.ids {
		if _, there := t.ByID(id); !there {
			delete(h.ids, id)
		}
	}
	return h.ids
}

// Learn takes in the directories of overlays that Of did not know, which were looked at after t was read.
func (h *Held) Learn(dirs map[int]Dirs) {
	if h.next == math.MaxUint64 {
		return
	}
	if h.ids == nil {
		h.ids = make(map[int]Dirs, len(dirs))
	}
	maps.Copy(h.ids, dirs)
	h.last, h.next = h.next, math.MaxUint64
}
