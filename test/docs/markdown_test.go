package docs_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// document is a Markdown file, as far as the tests look at it.
type document struct {
	path     string // relative to the root of the repository
	headings []heading
	fences   []fence
	// prose are the lines without code blocks, which are "" here.
	prose []string
}

type heading struct {
	line, level int
	text        string // with its markup
}

// fence is a code block. An indented one has no info.
type fence struct {
	line int // of the first line of its text
	end  int // of its last line, the closing one included
	info []string
	text string
}

func (d *document) at(line int) string { return fmt.Sprintf("%s:%d", d.path, line) }

// is tells whether the info string is exactly these words.
func (f fence) is(words ...string) bool { return slices.Equal(f.info, words) }

func (f fence) language() string {
	if len(f.info) == 0 {
		return ""
	}
	return f.info[0]
}

// documents are all Markdown files of the repository for its users and
// developers.
func documents(t *testing.T) []*document {
	t.Helper()
	var out []*document
	files, err := filepath.Glob(filepath.Join(root, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"docs", "examples"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(name string, _ fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(name, ".md") {
				files = append(files, name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range files {
		out = append(out, read(t, file))
	}
	if len(out) < 5 {
		t.Fatalf("only %d documents found: looking in the wrong place", len(out))
	}
	return out
}

func document1(t *testing.T, name string) *document {
	t.Helper()
	return read(t, filepath.Join(root, filepath.FromSlash(name)))
}

var (
	fenceStart   = regexp.MustCompile("^( *)(`{3,}|~{3,})(.*)$")
	headingStart = regexp.MustCompile(`^(#{1,6}) +(.*?)( +#+)?$`)
	listItem     = regexp.MustCompile(`^ *([-*+]|[0-9]+\.) `)
)

func read(t *testing.T, file string) *document {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	rel, err := filepath.Rel(root, file)
	if err != nil {
		t.Fatal(err)
	}
	d := &document{path: filepath.ToSlash(rel)}
	lines := strings.Split(string(text), "\n")
	inList := false
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		switch m := fenceStart.FindStringSubmatch(line); {
		case m != nil:
			end := i + 1
			for end < len(lines) && !strings.HasPrefix(strings.TrimSpace(lines[end]), m[2]) {
				end++
			}
			if end == len(lines) {
				t.Fatalf("%s: the code block has no end", d.at(i+1))
			}
			d.code(lines[i+1:end], len(m[1]), i+2, end+1, strings.Fields(m[3]))
			d.prose = append(d.prose, make([]string, end-i+1)...)
			i = end
			continue
		case strings.HasPrefix(line, "    ") && !inList && (i == 0 || strings.TrimSpace(lines[i-1]) == ""):
			end := i
			for end < len(lines) && (strings.HasPrefix(lines[end], "    ") || strings.TrimSpace(lines[end]) == "") {
				end++
			}
			d.code(lines[i:end], 4, i+1, end, nil)
			d.prose = append(d.prose, make([]string, end-i)...)
			i = end - 1
			continue
		case listItem.MatchString(line):
			inList = true
		case line != "" && line[0] != ' ':
			inList = false
		}
		if m := headingStart.FindStringSubmatch(line); m != nil {
			d.headings = append(d.headings, heading{line: i + 1, level: len(m[1]), text: m[2]})
		}
		d.prose = append(d.prose, line)
	}
	return d
}

func (d *document) code(lines []string, indent, first, end int, info []string) {
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(line[min(indent, len(line)-len(strings.TrimLeft(line, " "))):])
		b.WriteByte('\n')
	}
	d.fences = append(d.fences, fence{line: first, end: end, info: info, text: b.String()})
}

// span is a piece of a document's text and the line where it begins.
type span struct {
	line int
	text string
}

var codeSpan = regexp.MustCompile("``(?:[^`\n]|\n[^\n]|`[^`])+``|`(?:[^`\n]|\n[^`\n])+`")

// spans are the code spans in the prose.
func (d *document) spans() []span {
	prose := strings.Join(d.prose, "\n")
	var out []span
	for _, at := range codeSpan.FindAllStringIndex(prose, -1) {
		text := strings.Trim(prose[at[0]:at[1]], "`")
		out = append(out, span{
			line: 1 + strings.Count(prose[:at[0]], "\n"),
			text: strings.Join(strings.Fields(text), " "),
		})
	}
	return out
}

// withoutCode is the prose with code spans blanked, so that nothing in them
// looks like markup.
func (d *document) withoutCode() string {
	return codeSpan.ReplaceAllStringFunc(strings.Join(d.prose, "\n"), func(s string) string {
		return strings.Map(func(r rune) rune {
			if r == '\n' {
				return r
			}
			return ' '
		}, s)
	})
}

// items are the list items between two lines, the lines of each joined.
func (d *document) items(from, to int) []span {
	var out []span
	open := false
	for i := from; i < to-1 && i < len(d.prose); i++ {
		line := d.prose[i]
		switch {
		case strings.HasPrefix(line, "- "):
			out = append(out, span{line: i + 1, text: line[2:]})
			open = true
		case open && strings.HasPrefix(line, "  ") && strings.TrimSpace(line) != "":
			out[len(out)-1].text += " " + strings.TrimSpace(line)
		default:
			open = false
		}
	}
	return out
}

// section returns the lines (from, to) of the section with a heading, to its
// subsections' end.
func (d *document) section(t *testing.T, level int, text string) (from, to int) {
	t.Helper()
	for i, h := range d.headings {
		if h.level != level || h.text != text {
			continue
		}
		for _, next := range d.headings[i+1:] {
			if next.level <= level {
				return h.line, next.line
			}
		}
		return h.line, len(d.prose) + 1
	}
	t.Fatalf("%s: no heading %q of level %d", d.path, text, level)
	return 0, 0
}

// subsections are the headings of a level between two lines.
func (d *document) subsections(level, from, to int) []heading {
	return slices.DeleteFunc(slices.Clone(d.headings), func(h heading) bool {
		return h.level != level || h.line <= from || h.line >= to
	})
}
