package usage

import (
	"cmp"
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// Overlay is an overlay to measure, or one whose mountpoint may be a layer of these.
type Overlay struct {
	Address    string
	Mountpoint string
	Config     overlayfs.Config
	Mounted    bool
}

// Client is what one client takes.
type Client struct {
	Overlay
	// Stored is what the upperdir stores; the workdir, the kernel's scratch, does not count.
	Stored Usage
	// FullCopy is what a copy of all that the client sees would take, with its holes and hard links.
	FullCopy int64
	// StoredErr and FullErr say why the one or the other could not be told.
	StoredErr, FullErr error
}

// Base is a layer that clients share.
type Base struct {
	Path   string
	Stored Usage
	Err    error // why it could not be counted
}

// Report is what clients and their bases take. An inode that is in several of them counts where it comes first: bases
// before clients, each in their order.
type Report struct {
	Clients []Client // as given
	Bases   []Base   // by path
}

// Total gives the sums, in bytes. complete is false if one of them misses something that could not be told.
func (r Report) Total() (clients, bases, fullCopies int64, complete bool) {
	complete = true
	for _, c := range r.Clients {
		clients += c.Stored.Bytes
		fullCopies += c.FullCopy
		complete = complete && c.StoredErr == nil && c.FullErr == nil
	}
	for _, b := range r.Bases {
		bases += b.Stored.Bytes
		complete = complete && b.Err == nil
	}
	return clients, bases, fullCopies, complete
}

// Options say how to measure.
type Options struct {
	// Others are all overlays of the host. A layer that lies on one of them is not stored there, but in its layers.
	Others   []Overlay
	Defaults overlayfs.Defaults // of the running kernel
	Parallel int                // trees to read at the same time, at least 1
	// Progress is told how many of the steps are done, and how many entries of directories were seen: now and then, by
	// one goroutine at a time. It may be nil.
	Progress func(done, steps int, entries int64)
}

// Tree is what one directory tree takes.
type Tree struct {
	Stored Usage
	Err    error // why it could not be counted
}

// Trees counts what directories and all below them store, each for itself. Of the options it needs but Parallel and
// Progress. The error is the context's.
func Trees(ctx context.Context, paths []string, o Options) ([]Tree, error) {
	m := &measurer{ctx: ctx, opt: o, meter: meter{report: o.Progress, steps: len(paths)}}
	c := counter{ctx: ctx, seen: m.meter.add}
	out := make([]Tree, len(paths))
	m.each(len(paths), func(i int) {
		t, _, err := c.dir(paths[i], false)
		if err != nil {
			out[i].Err = err
			return
		}
		out[i].Stored = t.claim(map[overlayfs.FileID]bool{})
	})
	return out, ctx.Err()
}

// Measure measures clients. Trees are read once, whoever shares them. What cannot be read is told in its place, and the
// rest goes on; the error is the context's.
func Measure(ctx context.Context, clients []Overlay, o Options) (Report, error) {
	m := &measurer{
		ctx: ctx, opt: o, meter: meter{report: o.Progress}, at: map[string]Overlay{}, stacks: map[string]*stack{},
		whole: map[string]*tree{},
	}
	for _, other := range o.Others {
		if old, twice := m.at[other.Mountpoint]; !twice || other.Mounted || !old.Mounted {
			m.at[other.Mountpoint] = other
		}
	}
	m.plan(clients)
	m.store()
	m.copies()
	if err := ctx.Err(); err != nil {
		return Report{}, err
	}
	return m.out, nil
}

type measurer struct {
	ctx    context.Context
	opt    Options
	meter  meter
	at     map[string]Overlay // by mountpoint
	out    Report
	under  []bool            // of the bases: hidden by the mount of a client
	stacks map[string]*stack // of lower layers
	whole  map[string]*tree  // what was counted of a base, all of it
	views  []*stack          // of the clients
}

// plan finds out what there is to read.
func (m *measurer) plan(clients []Overlay) {
	uppers := map[overlayfs.FileID]bool{}
	for _, c := range clients {
		m.out.Clients = append(m.out.Clients, Client{Overlay: c})
		if id, ok := identify(c.Config.Upper, false); ok {
			uppers[id] = true
		}
	}
	type base struct {
		path  string
		under bool
	}
	bases := map[base]bool{}
	known := map[string][]string{} // what thousands of clients share is looked at once
	for _, c := range clients {
		for _, layer := range slices.Concat(c.Config.Lower, c.Config.Data) {
			paths, ok := known[layer]
			if !ok {
				paths = m.physical(resolved(layer), 0)
				known[layer] = paths
			}
			for _, p := range paths {
				bases[base{p, c.Mounted && p == c.Mountpoint}] = true
			}
		}
	}
	seen := map[overlayfs.FileID]bool{}
	ordered := slices.SortedFunc(maps.Keys(bases), func(a, b base) int { return cmp.Compare(a.path, b.path) })
	for _, b := range ordered {
		id, ok := identify(b.path, b.under)
		if ok && (seen[id] || uppers[id]) {
			continue
		}
		seen[id] = ok
		m.out.Bases = append(m.out.Bases, Base{Path: b.path})
		m.under = append(m.under, b.under)
	}
}

// physical gives where a layer is stored: itself, or for one on another overlay the layers of that. Two levels are all
// that the kernel allows.
func (m *measurer) physical(layer string, level int) []string {
	for at := layer; level < 2; at = filepath.Dir(at) {
		if o, ok := m.at[at]; ok && !slices.Contains(o.Config.Lower, at) {
			if parts := partsOf(o.Config, strings.TrimPrefix(layer, at)); len(parts) > 0 {
				var out []string
				for _, p := range parts {
					out = append(out, m.physical(resolved(p), level+1)...)
				}
				return out
			}
		}
		if at == "/" {
			break
		}
	}
	return []string{layer}
}

// partsOf gives the directories that rel in an overlay is merged of; none if they cannot be told from outside.
func partsOf(c overlayfs.Config, rel string) []string {
	var out []string
	for _, layer := range slices.Concat([]string{c.Upper}, c.Lower, c.Data) {
		switch {
		case layer == "":
		case !filepath.IsAbs(layer):
			return nil // begins where the mounter once stood
		default:
			p := filepath.Join(layer, rel)
			if _, ok := identify(p, false); ok || rel == "" {
				out = append(out, p)
			}
		}
	}
	return out
}

// store counts what is stored.
func (m *measurer) store() {
	roots := map[overlayfs.FileID]bool{} // a tree that lies in another one counts by itself
	for i, b := range m.out.Bases {
		if id, ok := identify(b.Path, m.under[i]); ok {
			roots[id] = true
		}
	}
	for _, c := range m.out.Clients {
		if id, ok := identify(c.Config.Upper, false); ok {
			roots[id] = true
		}
	}
	bases, clients := make([]tree, len(m.out.Bases)), make([]tree, len(m.out.Clients))
	c := counter{ctx: m.ctx, skip: roots, seen: m.meter.add}
	m.meter.steps = len(bases) + 2*len(clients)
	var mu sync.Mutex
	m.each(len(bases)+len(clients), func(i int) {
		if i < len(bases) {
			b := &m.out.Bases[i]
			var skipped bool
			bases[i], skipped, b.Err = c.dir(b.Path, m.under[i])
			if b.Err != nil {
				bases[i] = tree{}
			} else if !skipped {
				mu.Lock()
				m.whole[b.Path] = &bases[i]
				mu.Unlock()
			}
			return
		}
		i -= len(bases)
		if one := &m.out.Clients[i]; one.Config.Upper != "" {
			if clients[i], _, one.StoredErr = c.dir(one.Config.Upper, false); one.StoredErr != nil {
				clients[i] = tree{}
			}
		}
	})
	counted := map[overlayfs.FileID]bool{}
	for i := range bases {
		m.out.Bases[i].Stored = bases[i].claim(counted)
	}
	for i := range clients {
		m.out.Clients[i].Stored = clients[i].claim(counted)
	}
}

// copies counts what full copies would take.
func (m *measurer) copies() {
	for _, c := range m.out.Clients {
		m.views = append(m.views, m.view(c.Overlay))
	}
	// What clients share is counted first, else each would do it.
	shared := slices.Collect(maps.Values(m.stacks))
	c := counter{ctx: m.ctx, seen: m.meter.add}
	m.meter.steps += len(shared)
	m.each(len(shared), func(i int) { _, _ = shared[i].all(c) }) // an error comes again with the clients it concerns
	m.each(len(m.views), func(i int) {
		one := &m.out.Clients[i]
		if one.FullCopy, one.FullErr = m.views[i].total(c); one.FullErr != nil {
			one.FullCopy = 0
		}
	})
}

// view makes the stack of what a client sees.
func (m *measurer) view(o Overlay) *stack {
	c := o.Config
	c.Lower = nil
	for _, layer := range o.Config.Lower {
		path := resolved(layer)
		if other, ok := m.at[path]; ok && !other.Mounted && path != o.Mountpoint {
			c.Lower = append(c.Lower, m.physical(path, 0)...) // as it would be, were it mounted
			continue
		}
		c.Lower = append(c.Lower, path)
	}
	under := ""
	if o.Mounted {
		under = o.Mountpoint
	}
	if c.Upper != "" {
		return m.newStack(c, under)
	}
	return m.lower(c, under)
}

func (m *measurer) newStack(c overlayfs.Config, under string) *stack {
	s := &stack{config: c, under: under, defaults: m.opt.Defaults, known: map[string]*tree{}}
	if c.Upper == "" {
		s.config.Upper, s.config.Lower = c.Lower[0], c.Lower[1:]
	}
	if len(s.config.Lower) > 0 {
		s.below = m.lower(overlayfs.Config{Lower: s.config.Lower, Data: c.Data, Options: c.Options}, under)
	} else if t := m.whole[s.config.Upper]; t != nil && under != s.config.Upper {
		t.sum = t.claim(map[overlayfs.FileID]bool{}).Bytes
		s.known["/"] = t
	}
	return s
}

// lower gives the stack of lower layers, which clients share. Of their options those count that say what the layers
// mean; an index is the upperdir's, and one that a layer had as an upperdir counts no more.
func (m *measurer) lower(c overlayfs.Config, under string) *stack {
	options := overlayfs.Options{"index": "off", "nfs_export": "off"}
	key := []string{""}
	for _, name := range []string{"redirect_dir", "metacopy", "userxattr", "verity"} {
		if value, ok := c.Options[name]; ok {
			options[name] = value
			key[0] += name + "=" + value + ","
		}
	}
	if !slices.Contains(c.Lower, under) {
		under = ""
	}
	id := strings.Join(slices.Concat(key, []string{under}, c.Lower, []string{""}, c.Data), "\x00")
	s := m.stacks[id]
	if s == nil {
		s = m.newStack(overlayfs.Config{Lower: c.Lower, Data: c.Data, Options: options}, under)
		m.stacks[id] = s
	}
	return s
}

// each does n steps, several at a time.
func (m *measurer) each(n int, do func(i int)) {
	next := make(chan int)
	var workers sync.WaitGroup
	for range max(1, min(m.opt.Parallel, n)) {
		workers.Go(func() {
			for i := range next {
				if m.ctx.Err() == nil {
					do(i)
				}
				m.meter.step()
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	workers.Wait()
}

// resolved is a path without symlinks; one that cannot be resolved is left as it is, and fails where it is read.
func resolved(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

// identify identifies a directory.
func identify(path string, under bool) (overlayfs.FileID, bool) {
	if path == "" {
		return overlayfs.FileID{}, false
	}
	fd, err := openTop(path, under)
	if err != nil {
		return overlayfs.FileID{}, false
	}
	defer unix.Close(fd)
	n, _, err := look(fd, "")
	return n.id, err == nil
}
