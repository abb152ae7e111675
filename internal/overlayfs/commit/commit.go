package commit

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/layers"
	"github.com/overlayd/overlayd/internal/safedir"
)

// Client is the overlay whose changes are wanted.
type Client struct {
	Address    string // for the mark on what a killed commit leaves; "" if it has none
	Mountpoint string
	Mounted    bool
	Config     overlayfs.Config
	Defaults   overlayfs.Defaults // of the running kernel
	Table      *overlayfs.Table   // the mount table, to know a place through bind mounts; may be nil
	Dev        string             // of the overlay's super block, if mounted
	// Progress, if set, is told now and then how many bytes of how many are copied. The whole is an estimate.
	Progress func(done, total int64)
}

// Result is what a layer holds.
type Result struct {
	Files       int // all but directories; each name of a file counts
	Directories int // without the root
	Deletions   int
	Bytes       int64  // of contents, holes left out where they stay holes
	DiffID      string // of an archive: its digest before compression, as in an image's config
	// Warnings say what is not, or may not be, as the client sees it.
	Warnings []string
}

// Empty tells whether the client changed nothing.
func (r Result) Empty() bool { return r.Files+r.Directories+r.Deletions == 0 }

// ToDirectory makes the layer as the directory dir, an absolute path, which must not be there or be empty; it appears
// whole or not at all. All above it must be root's alone: who can write there changes what every client of the layer
// gets.
func ToDirectory(ctx context.Context, c Client, dir string) (r Result, err error) {
	var w *writer
	fail := func(err error) (Result, error) {
		return Result{}, fmt.Errorf("cannot commit to %s: %w", dir, w.reason(err, filepath.Dir(dir)))
	}
	target, err := c.place(dir)
	if err != nil {
		return fail(err)
	}
	if err := vacant(target); err != nil {
		return fail(err)
	}
	if err := safedir.CheckOwner(filepath.Dir(target)); err != nil {
		return fail(err)
	}
	if w, err = c.begin(ctx); err != nil {
		return fail(err)
	}
	defer w.close()
	w.sockets = true
	if err := w.survey(nil); err != nil {
		return fail(err)
	}
	s, err := newStage(ctx, target, c.marker())
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, s.close()) }()
	const name = "layer"
	d, err := newDirectory(ctx, filepath.Join(s.path, name), w)
	if err != nil {
		return fail(err)
	}
	defer d.close()
	if err := w.write(d); err != nil {
		return fail(err)
	}
	if err := d.finish(); err != nil {
		return fail(err)
	}
	if err := s.publish(name, 0); err != nil {
		return fail(err)
	}
	return w.result, nil
}

// ToArchive makes the layer as the tar file, an absolute path, which must not be there; it appears whole or not at all,
// and is root's alone to read. It is compressed if its name ends in .gz or .tgz.
func ToArchive(ctx context.Context, c Client, file string) (r Result, err error) {
	var w *writer
	fail := func(err error) (Result, error) {
		return Result{}, fmt.Errorf("cannot commit to %s: %w", file, w.reason(err, filepath.Dir(file)))
	}
	if err := CheckArchive(file); err != nil {
		return fail(err)
	}
	target, err := c.place(file)
	if err != nil {
		return fail(err)
	}
	if _, err := os.Lstat(target); err == nil {
		return fail(errors.New("it exists already; remove it, or name another file"))
	}
	if w, err = c.begin(ctx); err != nil {
		return fail(err)
	}
	defer w.close()
	if err := w.survey(representable); err != nil {
		return fail(err)
	}
	s, err := newStage(ctx, target, c.marker())
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, s.close()) }()
	const name = "archive"
	f, err := s.create(name)
	if err != nil {
		return fail(err)
	}
	if err := errors.Join(w.archive(f, compressed(target)), f.Close()); err != nil {
		return fail(err)
	}
	if err := s.publish(name, unix.RENAME_NOREPLACE); err != nil {
		return fail(err)
	}
	return w.result, nil
}

// WriteArchive writes the layer as a tar. An error may come after some of it was written.
func WriteArchive(ctx context.Context, c Client, out io.Writer) (Result, error) {
	w, err := c.begin(ctx)
	if err == nil {
		defer w.close()
		err = w.survey(representable)
	}
	if err == nil {
		err = w.archive(out, false)
	}
	if errors.Is(err, context.Canceled) {
		err = &reasonError{"what was written is no whole archive", err}
	}
	if err != nil {
		return Result{}, fmt.Errorf("cannot commit to an archive: %w", err)
	}
	return w.result, nil
}

// reason puts what ends a commit in dir into plain words, where what was under way just then does not matter.
func (w *writer) reason(err error, dir string) error {
	switch {
	case errors.Is(err, context.Canceled):
		return &reasonError{"nothing was written", err}
	case errors.Is(err, unix.ENOSPC) && w != nil:
		return &reasonError{fmt.Sprintf("no space left on the filesystem of %s; the layer takes about %s", dir,
			humanize.IBytes(uint64(max(w.total, 0)))), err}
	}
	return err
}

// reasonError says an error in other words.
type reasonError struct {
	text string
	err  error
}

func (e *reasonError) Error() string { return e.text }
func (e *reasonError) Unwrap() error { return e.err }

// compressed tells by the name of an archive whether it is to be compressed.
func compressed(name string) bool {
	return strings.HasSuffix(name, ".gz") || strings.HasSuffix(name, ".tgz")
}

// foreignEndings are those of archives that this package does not write, and that nobody means a plain tar by.
var foreignEndings = []string{
	".7z", ".br", ".bz2", ".cpio", ".lz", ".lz4", ".lzma", ".lzo", ".rar", ".sz", ".taz", ".tbz", ".tbz2", ".tlz", ".txz",
	".tzst", ".xz", ".z", ".zip", ".zst",
}

// CheckArchive refuses a name for an archive that promises what ToArchive does not write.
func CheckArchive(name string) error {
	if ending := path.Ext(name); slices.Contains(foreignEndings, strings.ToLower(ending)) {
		return fmt.Errorf("%s is not supported; use .tar, .tar.gz or .tgz", ending)
	}
	return nil
}

func (c Client) marker() safedir.Marker {
	return safedir.Marker{Address: c.Address, Mountpoint: c.Mountpoint}
}

func (c Client) begin(ctx context.Context) (*writer, error) {
	mountpoint := ""
	if c.Mounted {
		mountpoint = c.Mountpoint
	}
	view, err := layers.Open(c.Config, mountpoint, c.Defaults)
	if err != nil {
		return nil, err
	}
	w := &writer{ctx: ctx, view: view, prefix: "trusted.overlay.", report: c.Progress}
	w.indexed = c.Config.Options["index"] != "off"
	if _, ok := c.Config.Options["userxattr"]; ok {
		w.prefix = "user.overlay."
	}
	return w, nil
}

// archive writes the layer as a tar to out.
func (w *writer) archive(out io.Writer, pack bool) error {
	var packed *gzip.Writer // its header has no name and no time
	if pack {
		packed = gzip.NewWriter(out)
		out = packed
	}
	digest := sha256.New()
	a := &archive{ctx: w.ctx, tar: tar.NewWriter(io.MultiWriter(out, digest)), copied: w.copied}
	err := w.write(a)
	if err == nil {
		err = a.tar.Close()
	}
	if err == nil && packed != nil {
		err = packed.Close()
	}
	if err != nil {
		return err
	}
	if len(a.hollow) > 0 { // to them a PAX record without a value takes back an earlier one
		w.warn("podman, umoci and Docker do not set xattrs that have no value: %s", some(slices.Compact(a.hollow)))
	}
	w.result.DiffID = "sha256:" + hex.EncodeToString(digest.Sum(nil))
	return nil
}
