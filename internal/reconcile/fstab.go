package reconcile

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/overlayd/overlayd/internal/overlayfs"
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
		at := path.Clean(overlayfs.DecodeOctal(fields[1]))
		if _, dup := out[at]; !dup {
			out[at] = plan.FstabLine{File: file, Line: n}
		}
	}
	return out, s.Err()
}
