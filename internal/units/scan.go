package units

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// scanner reads assignments of a unit file as systemd's config_parse() does: CR, LF and NUL end a line, a comment is
// a line that begins with # or ;, also between continued lines, and a backslash at the end of a line joins the next
// to it with a blank.
type scanner struct {
	rest    string
	section string
	key     string
	value   string
	start   int // offset of the raw line of the assignment
	end     int
	offset  int
	noted   bool  // our section was seen
	err     error // why systemd refuses the file
}

var errSection = errors.New("a section header without its closing bracket")

var errUTF8 = errors.New("text that is not UTF-8")

func newScanner(text string) *scanner {
	s := &scanner{rest: text}
	if trimmed, ok := strings.CutPrefix(text, "\uFEFF"); ok {
		s.rest, s.offset = trimmed, len(text)-len(trimmed)
	}
	return s
}

// line takes one raw line without its end.
func (s *scanner) line() (string, bool) {
	if s.rest == "" {
		return "", false
	}
	s.start = s.offset
	line := s.rest
	for _, end := range [...]byte{'\n', '\r', 0} {
		if n := strings.IndexByte(line, end); n >= 0 {
			line = line[:n]
		}
	}
	// Ends of different kinds in a row, as in CR LF, are one end; nothing joins a NUL from behind.
	n := len(line)
	for seen := uint64(0); n < len(s.rest) && seen&1 == 0; n++ {
		c := s.rest[n]
		if c != '\n' && c != '\r' && c != 0 || seen&(1<<c) != 0 {
			break
		}
		seen |= 1 << c
	}
	s.rest = s.rest[n:]
	s.offset += n
	s.end = s.offset
	return line, true
}

// logical takes one line after joining, without blanks at its edges.
func (s *scanner) logical() (string, bool) {
	var joined []byte
	start := -1
	for {
		line, ok := s.line()
		if !ok {
			s.start = max(start, 0)
			return trimBlanks(string(joined)), start >= 0
		}
		line = trimLeft(line)
		if line != "" && (line[0] == '#' || line[0] == ';') {
			continue
		}
		if start < 0 {
			start = s.start
		}
		n := len(line)
		for n > 0 && line[n-1] == '\\' {
			n--
		}
		if open := (len(line)-n)%2 == 1; open {
			joined = append(joined, line[:len(line)-1]...)
			joined = append(joined, ' ')
			continue
		}
		s.start = start
		if joined != nil {
			line = string(append(joined, line...))
		}
		return trimBlanks(line), true
	}
}

// trimBlanks is strings.Trim for blanks and tabs, and trimLeft one side of it; each unit has some dozens of lines.
func trimBlanks(s string) string {
	s = trimLeft(s)
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

func trimLeft(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	return s
}

// next goes to the next assignment.
func (s *scanner) next() bool {
	for {
		line, ok := s.logical()
		if !ok {
			return false
		}
		if line == "" {
			continue
		}
		if s.err == nil && !utf8.ValidString(line) {
			s.err = errUTF8
		}
		if line[0] == '[' {
			if line[len(line)-1] != ']' || len(line) < 2 {
				if s.err == nil {
					s.err = errSection
				}
				continue
			}
			s.section = line[1 : len(line)-1]
			s.noted = s.noted || s.section == noteSection
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		s.key, s.value = trimBlanks(key), trimLeft(value) // the line had none at its edges
		return true
	}
}
