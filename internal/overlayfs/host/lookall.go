package host

import (
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// LookAll looks at paths as [Prober.LookAt] does, on several processors: what takes the time is the kernel's path lookup.
// It is fastest where paths of one directory stand together. t may be nil.
func LookAll(t *overlayfs.Table, paths []string, depth Depth) []overlayfs.PathInfo {
	infos := make([]overlayfs.PathInfo, len(paths))
	inParts(len(paths), func(from, to int) {
		p := NewProber(t)
		for i := from; i < to; i++ {
			infos[i] = p.LookAt(paths[i], depth)
		}
	})
	return infos
}

// Identify tells which directories paths lead to, symlinks followed; the zero FileID for those that lead nowhere, that
// cannot be looked at, or that are relative.
func Identify(paths []string) []overlayfs.FileID {
	ids := make([]overlayfs.FileID, len(paths))
	inParts(len(paths), func(from, to int) {
		for i := from; i < to; i++ {
			ids[i] = fileID(unix.AT_FDCWD, paths[i])
		}
	})
	return ids
}

// inParts calls f for parts of the numbers below n, several at once.
func inParts(n int, f func(from, to int)) {
	const part = 256
	workers := min(4, runtime.GOMAXPROCS(0), (n+part-1)/part)
	if workers < 2 {
		f(0, n)
		return
	}
	limit := make(chan struct{}, workers)
	var wait sync.WaitGroup
	for from := 0; from < n; from += part {
		limit <- struct{}{}
		wait.Go(func() {
			defer func() { <-limit }()
			f(from, min(n, from+part))
		})
	}
	wait.Wait()
}
