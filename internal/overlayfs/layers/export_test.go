package layers

import "github.com/overlayd/overlayd/internal/overlayfs"

// For tests: the parsers of what others wrote, and what is concluded from options.
var (
	Redirected  = redirected
	ParseHandle = parseHandle
)

// Settings are what settingsOf concludes, in words.
func Settings(o overlayfs.Options, d overlayfs.Defaults) string {
	s := settingsOf(o, d)
	out := s.prefix
	for _, f := range []struct {
		on   bool
		name string
	}{{s.follow, "follow"}, {s.metacopy, "metacopy"}, {s.index, "index"}, {s.verifyLower, "verify"}} {
		if f.on {
			out += " " + f.name
		}
	}
	return out
}
