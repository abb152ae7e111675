package units

import (
	"bytes"
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

// Parse is the twin of [Mount.Render]. It reads any unit file, with the eyes of systemd: the last Options= counts,
// lists add up, an empty WantedBy= clears what came before. Only specifiers other than %% stay as they are.
//
// A unit without our section is no error: Ours is false, and What, Where, Type and Options tell which mount it is.
// An error means that the unit is ours but cannot be trusted to say what it was; what could be read comes with it.
func Parse(text []byte) (File, error) {
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
			if string(s.key) == "WantedBy" {
				f.WantedBy = readList(f.WantedBy, s.value)
			}
		case noteSection:
			switch string(s.key) {
			case "Version":
				version = string(s.value)
			case "Hash":
				f.Hash, hashStart, hashEnd = string(s.value), s.start, s.end
			default:
				problems = append(problems, f.readNote(s.key, s.value))
			}
		}
	}
	f.Ours = s.noted
	if !f.Ours {
		return f, nil
	}
	f.HashOK = f.Hash != "" && f.Hash == hashWithout(text, hashStart, hashEnd)
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
func IsOurs(text []byte) bool {
	if !bytes.Contains(text, []byte(noteSection)) {
		return false
	}
	s := newScanner(text)
	for s.next() {
	}
	return s.noted
}

// SetsMount tells whether a text, as of a drop-in, has an assignment in a [Mount] section.
func SetsMount(text []byte) bool {
	s := newScanner(text)
	for s.next() {
		if s.section == "Mount" {
			return true
		}
	}
	return false
}

func (f *File) readUnit(key, value []byte) {
	switch string(key) {
	case "Description":
		f.Description = unescapeSpecifiers(string(value))
	case "RequiresMountsFor":
		for _, word := range words(string(value), false) {
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

func (f *File) readMount(key, value []byte) {
	switch string(key) {
	case "What":
		f.What = unescapeSpecifiers(string(value))
	case "Where":
		f.Where = simplify(unescapeSpecifiers(string(value)))
	case "Type":
		f.Type = unescapeSpecifiers(string(value))
	case "Options":
		f.Options = unescapeOptions(unescapeSpecifiers(string(value)))
	}
}

func (f *File) readNote(key, value []byte) error {
	var ok bool
	switch string(key) {
	case "Address":
		f.Address = unescapeNote(string(value))
		return nil
	case "Source":
		f.Source = unescapeNote(string(value))
		return nil
	case "OnBusy":
		f.OnBusy = unescapeNote(string(value))
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
func addNames(list []string, value []byte) []string {
	for _, word := range words(string(value), true) {
		list = append(list, unescapeSpecifiers(word))
	}
	return list
}

// readList adds words to a list that an empty value clears.
func readList(list []string, value []byte) []string {
	if len(value) == 0 {
		return nil
	}
	return addNames(list, value)
}

func readBool(value []byte) (val, ok bool) {
	switch strings.ToLower(string(value)) {
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

// hashWithout is the hash of a text less its first comment line and the bytes from start to end.
func hashWithout(text []byte, start, end int) string {
	first := firstComment(text)
	h := sha256.New()
	h.Write(text[first:max(first, start)])
	h.Write(text[max(first, end):])
	return hex.EncodeToString(h.Sum(nil))
}

// firstComment is the length of the first line if it is a comment.
func firstComment(text []byte) int {
	if len(text) == 0 || text[0] != '#' {
		return 0
	}
	if n := bytes.IndexByte(text, '\n'); n >= 0 {
		return n + 1
	}
	return len(text)
}

// SameText tells whether two unit texts are the same but for the first comment line and the lines of our section that
// do not count as a change: Hash=, MadeMountpoint= and MadeData=.
func SameText(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	return slices.EqualFunc(countingLines(a), countingLines(b), bytes.Equal)
}

// countingLines are the lines that SameText compares.
func countingLines(text []byte) [][]byte {
	lines := make([][]byte, 0, 32)
	noted := false
	for line := range bytes.Lines(text[firstComment(text):]) {
		if line[0] == '[' {
			noted = bytes.Equal(bytes.TrimRight(line, "\n"), []byte("["+noteSection+"]"))
		}
		if noted && (bytes.HasPrefix(line, []byte(hashKey)) || bytes.HasPrefix(line, []byte("MadeMountpoint=")) ||
			bytes.HasPrefix(line, []byte("MadeData="))) {
			continue
		}
		lines = append(lines, line)
	}
	return lines
}
