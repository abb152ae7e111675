package layers

import "context"

// Kind is a kind of change, in the letters of the command line.
type Kind string

// The kinds of change.
const (
	Added   Kind = "A"
	Changed Kind = "C"
	Deleted Kind = "D"
)

// Change is one thing that a client changed.
type Change struct {
	Kind Kind
	Path string // absolute, in the client's view; any bytes but NUL
}

// Changes calls each with everything that the client changed, in the order of [View.Walk]: what is new, with all that
// is in it; what differs, see [Pair.Kind]; and what is gone, a directory as one. What was copied up and is as before is
// no change, nor is a whiteout over nothing.
//
// The root itself is left out: it is the upperdir's, whose owner and mode were chosen before there was a client.
func (v *View) Changes(ctx context.Context, each func(Change) error) (Notes, error) {
	return v.Walk(ctx, func(p *Pair) error {
		if p.Path == "/" {
			return nil
		}
		kind, err := p.Kind()
		if kind == "" || err != nil {
			return p.walker.tolerate(err)
		}
		return each(Change{kind, p.Path})
	})
}
