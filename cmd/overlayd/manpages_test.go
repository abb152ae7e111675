package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/overlayd/overlayd/internal/manpage"
)

// pages are all manual pages, by file name.
func pages(t *testing.T) map[string]string {
	t.Helper()
	book := manpage.Book{Program: (&app{}).command(), Docs: os.DirFS("../../docs"), Version: "1.2.3", Date: "2026-01-02"}
	all, err := book.Pages()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, p := range all {
		out[p.File()] = p.Text
	}
	return out
}

// everyCommand is the program and all its commands.
func everyCommand() []*cobra.Command {
	root := (&app{}).command()
	return append([]*cobra.Command{root}, root.Commands()...)
}

// help is what a command shows with --help.
func help(t *testing.T, c *cobra.Command) string {
	t.Helper()
	var out, errs bytes.Buffer
	args := append(strings.Fields(c.CommandPath())[1:], "--help")
	if code := run(t.Context(), args, streams{out: &out, err: &errs}); code != exitOK || errs.Len() > 0 {
		t.Fatalf("%v: exit code %d, stderr %q", args, code, errs.String())
	}
	return out.String()
}

var (
	fonts     = regexp.MustCompile(`\\f[A-Z]`)
	macro     = regexp.MustCompile(`(?m)^\.(TP|PP|EX|EE|RE|RS \d+)$`)
	unescaped = strings.NewReplacer(
		`\-`, "-", `\(aq`, "'", `\(ga`, "`", `\(ha`, "^", `\(ti`, "~", `\e`, `\`, `\&`, "", `\ `, " ",
	)
)

// folded is text on one line, as a help and a page break lines at different places.
func folded(text string) string { return strings.Join(strings.Fields(text), " ") }

// shown is what a page shows, on one line.
func shown(page string) string {
	return folded(macro.ReplaceAllString(unescaped.Replace(fonts.ReplaceAllString(page, "")), ""))
}

// TestManHasTheHelp holds each page against the help of its command: how it is called, all of the text, all examples,
// and each option with its text.
func TestManHasTheHelp(t *testing.T) {
	all := pages(t)
	for _, c := range everyCommand() {
		name := strings.ReplaceAll(c.CommandPath(), " ", "-") + ".8"
		page, ok := all[name]
		if !ok {
			t.Errorf("%s has no manual page: %s is missing", c.CommandPath(), name)
			continue
		}
		page, usage := shown(page), folded(help(t, c))
		has := func(what, text string) {
			if text = folded(text); !strings.Contains(page, text) {
				t.Errorf("%s does not have %s of the command: %s", name, what, text)
			}
			if !strings.Contains(usage, text) {
				t.Errorf("%s --help does not have %s: %s", c.CommandPath(), what, text)
			}
		}
		has("the usage", c.UseLine())
		if c.HasParent() { // the program's own text is longer in its page
			for paragraph := range strings.SplitSeq(c.Long, "\n\n") {
				has("the text", paragraph)
			}
		}
		for line := range strings.Lines(c.Example) {
			has("the example", line)
		}
		for option := range everyOption(c.LocalFlags()) {
			if c.HasParent() && c.InheritedFlags().Lookup(option.Name) != nil {
				continue
			}
			placeholder, text := pflag.UnquoteUsage(option)
			has("the option", strings.TrimSpace("--"+option.Name+" "+placeholder)+" "+text)
		}
	}
}

func everyOption(flags *pflag.FlagSet) func(yield func(*pflag.Flag) bool) {
	var all []*pflag.Flag
	flags.VisitAll(func(f *pflag.Flag) { all = append(all, f) })
	return slices.Values(all)
}

// TestHelp holds what is true of the help of each command.
func TestHelp(t *testing.T) {
	for _, c := range everyCommand() {
		text := help(t, c)
		if !strings.HasPrefix(text, "Usage: "+c.CommandPath()+" [OPTION...]") {
			t.Errorf("%s --help does not begin with how it is called:\n%s", c.CommandPath(), text)
		}
		for line := range strings.Lines(text) {
			line = strings.TrimSuffix(line, "\n")
			if len([]rune(line)) > helpWidth || strings.TrimRight(line, " ") != line {
				t.Errorf("%s --help: too wide, or with blanks at its end: %q", c.CommandPath(), line)
			}
		}
		if c.HasParent() && (c.Long == "" || c.Example == "") {
			t.Errorf("%s has no description, or no example", c.CommandPath())
		}
		for option := range everyOption(c.LocalFlags()) {
			placeholder, use := pflag.UnquoteUsage(option)
			if placeholder != strings.ToUpper(placeholder) || (option.NoOptDefVal == "") != (placeholder != "") {
				t.Errorf("%s --%s %s: a value has a name, in capitals", c.CommandPath(), option.Name, placeholder)
			}
			if use == "" || strings.HasSuffix(use, ".") || use[:1] == strings.ToUpper(use[:1]) {
				t.Errorf("%s --%s: %q is not a phrase", c.CommandPath(), option.Name, use)
			}
		}
	}
}

// TestManSections holds the shape of the pages: what an administrator finds in each, and that each reference leads to
// a page.
func TestManSections(t *testing.T) {
	all := pages(t)
	heading := regexp.MustCompile(`(?m)^\.SH "?([^"\n]+)"?$`)
	ours := regexp.MustCompile(`\\fB(overlayd[a-z.\\-]*)\\fR\((\d)\)`)
	for file, page := range all {
		want := []string{"NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "SEE ALSO"}
		if strings.HasSuffix(file, ".5") {
			want = slices.DeleteFunc(want, func(s string) bool { return s == "EXIT STATUS" })
		}
		var got []string
		for _, m := range heading.FindAllStringSubmatch(page, -1) {
			if slices.Contains(got, m[1]) {
				t.Errorf("%s has the section %s twice", file, m[1])
			}
			got = append(got, m[1])
		}
		at := -1
		for _, s := range want {
			if i := slices.Index(got, s); i <= at {
				t.Errorf("%s: the section %s is missing or out of place, among %q", file, s, got)
			} else {
				at = i
			}
		}
		if len(got) == 0 || got[len(got)-1] != "SEE ALSO" {
			t.Errorf("%s does not end with SEE ALSO", file)
		}
		references := ours.FindAllStringSubmatch(page, -1)
		for _, m := range references {
			if to := strings.ReplaceAll(m[1], `\-`, "-") + "." + m[2]; all[to] == "" {
				t.Errorf("%s refers to %s, which does not exist", file, to)
			}
		}
		if len(references) == 0 {
			t.Errorf("%s refers to no other page", file)
		}
		title := `.TH "` + strings.ReplaceAll(strings.TrimSuffix(file, filepath.Ext(file)), "-", `\-`) + `" ` +
			filepath.Ext(file)[1:] + ` "2026\-01\-02" "overlayd 1.2.3"`
		if !strings.Contains(page, title+"\n") {
			t.Errorf("%s has another title than %s", file, title)
		}
	}
	for _, file := range []string{"overlayd.8", "overlayd.hcl.5"} {
		if all[file] == "" {
			t.Errorf("there is no %s", file)
		}
	}
}

// TestMan shows each page with man, which must not complain, and finds the line for whatis.
func TestMan(t *testing.T) {
	for _, tool := range []string{"man", "lexgrog", "groff"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("cannot check the manual pages: %v; apt-get install man-db groff-base", err)
			}
			t.Skipf("the manual pages are not checked, as %s is missing: apt-get install man-db groff-base", tool)
		}
	}
	dir := t.TempDir()
	for file, page := range pages(t) {
		t.Run(file, func(t *testing.T) {
			path := filepath.Join(dir, file)
			if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
				t.Fatal(err)
			}
			text := tool(t, "man", "--warnings", "-E", "UTF-8", "-l", path)
			if !strings.Contains(text, "\nNAME\n") {
				t.Errorf("man shows no section NAME:\n%s", text)
			}
			for line := range strings.Lines(text) {
				if line = strings.TrimSuffix(line, "\n"); len([]rune(line)) > 80 {
					t.Errorf("wider than 80 columns: %s", line)
				}
			}
			for _, markup := range []string{`\f`, "**", "](", "\n.", "```"} {
				if strings.Contains(text, markup) {
					t.Errorf("%q is in the text that man shows", markup)
				}
			}
			name := strings.TrimSuffix(file, filepath.Ext(file))
			got, want := tool(t, "lexgrog", path), path+`: "`+name+" - "
			if !strings.HasPrefix(got, want) || strings.Count(got, "\n") != 1 {
				t.Errorf("whatis would say %s, want one line that begins with %s", got, want)
			}
		})
	}
}

// tool runs a program that must not complain, and gives its output.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANWIDTH=80", "MANROFFSEQ=", "MANPAGER=cat", "MANOPT=")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil || errs.Len() > 0 {
		t.Errorf("%s: %v\n%s", cmd, err, errs.String())
	}
	return out.String()
}

// TestProgramIsWithoutManPages keeps what the pages are made with out of the program.
func TestProgramIsWithoutManPages(t *testing.T) {
	deps := strings.Fields(tool(t, "go", "list", "-deps", "."))
	if !slices.Contains(deps, "github.com/spf13/cobra") {
		t.Fatalf("not the packages of overlayd: %q", deps)
	}
	for _, p := range deps {
		if strings.Contains(p, "goldmark") || strings.HasSuffix(p, "internal/manpage") {
			t.Errorf("overlayd is linked with %s", p)
		}
	}
}
