package agent

import (
	"bytes"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// outline is the mount table in short: enough to tell at which places it has changed. By mount ID, which is one
// mount's alone as long as it stands.
type outline map[int]line

type line struct {
	at  string // mountpoint
	sum uint64 // of the whole line
}

var seed = maphash.MakeSeed()

// outlineOf makes an outline of /proc/PID/mountinfo, see proc_pid_mountinfo(5). A line it cannot read is left out:
// who looks closer reports it.
func outlineOf(text []byte) outline {
	out := make(outline, bytes.Count(text, []byte{'\n'}))
	for l := range bytes.Lines(text) {
		// ID, parent, device, root, mountpoint, …
		fields := bytes.SplitN(l, []byte{' '}, 6)
		if len(fields) < 6 {
			continue
		}
		id, err := strconv.Atoi(string(fields[0]))
		if err != nil {
			continue
		}
		out[id] = line{overlayfs.DecodeOctal(string(fields[4])), maphash.Bytes(seed, l)}
	}
	return out
}

// changed gives the mountpoints, sorted, at which next has mounts that o has not, or the other way round, or others.
func (o outline) changed(next outline) []string {
	var at []string
	for id, was := range o {
		is, there := next[id]
		if !there || is.sum != was.sum {
			at = append(at, was.at)
		}
		if there && is.at != was.at {
			at = append(at, is.at)
		}
	}
	for id, is := range next {
		if _, there := o[id]; !there {
			at = append(at, is.at)
		}
	}
	slices.Sort(at)
	return slices.Compact(at)
}

// under tells whether path or a directory above it is in at.
func under(at map[string]bool, path string) bool {
	for path != "" {
		if at[path] {
			return true
		}
		if path == "/" {
			return false
		}
		path = path[:max(1, strings.LastIndexByte(path, '/'))]
	}
	return false
}
