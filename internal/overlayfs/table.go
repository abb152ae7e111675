package overlayfs

import (
	"io"
	"path"
	"slices"
	"strings"
)

// Table is a mount table, indexed.
//
// A mount can be in the table and yet out of reach: a later mount over a directory above hides it. At, Top and
// Covering answer for what path resolution reaches now, from the root of the process whose table it is; Hidden has
// the others. The paths asked for must be absolute, and free of symlinks if the answer is to be true.
type Table struct {
	mounts []Mount
	byID   map[int]int32
	// points are all mountpoints in byte order, so those below a path stand together; at has the mounts of each.
	points []string
	at     map[string]place
}

// place is what the table knows of one mountpoint: indexes into mounts.
type place struct {
	all   []int32 // in the order of the table
	stack []int32 // those in reach, bottom to top
}

// ParseTable reads and indexes a mount table, /proc/PID/mountinfo.
func ParseTable(r io.Reader) (*Table, error) {
	mounts, err := ParseMounts(r)
	if err != nil {
		return nil, err
	}
	t := &Table{
		mounts: mounts,
		byID:   make(map[int]int32, len(mounts)),
		points: make([]string, 0, len(mounts)),
		at:     make(map[string]place, len(mounts)),
	}
	singles := make([]int32, len(mounts))
	for i := range mounts {
		t.byID[mounts[i].ID] = int32(i)
		p, known := t.at[mounts[i].Mountpoint]
		if known {
			p.all = append(p.all, int32(i))
		} else {
			t.points = append(t.points, mounts[i].Mountpoint)
			singles[i] = int32(i)
			p.all = singles[i : i+1 : i+1] // most places have one mount: no allocation for these
		}
		t.at[mounts[i].Mountpoint] = p
	}
	slices.Sort(t.points)
	for _, point := range t.points { // a directory sorts before what is below it
		p := t.at[point]
		p.stack = t.resolve(point, p.all)
		t.at[point] = p
	}
	return t, nil
}

// resolve puts the mounts at point into the order in which path resolution goes through them: from the mount that
// holds the directory itself to the one mounted on it, to the one mounted on that.
func (t *Table) resolve(point string, all []int32) []int32 {
	var below int
	if point == "/" {
		root := slices.IndexFunc(all, func(i int32) bool {
			_, ok := t.byID[t.mounts[i].Parent]
			return !ok || t.mounts[i].Parent == t.mounts[i].ID
		})
		if root < 0 {
			return nil
		}
		below = t.mounts[all[root]].ID
		if len(all) == 1 {
			return all
		}
		return t.climb([]int32{all[root]}, below, all)
	}
	holder, ok := t.reach(path.Dir(point))
	if !ok {
		return nil
	}
	below = t.mounts[holder].ID
	if len(all) == 1 {
		if t.mounts[all[0]].Parent == below {
			return all
		}
		return nil
	}
	return t.climb(nil, below, all)
}

func (t *Table) climb(stack []int32, below int, all []int32) []int32 {
	for range all { // each mount is on the stack once at most, so a cycle of parents ends here
		next := slices.IndexFunc(all, func(i int32) bool {
			return t.mounts[i].Parent == below && !slices.Contains(stack, i)
		})
		if next < 0 {
			break
		}
		stack = append(stack, all[next])
		below = t.mounts[all[next]].ID
	}
	return stack
}

// reach finds the mount that path resolution ends on at dir.
func (t *Table) reach(dir string) (int32, bool) {
	for {
		if stack := t.at[dir].stack; len(stack) > 0 {
			if dir == "/" {
				// "/" is where a process stands, not a name it looks up: what is mounted on top of its own
				// root afterwards is never entered.
				return stack[0], true
			}
			return stack[len(stack)-1], true
		}
		if dir == "/" || dir == "." || dir == "" {
			return 0, false
		}
		dir = path.Dir(dir)
	}
}

// All returns every mount in the order of the table. The slice is the table's own: do not change it.
func (t *Table) All() []Mount { return slices.Clip(t.mounts) }

// At returns the mounts in reach at path, bottom to top: the first is what was mounted first, the last is what
// path resolution ends on and what an unmount takes away.
func (t *Table) At(path string) []Mount { return t.pick(t.at[clean(path)].stack) }

// AppendAt appends what At returns to mounts. It spares those who ask for thousands of paths the memory.
func (t *Table) AppendAt(mounts []Mount, path string) []Mount {
	for _, i := range t.at[clean(path)].stack {
		mounts = append(mounts, t.mounts[i])
	}
	return mounts
}

// Top returns the topmost mount in reach at path.
func (t *Table) Top(path string) (Mount, bool) {
	stack := t.at[clean(path)].stack
	if len(stack) == 0 {
		return Mount{}, false
	}
	return t.mounts[stack[len(stack)-1]], true
}

// Hidden returns the mounts at path that a mount over a directory above has put out of reach. They are alive: an
// overlay among them still uses its upperdir.
func (t *Table) Hidden(path string) []Mount {
	p := t.at[clean(path)]
	var hidden []int32
	for _, i := range p.all {
		if !slices.Contains(p.stack, i) {
			hidden = append(hidden, i)
		}
	}
	return t.pick(hidden)
}

// Below returns the mounts whose mountpoint lies strictly below path, parents first, hidden ones included.
func (t *Table) Below(path string) []Mount {
	prefix := strings.TrimSuffix(clean(path), "/") + "/"
	from, _ := slices.BinarySearch(t.points, prefix)
	var below []Mount
	for _, point := range t.points[from:] {
		if !strings.HasPrefix(point, prefix) {
			break
		}
		if point != prefix { // "/" is not below itself
			below = append(below, t.pick(t.at[point].all)...)
		}
	}
	return below
}

// Place says where a path that lies on the mount is on its filesystem. Seen through any mount of the same filesystem, a
// bind mount for one, the place is the same.
func (m Mount) Place(at string) (dev, place string) {
	rel := strings.TrimPrefix(strings.TrimPrefix(at, m.Mountpoint), "/")
	return m.Dev, path.Join("/", m.Root, rel)
}

// Covering returns the mount that path lies on, which is the one at path itself if there is any.
func (t *Table) Covering(path string) (Mount, bool) {
	i, ok := t.reach(clean(path))
	if !ok {
		return Mount{}, false
	}
	return t.mounts[i], true
}

// ByID returns the mount of that ID, as statx(2) gives it.
func (t *Table) ByID(id int) (Mount, bool) {
	i, ok := t.byID[id]
	if !ok {
		return Mount{}, false
	}
	return t.mounts[i], true
}

func (t *Table) pick(indexes []int32) []Mount {
	if len(indexes) == 0 {
		return nil
	}
	out := make([]Mount, len(indexes))
	for k, i := range indexes {
		out[k] = t.mounts[i]
	}
	return out
}

// clean is path.Clean for those paths that need it; nearly none does, and the table is asked often.
func clean(p string) string {
	if strings.HasPrefix(p, "/") && (p == "/" || p[len(p)-1] != '/') &&
		!strings.Contains(p, "//") && !strings.Contains(p, "/.") {
		return p
	}
	return path.Clean(p)
}
