// Package manpage makes the manual pages of overlayd: from its commands, whose help is the one source of what they do
// and take, and from the documents in docs. It is not part of the program; "go run -tags man ./cmd/overlayd DIR" writes
// the pages.
//
// cobra/doc and go-md2man would do this, too. But cobra's pages repeat all options of the program in each command, show
// the help's lists as running text, and have the day of the build for a date; go-md2man draws tables that are wider
// than a terminal, of which groff warns.
package manpage

import (
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Book is what the pages are made from.
type Book struct {
	Program *cobra.Command
	Docs    fs.FS  // the folder docs
	Version string // of the program, or empty
	Date    string // of the pages, or empty
}

// Page is a manual page.
type Page struct {
	Name    string // overlayd-plan
	Section int
	Text    string // roff
}

// File is the name of the file that man looks for.
func (p Page) File() string { return fmt.Sprintf("%s.%d", p.Name, p.Section) }

// language is the page of the language of specs, made from docs/language.md.
const (
	language        = "overlayd.hcl"
	languageShort   = "which overlay mounts a host should have"
	languageSource  = "language.md"
	languageFiles   = "/etc/overlayd/*.hcl\n/etc/overlayd/*.auto.vars.hcl"
	languageSeeAlso = "overlayd(8), overlayd-validate(8), overlayd-fmt(8), overlayd-plan(8), systemd.mount(5), mount(8)"
)

// Pages makes all pages, by name.
func (b Book) Pages() ([]Page, error) {
	top, err := b.program()
	if err != nil {
		return nil, err
	}
	spec, err := b.language()
	if err != nil {
		return nil, err
	}
	pages := []Page{top, spec}
	for _, c := range b.Program.Commands() {
		if c.GroupID == "" {
			continue // one that the shells ask for completions
		}
		p, err := b.command(c)
		if err != nil {
			return nil, err
		}
		pages = append(pages, p)
	}
	slices.SortFunc(pages, func(x, y Page) int { return strings.Compare(x.File(), y.File()) })
	return pages, nil
}

// program is overlayd(8): what docs/man/overlayd.8.md says, and lists of the commands and options.
func (b Book) program() (Page, error) {
	root := b.Program
	more, err := b.sections("man/" + pageName(root) + ".8.md")
	if err != nil {
		return Page{}, err
	}
	sections := []section{
		{"Synopsis", ".PP\n" + synopsis(root.UseLine()) + "\n"},
		{"Description", more[0].body},
		{"Commands", commands(root)},
		{"Options", description(optionsIntro) + options(root.LocalFlags())},
	}
	return b.page(pageName(root), 8, root.Short, join(sections, more[1:])), nil
}

const optionsIntro = "Each command takes these, before its name or after it:"

// elsewhere says where the options of all commands are, so that not each page repeats them.
func elsewhere(c *cobra.Command) string {
	var names []string
	c.InheritedFlags().VisitAll(func(f *pflag.Flag) {
		placeholder, _ := pflag.UnquoteUsage(f)
		names = append(names, strings.TrimSpace("--"+f.Name+" "+placeholder))
	})
	last := len(names) - 1
	return "The options that all commands take, " + strings.Join(names[:last], ", ") + " and " + names[last] +
		", are in " + pageName(c.Root()) + "(8)."
}

// command is the page of a command: its help, and what docs/man says besides.
func (b Book) command(c *cobra.Command) (Page, error) {
	more := []section{{}}
	file := "man/" + c.Name() + ".md"
	if _, err := fs.Stat(b.Docs, file); err == nil {
		if more, err = b.sections(file); err != nil {
			return Page{}, err
		}
	}
	long := c.Long
	if long == "" {
		long = c.Short + "."
	}
	sections := []section{
		{"Synopsis", ".PP\n" + synopsis(c.UseLine()) + "\n"},
		{"Description", description(long) + more[0].body},
		{"Options", options(c.NonInheritedFlags()) + description(elsewhere(c))},
	}
	defaults := []section{
		{"Exit status", item("0", "Done.") + item("1", "An error, or a mistake on the command line.")},
		{"See also", description("overlayd(8), overlayd.hcl(5)")},
	}
	if c.Flags().Lookup("var") != nil {
		defaults = append(defaults, section{"Environment", item(font("B", "OVERLAYD_VAR_")+font("I", "name"),
			prose("the value of a variable of the spec, if neither an option nor a file gives it one."))})
	}
	if c.HasExample() {
		defaults = append(defaults, section{"Examples", verbatim(dedent(c.Example))})
	}
	for _, d := range defaults {
		if !slices.ContainsFunc(more, func(s section) bool { return strings.EqualFold(s.title, d.title) }) {
			more = append(more, d)
		}
	}
	return b.page(pageName(c), 8, c.Short, join(sections, more[1:])), nil
}

// language is overlayd.hcl(5).
func (b Book) language() (Page, error) {
	more, err := b.sections(languageSource)
	if err != nil {
		return Page{}, err
	}
	files := strings.Split(languageFiles, "\n")
	synopsis := make([]string, 0, len(files))
	for _, f := range files {
		synopsis = append(synopsis, ".PP\n"+font("I", code(f))+"\n")
	}
	sections := []section{
		{"Synopsis", strings.Join(synopsis, "")},
		{"Description", more[0].body},
	}
	sections = append(append(sections, more[1:]...), section{"See also", description(languageSeeAlso)})
	return b.page(language, 5, languageShort, sections), nil
}

func (b Book) sections(file string) ([]section, error) {
	source, err := fs.ReadFile(b.Docs, file)
	if err != nil {
		return nil, fmt.Errorf("cannot make a manual page: %w", err)
	}
	return fromMarkdown("docs/"+file, source)
}

// last are the sections that end a page, in the order of man-pages(7).
var last = []string{"exit status", "environment", "files", "examples", "see also"}

// join orders the sections of a page. Those that are not as in every page stay in their order.
func join(first, more []section) []section {
	slices.SortStableFunc(more, func(x, y section) int { return place(x) - place(y) })
	return append(first, more...)
}

func place(s section) int { return slices.Index(last, strings.ToLower(s.title)) }

// snapshot is a version between two releases. Its time of day and commit have no room beside the date: the foot of a
// page is 80 columns, and the date is in their middle.
var snapshot = regexp.MustCompile(`^(.*~git\d{8})\..*$`)

// page puts a page together.
func (b Book) page(name string, number int, short string, sections []section) Page {
	source := strings.TrimSpace("overlayd " + snapshot.ReplaceAllString(b.Version, "$1"))
	var out strings.Builder
	out.WriteString("'\\\" t\n") // man runs tbl
	fmt.Fprintf(&out, ".TH %s %d %s %s\n", quoted(name), number, quoted(b.Date), quoted(source))
	// Words are not torn apart nor lines spread, for many are names and paths; and after a sentence is one blank.
	// HY and AD are what groff's macros go back to: those of 1.22 (Debian 12) after an example, 1.23 at a paragraph.
	out.WriteString(".nr HY 0\n.nh\n.ds AD l\n.ad l\n.ss 12 0\n")
	out.WriteString(".SH NAME\n" + code(name) + ` \- ` + prose(lower(short)) + "\n")
	for _, s := range sections {
		out.WriteString(".SH " + quoted(strings.ToUpper(s.title)) + "\n" + s.body)
	}
	return Page{Name: name, Section: number, Text: out.String()}
}

// lower begins a sentence with a small letter, as the one line on a page in whatis(1) does.
func lower(s string) string {
	runes := []rune(s)
	if len(runes) > 0 {
		runes[0] = unicode.ToLower(runes[0])
	}
	return string(runes)
}
