package manpage

import (
	"regexp"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// synopsis is how a command is called: what is typed as it is in bold, what stands for something else in italics.
func synopsis(usage string) string {
	var out strings.Builder
	for rest := usage; rest != ""; {
		n := strings.IndexFunc(rest, func(r rune) bool { return !isWord(r) })
		switch {
		case n < 0:
			n = len(rest)
		case n == 0:
			out.WriteString(code(rest[:1]))
			rest = rest[1:]
			continue
		}
		name := "B"
		if rest[:n] == strings.ToUpper(rest[:n]) {
			name = "I"
		}
		if strings.Trim(rest[:n], ".") == "" {
			out.WriteString(rest[:n])
		} else {
			word := strings.TrimRight(rest[:n], ".")
			out.WriteString(font(name, code(word)) + rest[len(word):n])
		}
		rest = rest[n:]
	}
	return out.String()
}

func isWord(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("-_.", r)
}

var (
	// term begins a line of a list in a help: what is explained, and two blanks.
	term = regexp.MustCompile(`^  (\S(?: ?\S)*) {2,}(\S.*)$`)
	// more goes on with a line of a list.
	more = regexp.MustCompile(`^ {4,}\S`)
)

// definitions makes roff of a list in a help, if it is one of words and what they mean.
func definitions(paragraph string) (string, bool) {
	type definition struct{ term, meaning string }
	var all []definition
	for line := range strings.SplitSeq(paragraph, "\n") {
		m := term.FindStringSubmatch(line)
		switch {
		case m != nil:
			all = append(all, definition{m[1], m[2]})
		case len(all) > 0 && more.MatchString(line):
			all[len(all)-1].meaning += "\n" + strings.TrimSpace(line)
		default:
			return "", false
		}
	}
	var out strings.Builder
	for _, d := range all {
		out.WriteString(item(font("B", code(d.term)), prose(d.meaning)))
	}
	return out.String(), true
}

// description makes roff of the text of a command's help: paragraphs, lists, and indented lines that stay as they are.
func description(text string) string {
	var out strings.Builder
	for paragraph := range strings.SplitSeq(strings.Trim(text, "\n"), "\n\n") {
		if list, ok := definitions(paragraph); ok {
			out.WriteString(list)
			continue
		}
		if strings.HasPrefix(paragraph, "  ") {
			out.WriteString(verbatim(dedent(paragraph)))
			continue
		}
		out.WriteString(".PP\n" + guard(prose(paragraph)) + "\n")
	}
	return out.String()
}

// dedent takes away the two blanks with which examples and tables begin in a help.
func dedent(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(line, "  ")
	}
	return strings.Join(lines, "\n")
}

// options are those of a set of flags, in the order of the help.
func options(flags *pflag.FlagSet) string {
	var out strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		placeholder, text := pflag.UnquoteUsage(f)
		term := font("B", code("--"+f.Name))
		if f.Shorthand != "" {
			term = font("B", code("-"+f.Shorthand)) + ", " + term
		}
		if placeholder != "" {
			term += " " + font("I", code(placeholder))
		}
		if !isZero(f) {
			text += " (default " + f.DefValue + ")"
		}
		out.WriteString(item(term, prose(text)))
	})
	return out.String()
}

// isZero tells whether a flag does nothing unless it is given, in which case the help names no default.
func isZero(f *pflag.Flag) bool {
	switch f.DefValue {
	case "", "false", "0", "0s", "[]":
		return true
	}
	return false
}

// commands lists the commands of a program, by group, with their pages.
func commands(program *cobra.Command) string {
	var out strings.Builder
	for _, g := range program.Groups() {
		out.WriteString(".SS " + quoted(g.Title) + "\n")
		for _, c := range program.Commands() {
			if c.GroupID == g.ID {
				out.WriteString(item(font("B", code(pageName(c)))+"(8)", prose(c.Short)+"."))
			}
		}
	}
	return out.String()
}

// pageName is the name of a command's page: that of overlayd plan is overlayd-plan.
func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }
