package layers

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// node is what a name leads to in a view: nothing, a directory merged of several, or something else.
type node struct {
	meta  *object // what it has its attributes from; nil for nothing
	parts []*dir  // of a directory, topmost first
	data  *object // what a regular file has its contents from: meta, except for a metacopy
	// refused says why the kernel lists the name but lets nobody in; meta is there all the same.
	refused error
}

// there tells whether there is something that can be looked at.
func (n node) there() bool { return n.meta != nil && n.refused == nil }
func (n node) isDir() bool { return n.there() && n.meta.isDir() }

// search is the state of one lookup through the layers, with the words of the kernel's struct ovl_lookup_data.
type search struct {
	v        *View
	name     string // begins with / after an absolute redirect: from the root of each layer
	redirect bool   // name is no longer the one looked for
	absolute bool   // the last redirect was an absolute one
	isDir    bool
	stop     bool
	last     bool // below is nothing: opaque, redirect and metacopy say nothing any more
	metacopy bool
	refused  error // why the kernel would let nobody in
}

func (s *search) refuse(o *object, errno unix.Errno, reason string) {
	s.refused = fmt.Errorf("cannot follow %s, as the overlay cannot: %s: %w", o.dir.where(o.name), reason, errno)
}

// lookup looks for name in a directory merged of upper, which may be nil, and lower. below is what lower alone has at
// that name, if that is known, to save a second search; else nil.
func (v *View) lookup(upper *dir, lower []*dir, name string, below *node) (node, error) {
	s := search{v: v, name: name, last: !v.followsAny() && len(lower) == 0}
	var top *object
	var err error
	if upper != nil {
		if top, err = s.layer(upper); err != nil {
			return node{}, err
		}
	}
	switch {
	case s.refused != nil:
		return node{meta: top, refused: s.refused}, err
	case s.stop && top == nil:
		return node{}, nil
	case s.stop:
		return leaf(top), nil
	case below != nil && !s.redirect && !s.metacopy && (top == nil || !v.settings.verifyLower):
		return merge(top, *below), nil
	}
	return s.below(top, lower)
}

// followsAny tells whether redirects lead anywhere: those of metacopies into data-only layers always do.
func (v *View) followsAny() bool { return v.settings.follow || len(v.data) > 0 }

// leaf is a node of one layer alone.
func leaf(o *object) node {
	n := node{meta: o}
	switch o.kind() {
	case unix.S_IFDIR:
		n.parts = []*dir{o.sub()}
	case unix.S_IFREG:
		n.data = o
	}
	return n
}

// merge puts top, a directory or nil, on what is below.
func merge(top *object, below node) node {
	if top == nil {
		return below
	}
	n := leaf(top)
	if below.meta != nil && below.meta.isDir() {
		n.parts, n.refused = append(n.parts, below.parts...), below.refused
	}
	return n
}

// below goes on through the lower layers, top being what the upper one has.
func (s *search) below(top *object, lower []*dir) (node, error) {
	v := s.v
	found := make([]*object, 0, 2)
	if top != nil {
		found = append(found, top)
	}
	first := len(found) // how many are of the upper layer
	atRoot := false
	if strings.HasPrefix(s.name, "/") {
		lower, atRoot = v.roots(), true
	}
	for i := 0; i < len(lower); i++ {
		if s.mayFollow(found); s.stop || s.refused != nil {
			break
		}
		here := lower[i].layer
		switch {
		case !v.followsAny():
			s.last = i == len(lower)-1
		case s.isDir || len(v.data) == 0:
			s.last = here.rank == len(v.lower)
		}
		o, err := s.layer(lower[i])
		if err != nil {
			return node{}, err
		}
		if o == nil {
			continue
		}
		if top != nil && len(found) == first && s.isDir && v.settings.verifyLower {
			same, err := v.sameOrigin(top, o)
			if err != nil {
				return node{}, err
			}
			if !same {
				break
			}
		}
		found = append(found, o)
		if s.redirect && strings.HasPrefix(s.name, "/") && !atRoot {
			lower, atRoot = v.roots(), true
			i = here.rank - 1
		}
	}
	return s.result(found, len(found) > first)
}

// result makes a node of what was found, topmost first. lower tells whether any of it is of a lower layer.
func (s *search) result(found []*object, lower bool) (node, error) {
	if len(found) == 0 {
		return node{}, nil // what is refused and has no name in any layer is not listed either
	}
	n := node{meta: found[0]}
	switch n.meta.kind() {
	case unix.S_IFDIR:
		for _, o := range found {
			n.parts = append(n.parts, o.sub())
		}
	case unix.S_IFREG:
		n.data = found[len(found)-1]
	}
	var err error
	switch {
	case s.refused != nil:
	case s.metacopy && s.absolute && lower && len(s.v.data) > 0:
		n.data, err = s.contents(found[0])
	default:
		if s.mayFollow(found); s.refused == nil && s.metacopy {
			s.refuse(found[0], unix.EIO, "it is a metacopy, and no layer has its contents")
		}
	}
	n.refused = s.refused
	return n, err
}

// mayFollow refuses what the options do not allow to follow.
func (s *search) mayFollow(found []*object) {
	switch {
	case len(found) == 0:
	case s.metacopy && !s.v.settings.metacopy:
		s.refuse(found[0], unix.EPERM, "it is a metacopy, and metacopy is off")
	case s.redirect && !s.v.settings.follow:
		s.refuse(found[0], unix.EPERM, "it has a redirect, and redirect_dir says not to follow any")
	}
}

// contents finds the contents of a metacopy in the data-only layers. There marks mean nothing.
func (s *search) contents(of *object) (*object, error) {
	names := strings.Split(strings.TrimPrefix(s.name, "/"), "/")
	for _, l := range s.v.data {
		at := l.root
		for i, name := range names {
			o, err := at.find(name)
			at.release()
			switch {
			case err != nil:
				return nil, err
			case o != nil && i == len(names)-1 && o.kind() == unix.S_IFREG:
				return o, nil
			case o == nil || !o.isDir():
			default:
				at = o.sub()
				continue
			}
			break
		}
	}
	s.refuse(of, unix.EIO, "it is a metacopy, and no data-only layer has its contents")
	return nil, nil
}

func (v *View) roots() []*dir {
	all := make([]*dir, 0, len(v.lower))
	for _, l := range v.lower {
		all = append(all, l.root)
	}
	return all
}

// layer looks in one layer: for a plain name in d, for an absolute one from the layer's root, of which d is one then.
func (s *search) layer(d *dir) (*object, error) {
	if !strings.HasPrefix(s.name, "/") {
		return s.single(d, s.name, 0, "")
	}
	// Counted from the end, as a redirect on the way changes what was before.
	rest := len(s.name) - 1
	for {
		here := s.name[len(s.name)-rest:]
		name, _, _ := strings.Cut(here, "/")
		o, err := s.single(d, name, len(s.name)-rest, here[len(name):])
		if len(name) == rest || o == nil || err != nil || !o.isDir() || s.refused != nil {
			return o, err
		}
		rest -= len(name) + 1
		d = o.sub()
		defer d.release()
	}
}

// single looks for one component. before is how much of s.name comes before it, after is what follows it.
func (s *search) single(d *dir, name string, before int, after string) (*object, error) {
	o, err := d.find(name)
	if o == nil || err != nil {
		return nil, err
	}
	end := after == ""
	hides, err := o.hides()
	switch {
	case err != nil:
		return nil, err
	case hides, end && s.metacopy && o.kind() != unix.S_IFREG, !o.isDir() && (s.isDir || !end):
		s.stop = true
		return nil, nil
	case o.isDir():
		if end {
			s.isDir = true
		}
		if s.last {
			return o, nil
		}
		opaque, err := o.mark("opaque")
		if err != nil {
			return nil, err
		}
		if string(opaque) == "y" {
			s.stop = true
			return o, nil
		}
	default:
		s.metacopy = false
		if o.kind() == unix.S_IFREG {
			value, err := o.mark("metacopy")
			if err != nil {
				return nil, err
			}
			s.metacopy = value != nil
		}
		s.stop = !s.metacopy
		if !s.metacopy || s.last {
			return o, nil
		}
	}
	s.absolute = false
	value, err := o.mark("redirect")
	if value == nil || err != nil {
		return o, err
	}
	to, ok := redirected(s.name, before, after, string(value))
	if !ok {
		s.refuse(o, unix.EINVAL, fmt.Sprintf("its redirect %q is not valid", value))
		return o, nil
	}
	s.name, s.redirect = to, true
	if value[0] == '/' {
		s.absolute, s.stop = true, false
	}
	return o, nil
}

// redirected is where to look in the layers below, when the component of name between before and after is redirected:
// to another name in the same directory, or to an absolute path in the overlay. Anything else the kernel refuses.
func redirected(name string, before int, after, to string) (string, bool) {
	if to == "" || strings.IndexByte(to, 0) >= 0 {
		return "", false
	}
	components, absolute := strings.CutPrefix(to, "/")
	if !absolute && strings.Contains(to, "/") {
		return "", false
	}
	for c := range strings.SplitSeq(components, "/") {
		if c == "" || c == "." || c == ".." {
			return "", false
		}
	}
	if absolute {
		return to + after, true
	}
	return name[:before] + to + after, true
}
