package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
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
	l := newLoader()
	for _, p := range paths {
		l.path(p)
	}
	return l.evaluate(in)
}

// LoadAs reads what the spec would be with the file or directory path at as.
// A directory stands for all of the directory as. A file stands for the file
// as, which need not exist, among the others of its directory. Diagnostics,
// sources and the scope name what is at as, or would be.
func LoadAs(path, as string, in Inputs) (*Spec, hcl.Diagnostics) {
	l := newLoader()
	l.pathAs(path, as)
	return l.evaluate(in)
}

func newLoader() *loader { return &loader{read: map[string]bool{}, spec: &Spec{}} }

// evaluate makes the spec of what was read.
func (l *loader) evaluate(in Inputs) (*Spec, hcl.Diagnostics) {
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
		if entries, ok := l.list(p); ok {
			l.dir(p, abs, entries)
		}
	case strings.HasSuffix(p, valuesSuffix):
		l.fail("Not a spec", "%s holds values for variables: name it with --var-file.", p)
	default:
		l.file(p, p, abs)
	}
}

func (l *loader) pathAs(p, as string) {
	abs, err := filepath.Abs(as)
	if err != nil || as == "" {
		l.fail("Cannot read the spec", "%q cannot stand for %q, which is no path.", p, as)
		return
	}
	candidate, err := os.Stat(p)
	if err != nil {
		l.fail("Cannot read "+p, "%v.", cause(err))
		return
	}
	place, err := os.Stat(as)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		l.fail("Cannot read "+as, "%v.", cause(err))
		return
	case err == nil && candidate.IsDir() != place.IsDir():
		l.fail("Cannot read the spec", "%s cannot stand for %s: one is a directory, the other is not.", p, as)
		return
	case candidate.IsDir():
		if entries, ok := l.list(p); ok {
			l.dir(as, abs, entries)
		}
		return
	}
	dir, name := filepath.Split(as)
	if !specName(name) || strings.HasSuffix(name, valuesSuffix) && !strings.HasSuffix(name, autoSuffix) {
		l.fail("Not a spec", "%s would not be read at %s: of a directory, only files count whose names end in %s or %s, "+
			"and do not begin with a dot.", p, as, specSuffix, autoSuffix)
		return
	}
	dir = filepath.Clean(dir)
	entries := map[string]string{}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		var ok bool
		if entries, ok = l.list(dir); !ok {
			return
		}
	}
	entries[name] = p
	l.dir(dir, filepath.Dir(abs), entries)
}

// specName reports whether a file of that name in a directory is read.
func specName(name string) bool {
	return strings.HasSuffix(name, specSuffix) && !strings.HasPrefix(name, ".")
}

// list gives the files of a directory that may be read, by name.
func (l *loader) list(p string) (map[string]string, bool) {
	entries, err := os.ReadDir(p)
	if err != nil {
		l.fail("Cannot read "+p, "%v.", cause(err))
		return nil, false
	}
	out := map[string]string{}
	for _, e := range entries {
		file := filepath.Join(p, e.Name())
		// Through symlinks: a link to a directory is no file of the spec either.
		if info, err := os.Stat(file); err == nil && info.IsDir() || !specName(e.Name()) {
			continue
		}
		out[e.Name()] = file
	}
	return out, true
}

// dir reads a directory with these files: names, and where each is read.
func (l *loader) dir(p, abs string, entries map[string]string) {
	if slices.Contains(l.spec.Dirs, abs) {
		return
	}
	l.spec.Dirs = append(l.spec.Dirs, abs)
	found := false
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		file, given := entries[name], filepath.Join(p, name)
		switch {
		case strings.HasSuffix(name, autoSuffix):
			if src, ok := l.readFile(file, given, filepath.Join(abs, name)); ok {
				l.auto = append(l.auto, src)
				l.spec.ValueFiles = append(l.spec.ValueFiles, src.abs)
			}
		case strings.HasSuffix(name, valuesSuffix):
		default:
			found = true
			l.file(file, given, filepath.Join(abs, name))
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

// file reads a spec file at path, once however often it is named.
func (l *loader) file(path, given, abs string) {
	if l.read[abs] {
		return
	}
	l.read[abs] = true
	src, ok := l.readFile(path, given, abs)
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
		src, ok := l.readFile(a.Arg, a.Arg, abs)
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

func (l *loader) readFile(path, given, abs string) (source, bool) {
	text, err := readBounded(path)
	if err != nil {
		l.fail("Cannot read "+path, "%v.", cause(err))
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
