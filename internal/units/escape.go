package units

import (
	"strings"
	"unicode/utf8"
)

// Each kind of value in a unit file has its own escaping, and a line has none of its own: NUL, CR and LF end it
// wherever they stand, invalid UTF-8 makes systemd refuse the whole file, and an odd number of backslashes at the end
// joins the next line to it. What config lets through has none of these. Should one come here all the same it becomes
// U+FFFD, so that the value is wrong but stays one value.
const replacement = "\uFFFD"

// appendLine appends s as the value of a key that systemd expands specifiers in.
func appendLine(out []byte, s string) []byte {
	start := len(out)
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '%':
			out = append(out, '%', '%')
		case c == 0 || c == '\n' || c == '\r':
			out = append(out, replacement...)
		case c < utf8.RuneSelf:
			out = append(out, c)
		default:
			var n int
			out, n = appendRune(out, s[i:])
			i += n
			continue
		}
		i++
	}
	return closeLine(out, start)
}

// appendRune copies the rune that s begins with, or a replacement for a byte that begins none.
func appendRune(out []byte, s string) ([]byte, int) {
	r, n := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && n == 1 {
		return append(out, replacement...), 1
	}
	return append(out, s[:n]...), n
}

// closeLine keeps a value out[start:] from joining the next line to it.
func closeLine(out []byte, start int) []byte {
	run := 0
	for i := len(out); i > start && out[i-1] == '\\'; i-- {
		run++
	}
	if run%2 == 1 {
		out = append(out[:len(out)-1], replacement...)
	}
	return out
}

// appendWhere appends a mountpoint. A blank or backslash at the end of the line would be lost; systemd drops a slash
// after it.
func appendWhere(out []byte, path string) []byte {
	if strings.HasSuffix(path, " ") || strings.HasSuffix(path, "\t") || strings.HasSuffix(path, `\`) {
		path += "/"
	}
	return appendLine(out, path)
}

// appendOptions appends mount options. systemd takes one level of backslashes off before it calls mount(8):
// two become one, but one before a comma or colon stays.
func appendOptions(out []byte, options string) []byte {
	return appendLine(out, strings.ReplaceAll(options, `\\`, `\\\\`))
}

// unescapeOptions gives what systemd makes of backslashes: of a run of n, n/2 stay, and the odd one with what follows.
func unescapeOptions(s string) string {
	if !strings.Contains(s, `\\`) {
		return s
	}
	return strings.ReplaceAll(s, `\\`, `\`)
}

// appendPath appends a path as a word in double quotes. Inside them a backslash takes the next byte as it is;
// C escapes such as \x20 are not known there.
func appendPath(out []byte, path string) []byte {
	if strings.ContainsAny(path, `\"`) {
		path = strings.ReplaceAll(strings.ReplaceAll(path, `\`, `\\`), `"`, `\"`)
	}
	out = append(out, '"')
	out = appendLine(out, path)
	return append(out, '"')
}

// appendName appends a unit name as a word. Blanks, quotes and a backslash at its end, which no unit name has, would
// change where the word ends.
func appendName(out []byte, name string) []byte {
	if strings.ContainsAny(name, " \t\"'") {
		name = strings.NewReplacer(" ", replacement, "\t", replacement, `"`, replacement, "'", replacement).Replace(name)
	}
	return appendLine(out, name)
}

// unescapeSpecifiers undoes %%. Other specifiers stay: what they mean is known to systemd only.
func unescapeSpecifiers(s string) string { return strings.ReplaceAll(s, "%%", "%") }

// appendNote appends a value of our own section, which systemd does not look into. Nearly every text comes out as it
// is. Bytes that the line would lose become %XX, and so does a percent sign that looks like one of these.
func appendNote(out []byte, s string) []byte {
	for i := 0; i < len(s); {
		c := s[i]
		edge := i == 0 || i == len(s)-1
		switch {
		case c < 0x20 || c == 0x7f || c == ' ' && edge || c == '\\' && i == len(s)-1 || c == '%' && isNoteEscape(s[i:]):
			out = appendNoteEscape(out, c)
		case c < utf8.RuneSelf:
			out = append(out, c)
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				out = appendNoteEscape(out, c)
			} else {
				out = append(out, s[i:i+n]...)
			}
			i += n
			continue
		}
		i++
	}
	return out
}

const upperHex = "0123456789ABCDEF"

func appendNoteEscape(out []byte, c byte) []byte {
	return append(out, '%', upperHex[c>>4], upperHex[c&15])
}

// isNoteEscape tells whether s begins with %XX.
func isNoteEscape(s string) bool {
	return len(s) >= 3 && s[0] == '%' && strings.IndexByte(upperHex, s[1]) >= 0 && strings.IndexByte(upperHex, s[2]) >= 0
}

// unescapeNote is the twin of appendNote.
func unescapeNote(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if isNoteEscape(s[i:]) {
			out = append(out, byte(strings.IndexByte(upperHex, s[i+1])<<4|strings.IndexByte(upperHex, s[i+2])))
			i += 2
			continue
		}
		out = append(out, s[i])
	}
	return string(out)
}

// words splits a list as systemd does: at blanks outside quotes. A backslash takes the next byte as it is; with
// retain (lists of unit names) it stays in the word.
func words(s string, retain bool) []string {
	list := make([]string, 0, 1+strings.Count(s, " "))
	var quote byte
	var word wordIn
	flush := func() {
		if text := word.text(s); text != "" {
			list = append(list, text)
		}
		word = wordIn{}
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s):
			if retain {
				word.add(s, i)
			}
			i++
			word.add(s, i)
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote == 0 && isBlank(c):
			flush()
		default:
			word.add(s, i)
		}
	}
	flush()
	if len(list) == 0 {
		return nil
	}
	return list
}

// wordIn is a word of a text: a part of it, as long as nothing within the word is left out, and a copy from then on.
type wordIn struct {
	start, end int
	copied     []byte
}

func (w *wordIn) add(s string, i int) {
	switch {
	case w.copied != nil:
		w.copied = append(w.copied, s[i])
	case w.start == w.end:
		w.start, w.end = i, i+1
	case i == w.end:
		w.end++
	default:
		w.copied = append([]byte(s[w.start:w.end]), s[i])
	}
}

func (w *wordIn) text(s string) string {
	if w.copied != nil {
		return string(w.copied)
	}
	return s[w.start:w.end]
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// simplify is what systemd does to a path it reads: it drops empty and "." components but leaves "..".
func simplify(path string) string {
	if !strings.Contains(path, "//") && !strings.Contains(path, "/.") && !strings.HasSuffix(path, "/") {
		return path
	}
	var b strings.Builder
	for rest := path; rest != ""; {
		var component string
		component, rest, _ = strings.Cut(rest, "/")
		if component != "" && component != "." {
			if b.Len() > 0 || strings.HasPrefix(path, "/") {
				b.WriteByte('/')
			}
			b.WriteString(component)
		}
	}
	if b.Len() == 0 && strings.HasPrefix(path, "/") {
		return "/"
	}
	return b.String()
}
