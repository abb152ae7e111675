package layers

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// Shadow is a file of the client that hides one of the base which has changed since.
type Shadow struct {
	Path string
	// Copied is when the client's file was made, in most cases by copying it up: its birth time, or where the
	// filesystem keeps none, the time of its last change.
	Copied time.Time
	// BaseChanged is when the base's file last changed, in contents or attributes, or came to its place: its ctime,
	// which nobody can set.
	BaseChanged time.Time
}

// Shadowed calls each with the files in the upperdir that hide a changed file of the base, in the order of
// [View.Walk]. Files that are the same on both sides hide nothing; neither do directories.
func (v *View) Shadowed(ctx context.Context, each func(Shadow) error) (Notes, error) {
	return v.Walk(ctx, func(p *Pair) error {
		if p.Base == nil || p.Merged == nil || !p.Merged.Upper || p.Base.IsDir() || p.Merged.IsDir() {
			return nil
		}
		copied, err := p.Merged.node.meta.born()
		if err != nil {
			return p.walker.tolerate(err)
		}
		changed := moment(p.Base.Stat.Ctim)
		if data := p.Base.node.data; data != nil {
			if at := moment(data.st.Ctim); at.After(changed) {
				changed = at
			}
		}
		if !changed.After(copied) {
			return nil
		}
		kind, err := p.Kind()
		if kind == "" || err != nil {
			return p.walker.tolerate(err)
		}
		return each(Shadow{p.Path, copied, changed})
	})
}

// born is when the entry was made.
func (o *object) born() (time.Time, error) {
	fd, err := o.dir.descriptor()
	if err != nil {
		return time.Time{}, err
	}
	var st unix.Statx_t
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if err := unix.Statx(fd, o.name, flags, unix.STATX_BTIME, &st); err != nil {
		return time.Time{}, o.fail("look at", err)
	}
	if st.Mask&unix.STATX_BTIME == 0 {
		return moment(o.st.Ctim), nil
	}
	return time.Unix(st.Btime.Sec, int64(st.Btime.Nsec)), nil
}

func moment(t unix.Timespec) time.Time { return time.Unix(t.Unix()) }
