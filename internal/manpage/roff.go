package manpage

import (
	"fmt"
	"regexp"
	"strings"
)

// width is how many columns man gives to the text of a section on a terminal of 80.
const width = 71

// symbols are the characters that groff takes for something else, or draws as something else that no shell understands
// when it is copied out of a page. See groff_char(7).
var symbols = strings.NewReplacer(
	`\`, `\e`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, "-", `\-`, "\u00a0", `\~`,
)

// code escapes text that is to be typed or compared: every character of it comes out as it is.
func code(s string) string { return symbols.Replace(s) }

var (
	// reference is a page of the manual in running text: mount(8).
	reference = regexp.MustCompile(`\b([a-zA-Z][a-zA-Z0-9_.@+-]*)\(([1-9])\)`)
	word      = regexp.MustCompile(`\S+`)
	// compound is a word whose hyphens are hyphens, and not those of an option or a name.
	compound = regexp.MustCompile(`^["(]*\pL+(-\pL+)+\pP*$`)
)

// prose escapes running text. References to other pages stand out.
func prose(s string) string {
	var out strings.Builder
	at := 0
	for _, m := range reference.FindAllStringSubmatchIndex(s, -1) {
		out.WriteString(words(s[at:m[0]]))
		out.WriteString(font("B", code(s[m[2]:m[3]])) + s[m[3]:m[1]])
		at = m[1]
	}
	out.WriteString(words(s[at:]))
	return out.String()
}

// words escapes text word by word.
func words(s string) string {
	return word.ReplaceAllStringFunc(s, func(w string) string {
		if compound.MatchString(w) {
			return strings.ReplaceAll(code(w), `\-`, "-")
		}
		return code(w)
	})
}

// span is code in running text, on one line if it is not long.
func span(s string) string {
	out := code(s)
	if columns(s) <= 30 {
		out = strings.ReplaceAll(out, " ", `\ `)
	}
	return font("B", out)
}

// font sets text, which is escaped already, in bold (B) or italics (I).
func font(name, text string) string { return `\f` + name + text + `\fR` }

// guard keeps lines of text from being taken for requests, and from being indented.
func guard(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		line = strings.TrimLeft(line, " ")
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, `\(aq`) {
			line = `\&` + line
		}
		lines[i] = line
	}
	return strings.Join(lines, "\n")
}

// verbatim shows lines as they are, one below the other, indented if they leave room for that.
func verbatim(text string) string {
	longest := 0
	for line := range strings.Lines(text) {
		longest = max(longest, columns(strings.TrimRight(line, "\n")))
	}
	const indent = 4
	var out strings.Builder
	out.WriteString(".PP\n")
	if longest+indent <= width {
		fmt.Fprintf(&out, ".RS %d\n", indent)
	}
	out.WriteString(".EX\n")
	for line := range strings.Lines(text) {
		line = code(strings.TrimRight(line, "\n"))
		if strings.HasPrefix(line, ".") {
			line = `\&` + line
		}
		out.WriteString(line + "\n")
	}
	out.WriteString(".EE\n")
	if longest+indent <= width {
		out.WriteString(".RE\n")
	}
	return out.String()
}

// item is a term and, below it, what it means. Both are escaped already.
func item(term, meaning string) string { return ".TP\n" + guard(term) + "\n" + guard(meaning) + "\n" }

// quoted is an argument of a macro.
func quoted(s string) string { return `"` + strings.ReplaceAll(code(s), `"`, `\(dq`) + `"` }
