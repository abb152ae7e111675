package plan

import (
	"slices"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// Reset says that a client goes back to pristine.
type Reset struct {
	Keep  bool     // what it wrote is set aside, not deleted
	Paths []string // only these paths of its view; none: all of it
}

// ResetFacts is what was seen of an overlay that is to be reset.
type ResetFacts struct {
	Pristine  bool     // there is nothing to reset
	Problems  []string // why it, or one of the paths, cannot be reset
	Halfway   bool     // an earlier reset was interrupted while the overlay or units that need it were down
	Down      []string // mountpoints of overlays that went down with it then
	Leftovers []string // directories that an earlier reset was about to delete when it was interrupted
}

// reset makes a reset of the change for an applied overlay: taken down, given a fresh upperdir, and mounted again as
// its unit says. What was not mounted stays so, unless another needs it. The unit file is left alone.
func (b *builder) reset(c *Change, g *goal, u UnitFile, r Reset, stack []overlayfs.Mount) {
	facts := b.o.Resets[g.Mountpoint]
	switch {
	case c.Kind == Conflict:
		return
	case u.Err != "":
		c.conflict("its unit file cannot be read: %s: apply the spec that declares it first", u.Err)
	case g.ReadOnly():
		c.conflict("it is read-only, so there is nothing a client could have changed")
	case g.PreventDestroy:
		c.conflict("prevent_destroy is set: put prevent_destroy = false into the spec and apply, then reset")
	case !u.MadeData && !r.Keep:
		c.conflict("overlayd did not make its upperdir %s, and deletes nothing in it: reset it with --keep, which "+
			"sets aside what the client wrote", g.Upper)
	}
	for _, kid := range b.remembering(g) {
		c.conflict("%s, which stands on it, has index, nfs_export or metacopy on: it remembers files of this one by what "+
			"they are, and could not find them any more; reset both", kid)
	}
	for _, problem := range facts.Problems {
		c.conflict("%s", problem)
	}
	if c.Kind == Conflict {
		return
	}
	c.Do, c.Reasons, c.Warnings, c.Disruptive = Actions{}, nil, nil, false
	c.Kind, c.Do.Trash = ResetKind, facts.Leftovers
	for _, dir := range facts.Leftovers {
		c.because("the deletion of %s, which was interrupted, is finished", dir)
	}
	if facts.Pristine && !facts.Halfway {
		if len(facts.Leftovers) == 0 {
			c.Kind = NoOp
		}
		return
	}
	if facts.Pristine && len(stack) > 0 {
		c.because("what an interrupted reset stopped is started again")
		return
	}
	c.Do.Reset = &r
	c.After = g.view()
	b.resetReasons(c, g, r)
	for _, m := range slices.Backward(stack) {
		b.takeDown(c, m, g.name)
	}
	if len(stack) > 0 || facts.Halfway || b.carries(g) {
		c.Do.Mount = &g.config
		c.Do.Dirs = g.dirs(b.o, b.goals)
		return
	}
	c.because("it is not mounted, and stays so")
}

// remembering gives the addresses of overlays with one for a layer that would not survive its reset, and are not reset
// themselves.
func (b *builder) remembering(g *goal) []string {
	var out []string
	for at, kid := range b.goals {
		o := kid.config.Options
		indexed := o["index"] == "on" || o["nfs_export"] == "on" || o["metacopy"] == "on"
		if _, too := b.resets[at]; indexed && !too && !kid.ReadOnly() && slices.Contains(kid.layerParents, g.Mountpoint) {
			out = append(out, kid.Address)
		}
	}
	slices.Sort(out)
	return out
}

// carries tells whether a live overlay is to stand on this one, and so cannot be mounted again without it.
func (b *builder) carries(g *goal) bool {
	for at, kid := range b.goals {
		if slices.Contains(kid.parents, g.Mountpoint) && len(b.o.Mounts.At(at)) > 0 {
			return true
		}
	}
	return false
}

func (b *builder) resetReasons(c *Change, g *goal, r Reset) {
	what := []string{"what the client wrote to " + g.Upper}
	if len(r.Paths) > 0 {
		what = nil
		for _, p := range r.Paths {
			what = append(what, "what the client did to "+p)
		}
	}
	for _, w := range what {
		if r.Keep {
			c.because("%s is set aside", w)
		} else {
			c.because("%s is DELETED", w)
		}
	}
}

// data gives the upperdir and workdir that a change mounts or resets, none for another.
func (c *Change) data(goals map[string]*goal) (upper, work string) {
	switch {
	case c.Do.Mount != nil:
		return c.Do.Mount.Upper, c.Do.Mount.Work
	case c.Do.Reset != nil:
		g := goals[c.Mountpoint]
		return g.Upper, g.Work
	}
	return "", ""
}
