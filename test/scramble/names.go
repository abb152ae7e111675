package scramble

import (
	"math/rand/v2"
	"strings"
)

// names are few, so that a name is often used again for something else.
var names = []string{
	"a", "b", "c", "d", "e", "etc", "File 1", "a-b", "a.b", // a-b and a.b sort around a/
	"new\nline", " edge ", `back\slash`, "\xff\xfe not UTF-8", "é", "tab\t", "\x7f", `"quote"`, "comma,colon:equals=",
	"-dash", "*", "...", ".wh", ".whale", "%41", strings.Repeat("long", 50),
}

var whiteoutNames = []string{".wh.a", ".wh.", ".wh..wh..opq", ".wh..wh.plnk"}

var (
	owners = []int{0, 0, 1, 1000, 65534, 3_000_000} // the last needs more than the octal digits of a tar header
	modes  = []uint32{0o644, 0o600, 0o755, 0o000, 0o4755, 0o2711, 0o1777, 0o7777}
	sizes  = []int{0, 1, 10, 10, 4096, 70_000}
)

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// maxDepth bounds how deep trees get.
const maxDepth = 4
