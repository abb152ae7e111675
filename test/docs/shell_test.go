package docs_test

import (
	"regexp"
	"slices"
	"strings"
)

// commandLines are the lines of a code block that a reader types.
func commandLines(f fence) []span {
	var out []span
	until, cont := "", false
	for i, line := range strings.Split(f.text, "\n") {
		if until != "" {
			if strings.TrimSpace(line) == until {
				until = ""
			}
			continue
		}
		if f.language() == "console" && !cont {
			rest, typed := strings.CutPrefix(line, "$ ")
			if !typed {
				rest, typed = strings.CutPrefix(line, "# ")
			}
			if !typed {
				continue
			}
			line = rest
		}
		if m := heredoc.FindStringSubmatch(line); m != nil {
			until = m[1]
		}
		text, more := strings.CutSuffix(strings.TrimRight(line, " "), `\`)
		if cont {
			out[len(out)-1].text += " " + text
		} else {
			out = append(out, span{line: f.line + i, text: text})
		}
		cont = more
	}
	return out
}

var heredoc = regexp.MustCompile(`<<-?\s*["']?([A-Za-z_]+)["']?`)

// simpleCommands splits a line of shell into the words of its commands, as well
// as documentation needs it.
func simpleCommands(line string) [][]string {
	var out [][]string
	var words []string
	var word strings.Builder
	inWord := false
	endWord := func() {
		if inWord {
			words = append(words, word.String())
			word.Reset()
			inWord = false
		}
	}
	endCommand := func() {
		endWord()
		if len(words) > 0 {
			out = append(out, words)
			words = nil
		}
	}
	var quote rune
	for i, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
			inWord = true
		case quote == '\'', quote == '"' && !strings.HasPrefix(line[i:], "$("):
			word.WriteRune(r)
			inWord = true
		case r == '\'' || r == '"':
			quote = r
		case r == '#' && !inWord:
			endCommand()
			return out
		case strings.ContainsRune("|&;()`", r), quote == '"':
			if quote == '"' { // a command inside of a text is a command
				quote = 0
			}
			endCommand()
		case r == ' ' || r == '\t':
			endWord()
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	endCommand()
	return out
}

var assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)

// overlaydArgs returns the arguments if a command runs overlayd.
func overlaydArgs(words []string) ([]string, bool) {
	prefixes := []string{"sudo", "env", "exec", "time", "nice", "if", "then", "do", "while", "!", "else", "watch", "$"}
	for len(words) > 0 && (assignment.MatchString(words[0]) || slices.Contains(prefixes, words[0])) {
		words = words[1:]
		for len(words) > 0 && strings.HasPrefix(words[0], "-") {
			words = words[1:]
		}
	}
	if len(words) == 0 || words[0] != "overlayd" && !strings.HasSuffix(words[0], "bin/overlayd") {
		return nil, false
	}
	return words[1:], true
}
