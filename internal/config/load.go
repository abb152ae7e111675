package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
)

const (
	// DefaultPath is where the spec is when no path is given.
	DefaultPath = "/etc/overlayd"

	specSuffix   = ".hcl"
	valuesSuffix = ".vars.hcl"
	autoSuffix   = ".auto.vars.hcl"

	// maxFile is far above what anybody writes, and below what the parser takes
	// minutes for.
	maxFile = 64 << 20

	// minResync keeps the net under lost events from becoming a busy loop.
	minResync = 10 * time.Second
)

// Duration is a time span of the spec. It stands here, and so does what reads
// it, since no other file of the package may see the one that has the clock.
type Duration = time.Duration

// ParseResync reads how often the agent looks at the whole host. The error
// follows the text in a sentence.
func ParseResync(s string) (Duration, error) {
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return 0, errors.New(`is none; write a number with h, m or s, such as "90s" or "1h30m"`)
	case d <= 0:
		return 0, fmt.Errorf("would switch it off, and it is the net under events that get lost; write %q or more",
			minResync.String())
	case d < minResync:
		return 0, fmt.Errorf("is too short; the agent hears of changes at once, this is the net under events that get "+
			"lost; write %q or more", minResync.String())
	}
	return d, nil
}

// Load reads the files and directories named by paths, DefaultPath below
// Inputs.Root when there are none, and evaluates them as one spec. Of a
// directory it takes all *.hcl files that are not hidden, in the order of their
// names, but not those of its subdirectories.
//
// All problems are reported at once, in the order of the files. The spec is
// never nil, so that the sources can be shown with them; with an error among
// them it is incomplete and good for nothing else.
func Load(paths []string, in Inputs) (*Spec, hcl.Diagnostics) {
	if len(paths) == 0 {
		paths = []string{filepath.Join("/", in.Root, DefaultPath)}
	}
	l := &loader{read: map[string]bool{}, spec: &Spec{}}
	for _, p := range paths {
		l.path(p)
	}
	values := l.values(in.Values)
	spec, diags := evaluate(input{
		specs: l.specs, auto: l.auto, values: values, environ: in.Environ, hostName: in.HostName,
		partial: l.diags.HasErrors(),
	})
	spec.Files, spec.Dirs, spec.ValueFiles = l.spec.Files, l.spec.Dirs, l.spec.ValueFiles
	return spec, append(l.diags, diags...)
}

type loader struct {
	diags hcl.Diagnostics
	spec  *Spec // Files, Dirs and ValueFiles only
	specs []source
	auto  []source
	read  map[string]bool // absolute paths
}

// fail reports a path, which has no place in a file to point at.
func (l *loader) fail(summary, format string, args ...any) {
	l.diags = append(l.diags, &hcl.Diagnostic{
		Severity: hcl.DiagError, Summary: summary, Detail: fmt.Sprintf(format, args...),
	})
}

func (l *loader) path(p string) {
	abs, err := filepath.Abs(p)
	if err != nil {
		l.fail("Cannot read "+p, "Where it is cannot be found out: %v.", err)
		return
	}
	info, err := os.Stat(p)
	switch {
	case p == "":
		l.fail("Cannot read the spec", "A path is empty.")
	case err != nil:
		l.fail("Cannot read "+p, "%v.", cause(err))
	case info.IsDir():
		l.dir(p, abs)
	case strings.HasSuffix(p, valuesSuffix):
		l.fail("Not a spec", "%s holds values for variables: name it with --var-file.", p)
	default:
		l.file(p, abs)
	}
}

func (l *loader) dir(p, abs string) {
	if slices.Contains(l.spec.Dirs, abs) {
		return
	}
	entries, err := os.ReadDir(p)
	if err != nil {
		l.fail("Cannot read "+p, "%v.", cause(err))
		return
	}
	l.spec.Dirs = append(l.spec.Dirs, abs)
	found := false
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || !strings.HasSuffix(name, specSuffix) {
			continue
		}
		given := filepath.Join(p, name)
		// Through symlinks: a link to a directory is no file of the spec either.
		if info, err := os.Stat(given); err == nil && info.IsDir() {
			continue
		}
		switch {
		case strings.HasSuffix(name, autoSuffix):
			if src, ok := l.readFile(given, filepath.Join(abs, name)); ok {
				l.auto = append(l.auto, src)
				l.spec.ValueFiles = append(l.spec.ValueFiles, src.abs)
			}
		case strings.HasSuffix(name, valuesSuffix):
		default:
			found = true
			l.file(given, filepath.Join(abs, name))
		}
	}
	if !found {
		l.diags = append(l.diags, &hcl.Diagnostic{
			Severity: hcl.DiagWarning,
			Summary:  "No spec",
			Detail:   fmt.Sprintf("The directory %s holds no *.hcl file: the spec is empty.", p),
		})
	}
}

// file reads a spec file, once however often it is named.
func (l *loader) file(given, abs string) {
	if l.read[abs] {
		return
	}
	l.read[abs] = true
	src, ok := l.readFile(given, abs)
	if !ok {
		return
	}
	l.specs = append(l.specs, src)
	l.spec.Files = append(l.spec.Files, abs)
}

func (l *loader) values(args []ValueArg) []value {
	var out []value
	for _, a := range args {
		if !a.File {
			out = append(out, value{arg: a.Arg})
			continue
		}
		abs, err := filepath.Abs(a.Arg)
		if err != nil {
			l.fail("Cannot read "+a.Arg, "Where it is cannot be found out: %v.", err)
			continue
		}
		src, ok := l.readFile(a.Arg, abs)
		if !ok {
			continue
		}
		out = append(out, value{file: &src})
		if !slices.Contains(l.spec.ValueFiles, abs) {
			l.spec.ValueFiles = append(l.spec.ValueFiles, abs)
		}
	}
	return out
}

func (l *loader) readFile(given, abs string) (source, bool) {
	text, err := readBounded(given)
	if err != nil {
		l.fail("Cannot read "+given, "%v.", cause(err))
		return source{}, false
	}
	return source{name: given, abs: abs, text: text}, true
}

var errTooLarge = fmt.Errorf("more than %d MiB", maxFile>>20)

func readBounded(p string) ([]byte, error) {
	f, err := os.Open(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, errTooLarge
	}
	return text, nil
}

// cause is err without the path, which is named already.
func cause(err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err
	}
	return err
}
