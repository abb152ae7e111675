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
	"path/filepath"
	"slices"
	"strings"

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
	fail := func(err error) (Result, error) {
		return Result{}, fmt.Errorf("cannot commit to %s: %w", dir, err)
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
	w, err := c.begin(ctx)
	if err != nil {
		return fail(err)
	}
	defer w.close()
	w.sockets = true
	if err := w.survey(nil); err != nil {
		return fail(err)
	}
	s, err := newStage(target, c.marker())
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
	fail := func(err error) (Result, error) {
		return Result{}, fmt.Errorf("cannot commit to %s: %w", file, err)
	}
	target, err := c.place(file)
	if err != nil {
		return fail(err)
	}
	if _, err := os.Lstat(target); err == nil {
		return fail(errors.New("it exists already; remove it, or name another file"))
	}
	w, err := c.begin(ctx)
	if err != nil {
		return fail(err)
	}
	defer w.close()
	if err := w.survey(representable); err != nil {
		return fail(err)
	}
	s, err := newStage(target, c.marker())
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, s.close()) }()
	const name = "archive"
	f, err := s.create(name)
	if err != nil {
		return fail(err)
	}
	compressed := strings.HasSuffix(target, ".gz") || strings.HasSuffix(target, ".tgz")
	if err := errors.Join(w.archive(f, compressed), f.Close()); err != nil {
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
	if err != nil {
		return Result{}, fmt.Errorf("cannot commit to an archive: %w", err)
	}
	return w.result, nil
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
	w := &writer{ctx: ctx, view: view, upper: -1, prefix: "trusted.overlay.", report: c.Progress}
	w.indexed = c.Config.Options["index"] != "off"
	if _, ok := c.Config.Options["userxattr"]; ok {
		w.prefix = "user.overlay."
	}
	w.upper, err = unix.Open(c.Config.Upper, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		w.close()
		return nil, fmt.Errorf("cannot open the upperdir %s: %w", c.Config.Upper, err)
	}
	return w, nil
}

// archive writes the layer as a tar to out.
func (w *writer) archive(out io.Writer, compressed bool) error {
	var packed *gzip.Writer // its header has no name and no time
	if compressed {
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
