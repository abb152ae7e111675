package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

const (
	fileName = "agent.json"

	// format is the version of the file. Fields may be added to it; another number
	// before the point says that they mean something else.
	format = "1.0"

	// maxFile is far above what Write makes.
	maxFile = 16 << 20

	maxPID = 1 << 22 // PID_MAX_LIMIT of the kernel
)

// Path is the file in dir that holds the state: something to watch.
func Path(dir string) string { return filepath.Join(dir, fileName) }

type document struct {
	FormatVersion string `json:"format_version"`
	State
}

// Write replaces the state in dir. Whoever reads it at this moment gets the old
// one or the new one, whole. Of long lists it keeps the first entries and the
// number of the others, and it shortens long texts.
func Write(dir string, s State) error {
	text, err := json.Marshal(document{format, s.bounded()})
	if err != nil {
		return fmt.Errorf("cannot write the state of the agent: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot write the state of the agent: %w", err)
	}
	// A rename puts the file in the place of a symlink, and does not follow it.
	err = renameio.WriteFile(Path(dir), append(text, '\n'), 0o644, renameio.IgnoreUmask(), renameio.WithTempDir(dir))
	if err != nil {
		return fmt.Errorf("cannot write the state of the agent: %w", err)
	}
	return nil
}

// Remove takes the state away: the agent ends, and nothing has to be said of
// it. What a killed Write left behind goes, too.
func Remove(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "."+fileName+"*"))
	if err != nil {
		return fmt.Errorf("cannot remove the state of the agent: %w", err)
	}
	for _, file := range append(files, Path(dir)) {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove the state of the agent: %w", err)
		}
	}
	return nil
}

// Read returns the state in dir, and whether the agent that wrote it lives. It
// takes no privileges. The error wraps fs.ErrNotExist when no agent ran since
// the host started, or the last one ended as it should.
func Read(dir string) (s State, running bool, err error) {
	s, err = read(Path(dir))
	if err != nil {
		return State{}, false, fmt.Errorf("cannot read the state of the agent: %w", err)
	}
	return s, lives(s.PID, s.StartTime), nil
}

func read(path string) (State, error) {
	// Only root can put something here, but then it may be anything: a symlink is
	// not followed, and a named pipe does not make us wait.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return State{}, fmt.Errorf("%s is a symlink, which the agent did not make: remove it", path)
	}
	if err != nil {
		return State{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return State{}, err
	}
	if !info.Mode().IsRegular() {
		return State{}, fmt.Errorf("%s is no file, so the agent did not make it: remove it", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return State{}, err
	}
	s, err := parse(text)
	if err != nil {
		return State{}, fmt.Errorf("%s %w", path, err)
	}
	s.Written = info.ModTime()
	return s, nil
}

// remedy is for a file that only a new one replaces.
const remedy = `; the agent writes it anew when it starts: "systemctl restart overlayd"`

// parse reads the text of a file. The error follows the name of the file in a
// sentence.
func parse(text []byte) (State, error) {
	if len(text) > maxFile {
		return State{}, fmt.Errorf("is damaged: it has more than %d MiB%s", maxFile>>20, remedy)
	}
	// What a later format means is not known, so its version is read first.
	var version struct {
		FormatVersion string `json:"format_version"`
	}
	if err := json.Unmarshal(text, &version); err != nil {
		return State{}, fmt.Errorf("is damaged: %w%s", err, remedy)
	}
	v := version.FormatVersion
	switch {
	case v == "":
		return State{}, errors.New("is damaged: it has no format_version" + remedy)
	case majorOf(v) != majorOf(format):
		return State{}, fmt.Errorf("has the format %q, and this overlayd knows %s: use the overlayd that the agent is of, "+
			"or restart the agent", v, format)
	}
	var d document
	if err := json.Unmarshal(text, &d); err != nil {
		return State{}, fmt.Errorf("is damaged: %w%s", err, remedy)
	}
	if d.PID <= 0 || d.PID > maxPID {
		return State{}, errors.New("is damaged: it names no process" + remedy)
	}
	return d.State, nil
}

func majorOf(version string) string {
	major, _, _ := strings.Cut(version, ".")
	return major
}
