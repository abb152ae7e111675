package docs_test

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

var (
	inlineLink = regexp.MustCompile(`\]\(\s*<?([^)>\s]+)>?(?:\s+"[^"]*")?\s*\)`)
	linkTarget = regexp.MustCompile(`(?m)^ {0,3}\[([^\]]+)\]:\s*(\S+)`)
	linkByName = regexp.MustCompile(`\[[^\]]+\]\[([^\]]+)\]`)
	htmlLink   = regexp.MustCompile(`(?:src|href)="([^"]+)"`)
)

// TestLinks: what documents link to is there, headings included.
func TestLinks(t *testing.T) {
	all := map[string]*document{}
	for _, d := range documents(t) {
		all[d.path] = d
	}
	checked := 0
	for _, d := range all {
		prose := d.withoutCode()
		names := map[string]bool{}
		for _, m := range linkTarget.FindAllStringSubmatch(prose, -1) {
			names[strings.ToLower(m[1])] = true
		}
		for _, at := range linkByName.FindAllStringSubmatchIndex(prose, -1) {
			if name := prose[at[2]:at[3]]; !names[strings.ToLower(name)] {
				t.Errorf("%s: there is no [%s]: ... in this file", d.at(lineAt(prose, at[0])), name)
			}
		}
		for _, r := range []*regexp.Regexp{inlineLink, linkTarget, htmlLink} {
			for _, at := range r.FindAllStringSubmatchIndex(prose, -1) {
				checked++
				target := prose[at[len(at)-2]:at[len(at)-1]]
				if wrong := d.checkLink(all, target); wrong != "" {
					t.Errorf("%s: the link to %s leads nowhere: %s", d.at(lineAt(prose, at[0])), target, wrong)
				}
			}
		}
	}
	if checked < 10 {
		t.Errorf("only %d links found: the documents are not read right", checked)
	}
}

func lineAt(text string, at int) int { return 1 + strings.Count(text[:at], "\n") }

// checkLink says what is wrong with a link, "" if it is right or leads elsewhere.
func (d *document) checkLink(all map[string]*document, target string) string {
	if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
		return ""
	}
	file, anchor, _ := strings.Cut(target, "#")
	name := d.path
	if file != "" {
		name = path.Join(path.Dir(d.path), file)
		if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(name))); err != nil {
			return "there is no " + name
		}
	}
	if anchor == "" {
		return ""
	}
	to := all[name]
	if to == nil {
		return name + " has no headings"
	}
	if !to.anchors()[anchor] {
		return name + " has no such heading"
	}
	return ""
}

var markup = regexp.MustCompile("\\[([^\\]]*)\\]\\([^)]*\\)|[`*]")

// anchors are the names that GitHub gives to headings.
func (d *document) anchors() map[string]bool {
	out := map[string]bool{}
	for _, h := range d.headings {
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, markup.ReplaceAllString(h.text, "$1"))
		for i, base := 1, name; out[name]; i++ {
			name = fmt.Sprintf("%s-%d", base, i)
		}
		out[name] = true
	}
	return out
}
