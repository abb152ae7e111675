package metrics

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/common/expfmt"
)

// behind is how far the file may be behind while something changes, and so how often it is written at most.
const behind = 5 * time.Second

// Keep writes the file at once, then whenever something has changed, not more often than every five seconds, and when
// ctx ends once more before it returns. failed is told why the file could not be written, once for each new cause.
func (m *Metrics) Keep(ctx context.Context, path string, failed func(error)) {
	said := ""
	write := func() {
		err := m.Write(path)
		if err == nil {
			said = ""
		} else if text := err.Error(); text != said {
			said = text
			failed(err)
		}
	}
	write()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			continue
		case <-m.changed:
		}
		select {
		case <-ctx.Done():
		case <-time.After(behind):
			write()
		}
	}
	write()
}

// Write writes all metrics to the file path. Who reads it meanwhile sees the old file or the new one, whole. The
// directory must exist; node_exporter reads only names that end in .prom.
func (m *Metrics) Write(path string) error {
	m.writing.Lock()
	defer m.writing.Unlock()
	err := replace(path, m.write)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w; make the directory that node_exporter reads, or set metrics_file", err)
	}
	if err != nil {
		return fmt.Errorf("cannot write metrics to %s: %w", path, err)
	}
	return nil
}

func (m *Metrics) write(w *bufio.Writer) error {
	m.mu.Lock()
	all, err := m.registry.Gather()
	m.mu.Unlock()
	if err != nil {
		return err
	}
	for _, family := range all {
		if _, err := expfmt.MetricFamilyToText(w, family); err != nil {
			return err
		}
	}
	m.writeClients(w)
	return w.Flush()
}

// replace puts a new file in the place of path.
//
// prometheus.WriteToTextfile would do, but for what a kill leaves: its temporary files have names at random. This one's
// is always the same, so there is never more than one of them, and it is taken away by the next write. It does not end
// in .prom. On Debian the directory above node_exporter's belongs to the user prometheus, who must not lead root
// elsewhere: the directory is opened once, and a file that is there before is never written to.
//
// Nothing is synced: after a power cut the agent writes it anew, and until then an empty file is a valid one.
func replace(path string, write func(*bufio.Writer) error) (err error) {
	dir, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	name := filepath.Base(path)
	temporary := "." + name + ".tmp"
	if err := dir.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := dir.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		_ = f.Close() // a second time after success
		if err != nil {
			_ = dir.Remove(temporary)
		}
	}()
	err = errors.Join(f.Chmod(0o644), write(bufio.NewWriterSize(f, 64<<10))) // whatever the umask
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return dir.Rename(temporary, name)
}
