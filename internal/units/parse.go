package units

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// File is what a .mount unit file says.
type File struct {
	Mount
	Type    string // of the filesystem; "overlay" in ours
	Ours    bool   // it has our section
	Version int    // of ours, 0 in others
	Hash    string // as written in it
	HashOK  bool   // it is as overlayd wrote it, but for the first comment line
}

// Text is what a unit text may come as. What is read of a string shares its memory.
type Text interface{ string | []byte }

// Parse is the twin of [Mount.Render]. It reads any unit file, with the eyes of systemd: the last Options= counts,
// lists add up, an empty WantedBy= clears what came before. Only specifiers other than %% stay as they are.
//
// A unit without our section is no error: Ours is false, and What, Where, Type and Options tell which mount it is.
// An error means that the unit is ours but cannot be trusted to say what it was; what could be read comes with it.
func Parse[T Text](text T) (File, error) { return parse(string(text)) }

func parse(text string) (File, error) {
	var f File
	var problems []error
	version := ""
	hashStart, hashEnd := 0, 0
	s := newScanner(text)
	for s.next() {
		switch s.section {
		case "Unit":
			f.readUnit(s.key, s.value)
		case "Mount":
			f.readMount(s.key, s.value)
		case "Install":
			if s.key == "WantedBy" {
				f.WantedBy = readList(f.WantedBy, s.value)
			}
		case noteSection:
			switch s.key {
			case "Version":
				version = s.value
			case "Hash":
				f.Hash, hashStart, hashEnd = s.value, s.start, s.end
			default:
				problems = append(problems, f.readNote(s.key, s.value))
			}
		}
	}
	f.Ours = s.noted
	if !f.Ours {
		return f, nil
	}
	f.HashOK = f.Hash != "" && isHash(f.Hash, text, hashStart, hashEnd)
	if s.err != nil {
		problems = append(problems, fmt.Errorf("systemd refuses %w", s.err))
	}
	var err error
	if f.Version, err = readVersion(version); err != nil {
		problems = append(problems, err)
	}
	if f.Where == "" {
		problems = append(problems, errors.New("[Mount] has no Where="))
	}
	if err := errors.Join(problems...); err != nil {
		return f, fmt.Errorf("cannot read a unit of overlayd: %w", err)
	}
	return f, nil
}

// IsOurs tells whether the text has our section.
func IsOurs[T Text](text T) bool { return isOurs(string(text)) }

func isOurs(text string) bool {
	if !strings.Contains(text, noteSection) {
		return false
	}
	s := newScanner(text)
	for s.next() {
	}
	return s.noted
}

// SetsMount tells whether a text, as of a drop-in, has an assignment in a [Mount] section.
func SetsMount(text []byte) bool {
	s := newScanner(string(text))
	for s.next() {
		if s.section == "Mount" {
			return true
		}
	}
	return false
}

func (f *File) readUnit(key, value string) {
	switch key {
	case "Description":
		f.Description = unescapeSpecifiers(value)
	case "RequiresMountsFor":
		for _, word := range words(value, false) {
			f.RequiresMountsFor = append(f.RequiresMountsFor, simplify(unescapeSpecifiers(word)))
		}
	case "After":
		f.After = addNames(f.After, value)
	case "Requires":
		f.Requires = addNames(f.Requires, value)
	case "Wants":
		f.Wants = addNames(f.Wants, value)
	}
}

func (f *File) readMount(key, value string) {
	switch key {
	case "What":
		f.What = unescapeSpecifiers(value)
	case "Where":
		f.Where = simplify(unescapeSpecifiers(value))
	case "Type":
		f.Type = unescapeSpecifiers(value)
	case "Options":
		f.Options = unescapeOptions(unescapeSpecifiers(value))
	}
}

func (f *File) readNote(key, value string) error {
	var ok bool
	switch key {
	case "Address":
		f.Address = unescapeNote(value)
		return nil
	case "Source":
		f.Source = unescapeNote(value)
		return nil
	case "OnBusy":
		f.OnBusy = unescapeNote(value)
		return nil
	case "PreventDestroy":
		f.PreventDestroy, ok = readBool(value)
	case "MadeMountpoint":
		f.MadeMountpoint, ok = readBool(value)
	case "MadeData":
		f.MadeData, ok = readBool(value)
	default:
		return nil
	}
	if !ok {
		return fmt.Errorf("%s=%s is neither yes nor no", key, value)
	}
	return nil
}

// addNames adds unit names. An empty value clears nothing: systemd.unit(5), dependencies can only be added.
func addNames(list []string, value string) []string {
	for _, word := range words(value, true) {
		list = append(list, unescapeSpecifiers(word))
	}
	return list
}

// readList adds words to a list that an empty value clears.
func readList(list []string, value string) []string {
	if value == "" {
		return nil
	}
	return addNames(list, value)
}

func readBool(value string) (val, ok bool) {
	switch strings.ToLower(value) {
	case "1", "yes", "y", "true", "t", "on":
		return true, true
	case "0", "no", "n", "false", "f", "off":
		return false, true
	}
	return false, false
}

func readVersion(text string) (int, error) {
	version, err := strconv.Atoi(text)
	switch {
	case err != nil || version < 1:
		return 0, fmt.Errorf("%q in Version= is no version", text)
	case version > Version:
		return version, fmt.Errorf("it was written by a later overlayd (Version=%d, known is %d): upgrade overlayd",
			version, Version)
	}
	return version, nil
}

// isHash tells whether hash is that of a text less its first comment line and the bytes from start to end.
func isHash(hash, text string, start, end int) bool {
	first := firstComment(text)
	var room [2048]byte // for nearly every unit, on the stack
	rest := append(room[:0], text[first:max(first, start)]...)
	rest = append(rest, text[max(first, end):]...)
	sum := sha256.Sum256(rest)
	var digits [2 * sha256.Size]byte
	hex.Encode(digits[:], sum[:])
	return string(digits[:]) == hash
}

// firstComment is the length of the first line if it is a comment.
func firstComment(text string) int {
	if text == "" || text[0] != '#' {
		return 0
	}
	if n := strings.IndexByte(text, '\n'); n >= 0 {
		return n + 1
	}
	return len(text)
}

// SameText tells whether two unit texts are the same but for the first comment line and the lines of our section that
// do not count as a change: Hash=, MadeMountpoint= and MadeData=.
func SameText(a []byte, b string) bool {
	if string(a) == b {
		return true
	}
	return slices.Equal(countingLines(string(a)), countingLines(b))
}

// countingLines are the lines that SameText compares.
func countingLines(text string) []string {
	lines := make([]string, 0, 32)
	noted := false
	for line := range strings.Lines(text[firstComment(text):]) {
		if line[0] == '[' {
			noted = strings.TrimRight(line, "\n") == "["+noteSection+"]"
		}
		if noted && (strings.HasPrefix(line, hashKey) || strings.HasPrefix(line, "MadeMountpoint=") ||
			strings.HasPrefix(line, "MadeData=")) {
			continue
		}
		lines = append(lines, line)
	}
	return lines
}
