package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/overlayd/overlayd/internal/config"
	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/safedir"
)

// specFlags are the flags of commands that read a spec.
type specFlags struct {
	values []config.ValueArg
	as     string // where the one path given is taken to lie
}

// valueFlag collects --var and --var-file in the order given, since later ones win.
type valueFlag struct {
	into *[]config.ValueArg
	file bool
}

func (v valueFlag) String() string { return "" }

func (v valueFlag) Type() string {
	if v.file {
		return "FILE"
	}
	return "NAME=VALUE"
}

func (v valueFlag) Set(s string) error {
	if !v.file && !strings.Contains(s, "=") {
		return fmt.Errorf("%q has no value: write NAME=VALUE", s)
	}
	*v.into = append(*v.into, config.ValueArg{File: v.file, Arg: s})
	return nil
}

func (f *specFlags) register(flags *pflag.FlagSet) {
	flags.Var(valueFlag{&f.values, false}, "var", "give a variable of the spec a value; may be given several times")
	flags.Var(valueFlag{&f.values, true}, "var-file", "read values of variables from a file; may be given several times")
}

// registerAs is for commands that only look.
func (f *specFlags) registerAs(flags *pflag.FlagSet) {
	flags.StringVar(&f.as, "as", "", "take PATH, of which there is one, as if it lay at `PLACE`")
}

// checkAs wants one path with --as.
func (f *specFlags) checkAs(cmd *cobra.Command, args []string) error {
	if cmd.Flags().Changed("as") && (f.as == "" || len(args) != 1) {
		return usageError{errors.New("--as takes a path, and one PATH that stands for it"), cmd}
	}
	return nil
}

// treeRoot is --root as an absolute path without symlinks, "" without it or for the host itself.
func (a *app) treeRoot() string {
	if a.root == "" {
		return ""
	}
	abs := absolute(a.root)
	// What is below is reached without following symlinks; the root itself is the user's word.
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	if abs == "/" {
		return ""
	}
	return abs
}

// paths are the spec paths of a command line, by default /etc/overlayd.
func (a *app) paths(args []string) []string {
	if len(args) == 0 {
		return []string{filepath.Join("/", a.treeRoot(), "etc/overlayd")}
	}
	return args
}

// loaded is a spec that was read, and what it asks for.
type loaded struct {
	spec    *config.Spec
	desired plan.Desired
	diags   hcl.Diagnostics
	standIn string // --as, absolute: nobody has put anything there yet
}

// load reads a spec. Errors in it are in the diagnostics.
func (a *app) load(args []string, f specFlags) loaded {
	in := config.Inputs{Root: a.treeRoot(), Values: f.values, Environ: a.environ, HostName: a.hostName()}
	var l loaded
	if f.as != "" {
		l.spec, l.diags = config.LoadAs(args[0], f.as, in)
		l.standIn = absolute(f.as)
	} else {
		l.spec, l.diags = config.Load(a.paths(args), in)
	}
	if !l.diags.HasErrors() {
		var more hcl.Diagnostics
		l.desired, more = reconcile.Desire(l.spec, a.treeRoot())
		l.diags = append(l.diags, more...)
	}
	if l.diags.HasErrors() {
		l.desired = plan.Desired{}
	}
	return l
}

// hostName is the value of host.name: this host's, or what the tree of --root says.
func (a *app) hostName() string {
	if root := a.treeRoot(); root != "" {
		text, err := os.ReadFile(filepath.Join(root, "etc/hostname"))
		if err == nil && len(bytes.TrimSpace(text)) > 0 {
			return string(bytes.TrimSpace(text))
		}
		return "localhost"
	}
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}

// trust refuses files that somebody other than root can change, since root is about to act on them.
func trust(files []string) error {
	for _, f := range files {
		if err := safedir.CheckOwner(absolute(f)); err != nil {
			return fmt.Errorf("cannot act on %s: %w", f, err)
		}
	}
	return nil
}

// distrust warns of such files where they are only looked at. Files that share the reason share the warning.
func distrust(files []string) hcl.Diagnostics {
	var diags hcl.Diagnostics
	warned := map[string]bool{}
	for _, f := range files {
		err := safedir.CheckOwner(absolute(f))
		if err == nil || warned[err.Error()] {
			continue
		}
		warned[err.Error()] = true
		diags = append(diags, &hcl.Diagnostic{
			Severity: hcl.DiagWarning, Summary: "Apply will refuse this spec",
			Detail: fmt.Sprintf("Somebody other than root can change %s: %v.", f, err), Extra: wholeFile(f),
		})
	}
	return diags
}

// wholeFile marks a diagnostic that is about a file, and about no line of it.
type wholeFile string

// absolute makes a path absolute; without a working directory it stays as it is, and is refused for that.
func absolute(p string) string {
	if abs, err := filepath.Abs(p); err == nil {
		return abs
	}
	return p
}

// files are all files that a spec was read from, and the directories: who can write to one decides what the spec is.
// With --as they are those that are in place already.
func (l loaded) files() []string {
	if l.spec == nil {
		return nil
	}
	files := slices.Concat(l.spec.Files, l.spec.ValueFiles, l.spec.Dirs)
	if l.standIn == "" {
		return files
	}
	return slices.DeleteFunc(files, func(file string) bool {
		_, err := os.Lstat(file)
		return file == l.standIn || strings.HasPrefix(file, l.standIn+"/") || errors.Is(err, fs.ErrNotExist)
	})
}

// mustLoad reads a spec for a command that cannot go on with a broken one. It shows the diagnostics; with --json the
// errors are the result.
func (a *app) mustLoad(args []string, f specFlags, json bool) (loaded, error) {
	for _, file := range args {
		if reconcile.IsPlanFile(file) {
			return loaded{}, a.fail(fmt.Errorf("cannot read %s as a spec: it is a saved plan, for overlayd apply %s", file,
				file), json)
		}
	}
	l := a.load(args, f)
	if l.diags.HasErrors() {
		if json {
			a.writeFailure("the spec has errors", l.diags)
		} else {
			a.showDiagnostics(l)
		}
		return l, exitCode(exitError)
	}
	a.showDiagnostics(l)
	return l, nil
}

// showDiagnostics prints diagnostics with the source they are about, to stderr.
func (a *app) showDiagnostics(l loaded) {
	if len(l.diags) == 0 {
		return
	}
	var files map[string]*hcl.File
	if l.spec != nil {
		files = l.spec.Sources
	}
	w := hcl.NewDiagnosticTextWriter(a.err, files, a.width(a.err), a.colour(a.err))
	if err := w.WriteDiagnostics(l.diags); err != nil {
		a.log.WithError(err).Error("cannot show diagnostics")
	}
}

// targetFlags are the flags of commands that can do a part.
type targetFlags struct{ texts []string }

func (t *targetFlags) register(flags *pflag.FlagSet) {
	flags.StringArrayVar(&t.texts, "target", nil,
		"only `ADDRESS` and what it needs: overlay.NAME or overlay.NAME[\"KEY\"], KEY may be a pattern")
}

// parse reads the targets. One that matches none of the addresses is an error: it would do nothing, silently.
func (t *targetFlags) parse(cmd *cobra.Command, h *reconcile.Host, d plan.Desired) ([]plan.Target, error) {
	out, err := t.targets(cmd)
	if err != nil || len(out) == 0 {
		return nil, err
	}
	applied, err := h.Applied()
	if err != nil {
		return nil, err
	}
	var addresses []string
	for _, o := range d.Overlays {
		addresses = append(addresses, o.Address)
	}
	for _, o := range applied.Overlays {
		if d.Scope.Contains(o.Source) || slices.Contains(d.Scope.Mountpoints, o.Mountpoint) {
			addresses = append(addresses, o.Address)
		}
	}
	if none := plan.Unmatched(out, addresses); len(none) > 0 {
		return nil, fmt.Errorf("cannot find target %s: no overlay of the spec, nor one applied from it, has such an "+
			"address (overlayd status lists them)", none[0])
	}
	return out, nil
}

// targets reads the targets without looking for what they match.
func (t *targetFlags) targets(cmd *cobra.Command) ([]plan.Target, error) {
	var out []plan.Target
	for _, text := range t.texts {
		parsed, err := plan.ParseTarget(text)
		if err != nil {
			return nil, usageError{err, cmd}
		}
		out = append(out, parsed)
	}
	return out, nil
}
