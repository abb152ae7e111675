package layers

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

// index is the directory in which a writable overlay with index=on keeps the files that have several names in the
// base. Each is named by the file handle of the file in the lowerdir that it was copied up from, and is what all names
// of that file show, whether or not the upperdir has them.
type index struct {
	dir     *dir // WORKDIR/index
	work    *layer
	entries map[handle]string // the name of the file that goes with a handle
	hidden  bool              // some file has a name that the upperdir does not have
}

func (x *index) close() {
	if x != nil {
		x.dir.release()
		x.work.close()
	}
}

// readIndex reads what the index says; it is nil when there is none, or nothing in it.
func (v *View) readIndex(work, mountpoint string) (*index, error) {
	l, err := v.openLayer("workdir", work, mountpoint, 0)
	if err != nil {
		return nil, err
	}
	x := &index{work: l, entries: make(map[handle]string)}
	o, err := l.root.find("index")
	if o == nil || err != nil || !o.isDir() {
		l.close()
		return nil, err
	}
	x.dir = o.sub()
	names, err := x.dir.list(nil)
	if err != nil {
		x.close()
		return nil, err
	}
	for _, name := range names {
		if err := x.add(name); err != nil {
			x.close()
			return nil, err
		}
	}
	if len(x.entries) == 0 {
		x.close()
		return nil, nil
	}
	return x, nil
}

// add takes one entry in. Directories and whiteouts are there for NFS export, and files half made are passed over.
func (x *index) add(name string) error {
	raw, _ := hex.DecodeString(name) // as far as it is hex
	h, ok := parseHandle(raw)
	if !ok || len(name) != 2*len(raw) {
		return nil
	}
	o, err := x.dir.find(name)
	if o == nil || err != nil || o.isDir() || o.kind() == unix.S_IFCHR && o.st.Rdev == 0 {
		return err
	}
	x.entries[h] = name
	hidden, err := namesHidden(o)
	x.hidden = x.hidden || hidden
	return err
}

// namesHidden tells whether an indexed file has names in the view that the upperdir does not have. The xattr nlink says
// how many more links the view has than the upper file, which counts the one in the index; in doubt it is yes.
func namesHidden(o *object) (bool, error) {
	value, err := o.mark("nlink")
	if err != nil || len(value) < 2 || value[0] != 'U' {
		return true, err
	}
	hidden := true
	if more, err := strconv.Atoi(string(value[1:])); err == nil {
		hidden = more+1 > 0
	}
	return hidden, nil
}

// alias finds the file in the index that o, of a lower layer, shows instead of itself; it is nil if there is none.
func (x *index) alias(o *object) (*object, error) {
	h, err := o.handle()
	if err != nil || h == "" {
		return nil, err
	}
	name, ok := x.entries[h]
	if !ok {
		return nil, nil
	}
	found, err := x.dir.find(name)
	if found == nil || err != nil || found.kind() != o.kind() {
		return nil, err
	}
	return found, nil
}

// handle is a file handle, its type first; "" is none. It holds the inode's number and generation, so that handles of
// two filesystems do not meet. Where there are no generations (squashfs), the kernel cannot tell them apart either.
type handle string

const (
	handleMagic  = 0xfb
	handleHeader = 21 // version, magic, length, flags, type, and 16 bytes of the filesystem's uuid
)

// parseHandle reads a handle the way overlayfs keeps it, as struct ovl_fb: in xattrs, and in hex in the index.
func parseHandle(raw []byte) (handle, bool) {
	const bigEndian, anyEndian, known = 1 << 0, 1 << 1, 1<<3 - 1
	if len(raw) < handleHeader || int(raw[2]) < handleHeader || len(raw) < int(raw[2]) || raw[1] != handleMagic {
		return "", false
	}
	flags := raw[3]
	host := binary.NativeEndian.Uint16([]byte{0, 1}) == 1
	if raw[0] > 0 || flags&^known != 0 || flags&anyEndian == 0 && (flags&bigEndian != 0) != host {
		return "", false
	}
	return handle(raw[4:5]) + handle(raw[handleHeader:raw[2]]), true
}

// handle asks the filesystem for the entry's handle; it is "" where there are none.
func (o *object) handle() (handle, error) {
	fd, err := o.dir.descriptor()
	if err != nil {
		return "", err
	}
	raw, _, err := unix.NameToHandleAt(fd, o.name, 0)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EOVERFLOW):
		return "", nil
	case err != nil:
		return "", o.fail("get the file handle of", err)
	}
	return handle([]byte{byte(raw.Type())}) + handle(raw.Bytes()), nil
}

// sameOrigin tells whether an upper directory was copied up from that lower one. With nfs_export the kernel merges no
// others.
func (v *View) sameOrigin(upper, lower *object) (bool, error) {
	raw, err := upper.mark("origin")
	if err != nil || raw == nil {
		return true, err // the kernel takes the first that it finds
	}
	want, ok := parseHandle(raw)
	if !ok {
		return true, nil
	}
	got, err := lower.handle()
	return got == "" || got == want, err
}
