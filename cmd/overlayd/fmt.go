package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/hashicorp/hcl/v2"
	"github.com/pmezard/go-difflib/difflib"
	"github.com/spf13/cobra"

	"github.com/overlayd/overlayd/internal/config"
)

func (a *app) fmtCommand() *cobra.Command {
	var check, diff bool
	cmd := &cobra.Command{
		Use:   "fmt [OPTION...] [PATH...]",
		Short: "Rewrite spec files in canonical form",
		Long: `Fmt rewrites spec and value files with canonical indentation and alignment, and
names the files it changed. PATH is a file or a directory, by default
/etc/overlayd. With --check it changes nothing, names the files that are not in
canonical form, and exits 2 if there are any. With --diff it also shows the
differences.`,
		Example: `  overlayd fmt
  overlayd fmt --check --diff site.hcl`,
		RunE: func(_ *cobra.Command, args []string) error {
			files, err := hclFiles(a.paths(args))
			if err != nil {
				return err
			}
			a.showDiagnostics(loaded{diags: distrust(files)})
			changed := false
			var errs []error
			for _, f := range files {
				did, err := a.format(f, !check, diff)
				changed = changed || did
				if err != nil {
					errs = append(errs, err)
				}
			}
			if err := errors.Join(errs...); err != nil {
				return err
			}
			if check && changed {
				return exitCode(exitDiffers)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "change nothing, and exit 2 when something would change")
	cmd.Flags().BoolVar(&diff, "diff", false, "show the differences")
	return cmd
}

// hclFiles lists the files named and those in the directories named, value files included.
func hclFiles(paths []string) ([]string, error) {
	var out []string
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, fmt.Errorf("cannot look for spec files: %w", err)
		}
		if !info.IsDir() {
			out = append(out, p)
			continue
		}
		entries, err := os.ReadDir(p)
		if err != nil {
			return nil, fmt.Errorf("cannot look for spec files: %w", err)
		}
		for _, e := range entries {
			if name := e.Name(); filepath.Ext(name) == ".hcl" && name[0] != '.' && !e.IsDir() {
				out = append(out, filepath.Join(p, name))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// textLines gives the lines of a text as diff(1) shows them.
func textLines(text string) []string {
	lines := strings.SplitAfter(text, "\n")
	last := len(lines) - 1
	if lines[last] == "" {
		return lines[:last]
	}
	lines[last] += "\n\\ No newline at end of file\n"
	return lines
}

// format formats one file and tells whether it was not in canonical form.
func (a *app) format(file string, write, diff bool) (bool, error) {
	src, err := os.ReadFile(file)
	if err != nil {
		return false, fmt.Errorf("cannot format %s: %w", file, err)
	}
	formatted, diags := config.Format(src, file)
	if diags.HasErrors() {
		w := hcl.NewDiagnosticTextWriter(a.err, map[string]*hcl.File{file: {Bytes: src}}, a.width(a.err), a.colour(a.err))
		if err := w.WriteDiagnostics(diags); err != nil {
			return false, err
		}
		return false, fmt.Errorf("cannot format %s: it has syntax errors", file)
	}
	if bytes.Equal(src, formatted) {
		return false, nil
	}
	fmt.Fprintln(a.out, file)
	if diff {
		text, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
			A: textLines(string(src)), B: textLines(string(formatted)),
			FromFile: file, ToFile: file + " (formatted)", Context: 3,
		})
		if err != nil {
			return true, fmt.Errorf("cannot show difference of %s: %w", file, err)
		}
		fmt.Fprint(a.out, text)
	}
	if !write {
		return true, nil
	}
	// Through a symlink the file itself is replaced, with its mode and owner.
	real, err := filepath.EvalSymlinks(file)
	if err != nil {
		return true, fmt.Errorf("cannot format %s: %w", file, err)
	}
	if err := renameio.WriteFile(real, formatted, 0o644, renameio.WithExistingPermissions()); err != nil {
		return true, fmt.Errorf("cannot format %s: %w", file, err)
	}
	return true, nil
}
