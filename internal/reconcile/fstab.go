package reconcile

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// readFstab reads which mountpoints fstab has lines for. One that does not exist has none.
func readFstab(file string) (map[string]plan.FstabLine, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseFstab(f, file)
}

func parseFstab(r io.Reader, file string) (map[string]plan.FstabLine, error) {
	out := map[string]plan.FstabLine{}
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for n := 1; s.Scan(); n++ {
		fields := strings.Fields(s.Text())
		if len(fields) < 3 || strings.HasPrefix(fields[0], "#") || !strings.HasPrefix(fields[1], "/") {
			continue
		}
		at := path.Clean(unescapeFstab(fields[1]))
		if _, dup := out[at]; !dup {
			out[at] = plan.FstabLine{File: file, Line: n}
		}
	}
	return out, s.Err()
}

// unescapeFstab decodes the octal escapes of fstab(5), "\040" for a blank.
func unescapeFstab(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && octal(s[i+1]) && octal(s[i+2]) && octal(s[i+3]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func octal(c byte) bool { return c >= '0' && c <= '7' }
