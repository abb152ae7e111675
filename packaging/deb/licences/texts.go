package main

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	notice      = regexp.MustCompile(`^[\s/*#]*(Copyright .*)$`)
	placeholder = regexp.MustCompile(`[\[{<](yyyy|year)`)
	dated       = regexp.MustCompile(`(?i)(\(c\)|©|\b(19|20)\d\d\b|authors)`)
	year        = regexp.MustCompile(`\b(?:19|20)\d\d\b`)
	around      = regexp.MustCompile(`(?i)^copyright|\(c\)|©|all rights reserved|\b(?:19|20)\d\d\b(\s*[-–,]\s*)?`)
	title       = regexp.MustCompile(`(?i)^(the )?(mit|mozilla public|([23]-clause )?bsd) license\W*(mit|version 2\.0)?\W*$`)
	reserved    = regexp.MustCompile(`(?i)^all rights reserved\.?$`)
	endorsers   = regexp.MustCompile(`neither the names? of (?:the )?(.*?) nor the names? of`)
	bullets     = regexp.MustCompile(`(?m)^\s*([-*]|\d\.|\(\w\))\s`)
	major       = regexp.MustCompile(`/v\d+$`)
	address     = regexp.MustCompile(`<https?://\S+>\s*$`)
	marks       = regexp.MustCompile(`[^a-z0-9]+`)
)

// copyrightOf reads a line such as "Copyright (c) 2014-2016 Jane Doe. All rights reserved.".
func copyrightOf(line string) (holder string, years []int, ok bool) {
	found := notice.FindStringSubmatch(line)
	if found == nil || !dated.MatchString(found[1]) || placeholder.MatchString(found[1]) {
		return "", nil, false
	}
	for _, y := range year.FindAllString(found[1], -1) {
		n, _ := strconv.Atoi(y) // four digits
		years = append(years, n)
	}
	holder = around.ReplaceAllString(found[1], "")
	holder = strings.Join(strings.Fields(strings.ReplaceAll(holder, " ,", ",")), " ")
	holder = strings.Trim(strings.TrimSuffix(holder, " ."), " ,")
	if !strings.HasSuffix(holder, "Inc.") && !strings.HasSuffix(holder, "Ltd.") && !strings.HasSuffix(holder, "Corp.") {
		holder = strings.TrimRight(holder, ".")
	}
	return holder, years, holder != ""
}

// holders collects who has a copyright, and since and until when as far as it says.
type holders map[string][]int

func holdersOf(text string) holders {
	h := holders{}
	h.read(text)
	return h
}

func (h holders) read(text string) {
	for line := range strings.Lines(text) {
		if holder, years, ok := copyrightOf(strings.TrimSpace(line)); ok {
			h.add(holders{holder: years})
		}
	}
}

func (h holders) add(other holders) {
	for holder, years := range other {
		for known := range h { // "CoreOS, Inc" and "CoreOS, Inc." are one
			if plain(known) == plain(holder) {
				holder = known
			}
		}
		h[holder] = append(h[holder], years...)
	}
}

// lines says it as a copyright file does: "2014-2016 Jane Doe".
func (h holders) lines() []string {
	var lines []string
	for holder, years := range h {
		if len(years) == 0 {
			lines = append(lines, holder)
			continue
		}
		span := strconv.Itoa(slices.Min(years))
		if last := strconv.Itoa(slices.Max(years)); last != span {
			span += "-" + last
		}
		lines = append(lines, span+" "+holder)
	}
	slices.Sort(lines)
	return lines
}

// termsOf is the licence without what stands around it: titles and copyrights above, an address below.
func termsOf(text string) string {
	lines := strings.Split(strings.ReplaceAll(text, "\r", ""), "\n")
	for len(lines) > 0 {
		line := strings.TrimSpace(lines[0])
		_, _, ok := copyrightOf(line)
		if line != "" && !ok && !title.MatchString(line) && !reserved.MatchString(line) {
			break
		}
		lines = lines[1:]
	}
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " \t")
	}
	return strings.TrimSpace(address.ReplaceAllString(strings.Join(lines, "\n"), ""))
}

// plain makes equal what differs in line breaks, bullets, quotes and capitals only.
func plain(text string) string {
	text = bullets.ReplaceAllString(text, " ")
	return strings.Trim(marks.ReplaceAllString(strings.ToLower(text), " "), " ")
}

// Terms of licences that every Debian system has the text of, in /usr/share/common-licenses.
const (
	apache  = "Apache-2.0"
	mozilla = "MPL-2.0"
)

// nameOf gives the terms the name that Debian's copyright files have for them. What it does not know is named after the
// module.
func nameOf(terms, module, apacheText string) string {
	p := plain(terms)
	switch {
	case upToEnd(p) == upToEnd(plain(apacheText)):
		return apache
	case strings.HasPrefix(p, "1 definitions") || strings.HasPrefix(p, "definitions"):
		if strings.Contains(p, "mozilla public license v 2 0") {
			return mozilla
		}
	case strings.HasPrefix(p, "permission is hereby granted free of charge") &&
		strings.HasSuffix(p, "or other dealings in the software"):
		return "Expat"
	case strings.HasPrefix(p, "redistribution and use in source and binary forms") &&
		strings.HasSuffix(p, "of the possibility of such damage"):
		if found := endorsers.FindStringSubmatch(p); found != nil {
			return "BSD-3-clause-" + strings.ReplaceAll(found[1], " ", "-")
		}
		if strings.Contains(p, " endorse ") {
			return "BSD-3-clause"
		}
		return "BSD-2-clause"
	}
	return baseName(module)
}

// baseName is what people call a module: "go-textseg" of "github.com/apparentlymart/go-textseg/v15@v15.0.0".
func baseName(module string) string {
	name, _, _ := strings.Cut(module, "@")
	return path.Base(major.ReplaceAllString(name, ""))
}

// upToEnd leaves out how to apply the Apache License to one's own work, which many do.
func upToEnd(text string) string {
	terms, _, _ := strings.Cut(text, " end of terms and conditions")
	return terms
}
