package commit

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Deletions in a layer of an OCI image (image-spec, layer.md).
const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
)

// archive writes a layer as a tar of PAX records (pax(1)), the same bytes for the same layer: in order of paths,
// without names of owners, times of access, or a time of its own.
type archive struct {
	ctx    context.Context
	tar    *tar.Writer
	copied func(n int64, hole bool)
	hollow []string // what has xattrs without a value
}

func (a *archive) add(e *entry) error {
	if e.whiteout {
		return a.mark(path.Join(path.Dir(e.path), whiteoutPrefix+e.name()))
	}
	if e.link != "" {
		return a.header(e, tar.TypeLink, 0)
	}
	switch e.stat.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		err := a.header(e, tar.TypeDir, 0)
		if err == nil && e.opaque {
			err = a.mark(path.Join(e.path, opaqueName))
		}
		return err
	case unix.S_IFREG:
		return a.file(e)
	case unix.S_IFLNK:
		return a.header(e, tar.TypeSymlink, 0)
	case unix.S_IFCHR:
		return a.header(e, tar.TypeChar, 0)
	case unix.S_IFBLK:
		return a.header(e, tar.TypeBlock, 0)
	case unix.S_IFIFO:
		return a.header(e, tar.TypeFifo, 0)
	}
	return fmt.Errorf("cannot put %s into the archive: a tar has no file of mode %o", shown(e.path), e.stat.Mode)
}

// mark writes the empty file that stands for a deletion.
func (a *archive) mark(path string) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: path[1:], ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	return a.write(h, path)
}

func (a *archive) header(e *entry, kind byte, size int64) error {
	h := &tar.Header{
		Typeflag: kind, Name: strings.TrimPrefix(e.path, "/"), Size: size, Mode: int64(e.stat.Mode & 0o7777),
		Uid: int(e.stat.Uid), Gid: int(e.stat.Gid), ModTime: time.Unix(e.stat.Mtim.Sec, e.stat.Mtim.Nsec),
		PAXRecords: make(map[string]string), Format: tar.FormatPAX,
	}
	switch kind {
	case tar.TypeDir:
		h.Name = "./" // the root itself, as tar(1) names it
		if e.path != "/" {
			h.Name = e.path[1:] + "/"
		}
	case tar.TypeLink:
		h.Linkname = e.link[1:]
	case tar.TypeSymlink:
		h.Linkname = e.target
	case tar.TypeChar, tar.TypeBlock:
		h.Devmajor, h.Devminor = int64(unix.Major(e.stat.Rdev)), int64(unix.Minor(e.stat.Rdev))
	}
	if kind != tar.TypeLink { // what a link leads to has them
		for name, value := range e.xattrs {
			h.PAXRecords["SCHILY.xattr."+name] = value
			if value == "" {
				a.hollow = append(a.hollow, shown(e.path))
			}
		}
	}
	if !utf8.ValidString(h.Name) || !utf8.ValidString(h.Linkname) {
		h.PAXRecords["hdrcharset"] = "BINARY" // names are UTF-8 unless this is said
	}
	return a.write(h, e.path)
}

func (a *archive) write(h *tar.Header, path string) error {
	if err := a.ctx.Err(); err != nil {
		return err
	}
	if err := a.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("cannot put %s into the archive: %w", shown(path), err)
	}
	return nil
}

// file writes a file with as many bytes as it had when it was looked at, holes as zeros: readers of OCI layers do not
// expect GNU's sparse files.
func (a *archive) file(e *entry) error {
	from, err := e.contents()
	if err != nil {
		return fmt.Errorf("cannot put %s into the archive: %w", shown(e.path), err)
	}
	if err := a.header(e, tar.TypeReg, e.stat.Size); err != nil {
		return errors.Join(err, from.Close())
	}
	err = a.copy(from.File, e.stat.Size)
	if err = errors.Join(err, from.end()); err != nil {
		return fmt.Errorf("cannot put %s into the archive: %w", shown(e.path), err)
	}
	return nil
}

func (a *archive) copy(from io.Reader, size int64) error {
	for left := size; left > 0; {
		if err := a.ctx.Err(); err != nil {
			return err
		}
		n, err := io.CopyN(a.tar, from, min(left, chunk))
		a.copied(n, false)
		left -= n
		if errors.Is(err, io.EOF) { // it became shorter meanwhile, which end will find out
			a.copied(left, true)
			_, err = io.CopyN(a.tar, zeros{}, left)
			left = 0
		}
		if err != nil {
			return bare(err)
		}
	}
	return nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// representable tells why an entry cannot be in an archive, "" if it can.
func representable(e *entry) string {
	if strings.HasPrefix(e.name(), whiteoutPrefix) && !e.whiteout {
		return "in an OCI layer its name means a deletion; rename it, or use --to"
	}
	for _, name := range e.xattrNames() {
		switch {
		case strings.HasPrefix(name, "trusted.overlay."):
			return fmt.Sprintf("the client gave it the xattr %s, which readers of an OCI layer would take for a mark of "+
				"their own overlay; remove it (setfattr -x), or use --to", shown(name))
		case strings.Contains(name, "="):
			return fmt.Sprintf("a tar has no room for the = in the name of its xattr %s; remove that (setfattr -x), "+
				"or use --to", shown(name))
		}
	}
	return ""
}
