package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// collector gathers diagnostics. What holds for many instances of one block is
// told once, with the instances it holds for: a mistake in a block with 10,000
// instances is one mistake.
type collector struct {
	diags []*hcl.Diagnostic
	seen  map[diagKey]*repeat
}

type diagKey struct {
	subject hcl.Range
	summary string
	detail  string // "" for those of an instance
}

type repeat struct {
	diag  *hcl.Diagnostic
	first Address
	more  []Address
	count int
}

// shownInstances is how many further instances a diagnostic names.
const shownInstances = 2

func newCollector() *collector {
	return &collector{seen: map[diagKey]*repeat{}}
}

// add takes a diagnostic that is not about one instance.
func (c *collector) add(d *hcl.Diagnostic) {
	if d.Subject != nil {
		key := diagKey{*d.Subject, d.Summary, d.Detail}
		if c.seen[key] != nil {
			return
		}
		c.seen[key] = &repeat{diag: d}
	}
	c.diags = append(c.diags, d)
}

func (c *collector) addAll(diags hcl.Diagnostics) {
	for _, d := range diags {
		c.add(d)
	}
}

// addFor takes a diagnostic about one overlay, which may be one of many.
func (c *collector) addFor(a Address, d *hcl.Diagnostic) {
	if !a.Keyed || d.Subject == nil {
		c.add(d)
		return
	}
	key := diagKey{subject: *d.Subject, summary: d.Summary}
	r := c.seen[key]
	switch {
	case r == nil:
		c.seen[key] = &repeat{diag: d, first: a}
		c.diags = append(c.diags, d)
	case r.first == a:
	default:
		if len(r.more) < shownInstances && !slices.Contains(r.more, a) {
			r.more = append(r.more, a)
		}
		r.count++
	}
}

// result returns everything in the order of the files.
func (c *collector) result() hcl.Diagnostics {
	for _, r := range c.seen {
		if r.count > 0 {
			r.diag.Detail += "\n\n" + r.sentence()
		}
	}
	slices.SortStableFunc(c.diags, func(a, b *hcl.Diagnostic) int {
		ra, rb := subjectOf(a), subjectOf(b)
		return cmp.Or(
			strings.Compare(ra.Filename, rb.Filename),
			cmp.Compare(ra.Start.Byte, rb.Start.Byte),
			cmp.Compare(a.Severity, b.Severity),
			strings.Compare(a.Summary, b.Summary),
			strings.Compare(a.Detail, b.Detail),
		)
	})
	return c.diags
}

func (r *repeat) sentence() string {
	names := make([]string, len(r.more))
	for i, a := range r.more {
		names[i] = a.String()
	}
	switch rest := r.count - len(names); {
	case rest == 1:
		names = append(names, "one more instance")
	case rest > 1:
		names = append(names, fmt.Sprintf("%d more instances", rest))
	}
	return "The same goes for " + enumerate(names, "and") + "."
}

func subjectOf(d *hcl.Diagnostic) hcl.Range {
	if d.Subject == nil {
		return hcl.Range{}
	}
	return *d.Subject
}

func problem(subject hcl.Range, summary, format string, args ...any) *hcl.Diagnostic {
	return &hcl.Diagnostic{
		Severity: hcl.DiagError,
		Summary:  summary,
		Detail:   fmt.Sprintf(format, args...),
		Subject:  &subject,
	}
}

func warning(subject hcl.Range, summary, format string, args ...any) *hcl.Diagnostic {
	d := problem(subject, summary, format, args...)
	d.Severity = hcl.DiagWarning
	return d
}

// place is how one diagnostic refers to another place of the spec.
func place(r hcl.Range) string {
	return fmt.Sprintf("%s:%d", r.Filename, r.Start.Line)
}

// enumerate writes "a", "a and b", "a, b and c".
func enumerate(words []string, conjunction string) string {
	switch n := len(words); n {
	case 0:
		return ""
	case 1:
		return words[0]
	default:
		return strings.Join(words[:n-1], ", ") + " " + conjunction + " " + words[n-1]
	}
}
