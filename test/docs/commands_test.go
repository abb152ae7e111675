package docs_test

import (
	"regexp"
	"strings"
	"testing"
)

// TestCommands: every overlayd command line in a document is one the program has.
func TestCommands(t *testing.T) {
	m := newManual(t)
	checked := 0
	check := func(at, line string) {
		for _, words := range simpleCommands(line) {
			args, ok := overlaydArgs(words)
			if !ok {
				continue
			}
			checked++
			for _, wrong := range m.check(t, args) {
				t.Errorf("%s: %s: %s (see overlayd --help)", at, strings.TrimSpace(line), wrong)
			}
		}
	}
	for _, d := range documents(t) {
		for _, f := range d.fences {
			switch f.language() {
			case "sh", "console", "bash", "shell":
				if f.language() == "bash" || f.language() == "shell" {
					t.Errorf("%s: use ```sh for commands, ```console for commands and what they print", d.at(f.line))
				}
				for _, line := range commandLines(f) {
					check(d.at(line.line), line.text)
				}
			case "":
				// Without a language it may be anything, such as output.
				for i, line := range strings.Split(f.text, "\n") {
					line = strings.TrimPrefix(strings.TrimPrefix(line, "# "), "$ ")
					if strings.HasPrefix(line, "overlayd ") {
						check(d.at(f.line+i), line)
					}
				}
			}
		}
		for _, s := range d.spans() {
			if strings.HasPrefix(s.text, "overlayd ") {
				check(d.at(s.line), synopsis.Replace(s.text))
			}
		}
	}
	if checked < 30 {
		t.Errorf("only %d command lines found: the documents are not read right", checked)
	}
}

// synopsis takes the brackets of "plan [PATH...] [--json]" away.
var synopsis = strings.NewReplacer(" | ", " | ", "[", "", "]", "", "|", " ", "…", "", "...", "", "(", "", ")", "")

var placeholder = regexp.MustCompile(`^[A-Z][A-Z_]*$`)

// check says what is wrong with the arguments of overlayd.
func (m *manual) check(t *testing.T, args []string) []string {
	t.Helper()
	var wrong []string
	name, known := "", m.command(t, "")
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			return wrong
		case arg == "<" || arg == ">" || arg == ">>" || arg == "2>":
			i++ // the file it goes to
		case strings.HasPrefix(arg, "-") && len(arg) > 1:
			flag, _, given := strings.Cut(arg, "=")
			takes, ok := known.flags[flag]
			switch {
			case !ok:
				wrong = append(wrong, strings.TrimSpace("overlayd "+name)+" has no option "+flag)
			case takes && !given:
				i++
			case !takes && given:
				wrong = append(wrong, flag+" takes no value")
			}
		case name == "" && placeholder.MatchString(arg):
			return wrong
		case name == "":
			name = arg
			if known = m.command(t, name); known == nil {
				return append(wrong, "there is no command "+name)
			}
		}
	}
	return wrong
}
