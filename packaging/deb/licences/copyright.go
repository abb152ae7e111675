package main

import (
	"context"
	"fmt"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const header = `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: overlayd
Source: https://github.com/overlayd/overlayd
Comment:
 overlayd is a static program: what it uses of the Go standard library and of
 other modules is part of it. Their files, which the source package does not
 have, are named as in GOROOT (go/...) and in the Go module cache (...@VERSION).
 A module's name, without /vN and the version, is where its source code is.
 packaging/deb/licences writes this file.

Files: *
Copyright: 2026 the authors of overlayd
License: Apache-2.0
`

// A stanza says whose some files are, and under which terms.
type stanza struct {
	files   string
	holders holders
	terms   string
	notices []string // the Apache License wants them passed on
}

// Copyright writes the file for the source tree at root.
func Copyright(ctx context.Context, root string) (string, error) {
	arches, err := architectures(root)
	if err != nil {
		return "", err
	}
	modules, err := linked(ctx, root, arches)
	if err != nil {
		return "", err
	}
	golang, err := goroot(ctx)
	if err != nil {
		return "", err
	}
	modules = slices.Insert(modules, 0, Module{Name: "go", Dir: golang})
	own, err := os.ReadFile(filepath.Join(root, "LICENSE"))
	if err != nil {
		return "", err
	}
	texts := map[string]string{apache: common(apache), mozilla: common(mozilla)}

	var out strings.Builder
	out.WriteString(header)
	for _, module := range modules {
		stanzas, err := stanzasOf(module)
		if err != nil {
			return "", err
		}
		for _, s := range stanzas {
			name := nameOf(s.terms, module.Name, string(own))
			if name != apache && name != mozilla {
				if texts[name] != "" && plain(texts[name]) != plain(s.terms) {
					name += "-" + baseName(module.Name)
				}
				texts[name] = s.terms
			}
			fmt.Fprintf(&out, "\nFiles: %s\nCopyright: %s\nLicense: %s\n", s.files, strings.Join(s.holders.lines(), "\n "), name)
			for _, notice := range s.notices {
				fmt.Fprintf(&out, "Comment:\n%s", indent("The NOTICE that comes with it:\n\n"+notice))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		fmt.Fprintf(&out, "\nLicense: %s\n%s", name, indent(texts[name]))
	}
	return out.String(), nil
}

func common(name string) string {
	return "On Debian systems, the full text is in /usr/share/common-licenses/" + name + "."
}

// indent writes a text as the value of a field.
func indent(text string) string {
	var out strings.Builder
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		if line = strings.TrimRight(line, " \t\r\n"); line == "" {
			line = "."
		}
		out.WriteString(" " + line + "\n")
	}
	return out.String()
}

var (
	licenceFile = regexp.MustCompile(`(?i)^(un)?(licen[cs]e|copying)s?([.-].*)?$`)
	noticeFile  = regexp.MustCompile(`(?i)^notice(\..*)?$`)
)

// stanzasOf reads the licences of a module: that of the whole, those of folders in it that are linked, and those of
// single files that have other terms. In a copyright file the last that fits counts.
func stanzasOf(m Module) ([]stanza, error) {
	whole, err := readDir(m.Dir)
	if err != nil {
		return nil, err
	}
	if whole == nil {
		return nil, fmt.Errorf("%s has no licence in %s", m.Name, m.Dir)
	}
	whole.files = m.Name + "/*"
	var folders, files []stanza
	seen := []string{m.Dir}
	for _, file := range m.Files {
		for dir := filepath.Dir(file); !slices.Contains(seen, dir); dir = filepath.Dir(dir) {
			seen = append(seen, dir)
			s, err := readDir(dir)
			if err != nil {
				return nil, err
			}
			if s != nil {
				s.files = m.Name + strings.TrimPrefix(dir, m.Dir) + "/*"
				folders = append(folders, *s)
			}
		}
		s, err := readSource(file)
		if err != nil {
			return nil, fmt.Errorf("cannot read a file of %s: %w", m.Name, err)
		}
		if s.terms == "" || plain(s.terms) == plain(whole.terms) {
			whole.holders.add(s.holders)
			continue
		}
		s.files = m.Name + strings.TrimPrefix(file, m.Dir)
		files = append(files, s)
	}
	if len(whole.holders) == 0 {
		return nil, fmt.Errorf("%s does not say who has its copyright", m.Name)
	}
	slices.SortFunc(folders, func(a, b stanza) int { return strings.Compare(a.files, b.files) })
	return slices.Concat([]stanza{*whole}, folders, files), nil
}

// readDir reads the licence in a folder and the NOTICE beside it; nil when there is none.
func readDir(dir string) (*stanza, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	s := stanza{holders: holders{}}
	for _, entry := range entries {
		isLicence, isNotice := licenceFile.MatchString(entry.Name()), noticeFile.MatchString(entry.Name())
		if entry.IsDir() || !isLicence && !isNotice || strings.HasSuffix(entry.Name(), ".go") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, err
		}
		s.holders.read(string(data))
		if isNotice {
			s.notices = append(s.notices, string(data))
			continue
		}
		if s.terms != "" {
			return nil, fmt.Errorf("%s has more than one licence", dir)
		}
		s.terms = termsOf(string(data))
	}
	if s.terms == "" {
		return nil, nil
	}
	return &s, nil
}

// readSource reads who has the copyright of a source file, and its terms, if it has its own.
func readSource(path string) (stanza, error) {
	s := stanza{holders: holders{}}
	data, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	if filepath.Ext(path) != ".go" { // assembly
		head, _, _ := strings.Cut(string(data), "\n\n")
		s.holders.read(head)
		return s, nil
	}
	file, err := parser.ParseFile(token.NewFileSet(), path, data, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return s, err
	}
	for _, comment := range file.Comments {
		text := comment.Text()
		if terms := grants.FindString(text); terms != "" {
			return stanza{holders: holdersOf(text), terms: terms}, nil
		}
		if comment.Pos() < file.Package {
			s.holders.read(text)
		}
	}
	return s, nil
}

// grants finds a whole licence in a comment that may say more.
var grants = regexp.MustCompile(`(?is)(permission is hereby granted|redistribution and use in source).*` +
	`(or other\s+dealings\s+in\s+the\s+software|of\s+the\s+possibility\s+of\s+such\s+damage)\.`)
