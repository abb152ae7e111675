package reconcile

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// What a reset takes out of the way lies beside the upperdir, under a dated name: UPPER.reset-DATE is kept for somebody
// to look at, UPPER.trash-DATE is about to be deleted. A power cut leaves the name, so it says what it is for.
const (
	asideKept  = ".reset-"
	asideTrash = ".trash-"
	asideDate  = "20060102T150405Z"
)

// asideRoom is how many bytes a name must leave for what is added to it, a number included.
const asideRoom = len(asideTrash) + len(asideDate) + len(".999")

var asideForm = regexp.MustCompile(`^(.+)\.(reset|trash)-[0-9]{8}T[0-9]{6}Z(?:\.[0-9]+)?$`)

// SetAside tells of a directory's name whether a reset gave it, for which upperdir or workdir, and whether it was
// kept on purpose; else the deletion was interrupted.
func SetAside(name string) (of string, kept, ok bool) {
	m := asideForm.FindStringSubmatch(name)
	if m == nil {
		return "", false, false
	}
	return m[1], m[2] == "reset", true
}

// asideName gives a name beside dir that is not taken.
func asideName(dir string, keep bool, now time.Time) string {
	kind := asideTrash
	if keep {
		kind = asideKept
	}
	stem := filepath.Base(dir) + kind + now.UTC().Format(asideDate)
	name := stem
	for n := 2; ; n++ {
		if _, err := os.Lstat(filepath.Join(filepath.Dir(dir), name)); err != nil {
			return name // a mistake here is found by mkdir(2)
		}
		name = fmt.Sprintf("%s.%d", stem, n)
	}
}

// trashFinder lists what interrupted resets were about to delete. Thousands of clients may lie in one directory, which
// is read once.
type trashFinder struct {
	h    *Host
	seen map[string]map[string][]string // directory → upperdir or workdir in it → what is left of it
}

func (f *trashFinder) of(dirs ...string) []string {
	var out []string
	for _, dir := range dirs {
		parent := filepath.Dir(dir)
		if f.seen[parent] == nil {
			f.seen[parent] = map[string][]string{}
			entries, err := os.ReadDir(f.h.inRoot(parent))
			if err != nil {
				continue // not there, or not ours to see: then nothing of ours is left there
			}
			for _, e := range entries {
				if of, kept, ok := SetAside(e.Name()); ok && !kept {
					f.seen[parent][of] = append(f.seen[parent][of], filepath.Join(parent, e.Name()))
				}
			}
		}
		out = append(out, f.seen[parent][filepath.Base(dir)]...)
	}
	return out
}
