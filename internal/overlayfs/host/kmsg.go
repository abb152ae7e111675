package host

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// kernelLog reads what the kernel says about overlays from the moment it is opened. Opening costs about 4 µs, so each
// mount has its own: a reader shared between mounts would hand one the lines of the other.
//
// It is best effort. A container may have no /dev/kmsg or be forbidden to read it; then there are no lines.
type kernelLog struct {
	fd int
}

func openKernelLog() kernelLog {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return kernelLog{fd: -1}
	}
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		_ = unix.Close(fd)
		return kernelLog{fd: -1}
	}
	return kernelLog{fd: fd}
}

func (l kernelLog) close() {
	if l.fd >= 0 {
		_ = unix.Close(l.fd)
	}
}

// lines returns what came since the log was opened and concerns c. Both numbers are bounds: other mounts may fail at
// the same time, and a kernel in trouble may write without end.
func (l kernelLog) lines(c overlayfs.Config) []string {
	const maxRecords, maxLines = 2000, 20
	if l.fd < 0 {
		return nil
	}
	var out []string
	buf := make([]byte, 8192) // the greatest record; a smaller buffer fails with EINVAL
	for range maxRecords {
		n, err := unix.Read(l.fd, buf)
		if err == unix.EPIPE || err == unix.EINTR { // records were overwritten before they were read
			continue
		}
		if err != nil || n <= 0 || len(out) == maxLines {
			break
		}
		if line, ok := overlayLine(string(buf[:n])); ok && concerns(line, c) {
			out = append(out, line)
		}
	}
	return out
}

// overlayLine takes the text out of a record "priority,sequence,time,flags;text\n KEY=value\n".
func overlayLine(record string) (string, bool) {
	_, text, ok := strings.Cut(record, ";")
	if !ok {
		return "", false
	}
	text, _, _ = strings.Cut(text, "\n")
	if !strings.HasPrefix(text, "overlayfs: ") && !strings.HasPrefix(text, "overlay: ") {
		return "", false
	}
	return decodeHex(text), true
}

// decodeHex takes the log's escapes away: control bytes, backslashes and all beyond ASCII are shown as \xNN.
func decodeHex(s string) string {
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(s, `\x`)
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		if len(after) >= 2 {
			if v, err := strconv.ParseUint(after[:2], 16, 8); err == nil {
				b.WriteByte(byte(v))
				s = after[2:]
				continue
			}
		}
		b.WriteString(`\x`)
		s = after
	}
}

// concerns leaves out lines that name a path, but none of c's: they belong to a mount that failed at the same time.
func concerns(line string, c overlayfs.Config) bool {
	at := strings.Index(line, "/")
	if at <= 0 || line[at-1] != ' ' && line[at-1] != '\'' {
		return true // no absolute path in it
	}
	for _, layers := range [][]string{c.Lower, c.Data, {c.Upper, c.Work}} {
		for _, path := range layers {
			if path != "" && strings.Contains(line, path) {
				return true
			}
		}
	}
	return false
}
