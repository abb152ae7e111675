package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rivo/uniseg"
	"golang.org/x/term"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// painter colours texts, or not.
type painter bool

func (p painter) paint(code, s string) string {
	if !p || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p painter) bold(s string) string { return p.paint("1", s) }
func (p painter) dim(s string) string  { return p.paint("2", s) }

// width is how many columns to use on a stream, 80 where it is no terminal.
func (a *app) width(stream any) uint { return uint(cmp.Or(columns(stream), 80)) }

// columns is the width of a terminal, 0 for anything else: there the reader breaks the lines, if at all.
func columns(stream any) int {
	if f, ok := fileOf(stream); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			return max(w, 40)
		}
	}
	return 0
}

// plain takes out of a text what cannot be seen: control characters, and those that turn the direction of writing or
// have no width. Names of processes and the sources of other people's mounts are in it, and they must neither command
// root's terminal nor deceive root.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// plainLines is the text of an error, which may have several lines; file names are in it, too.
func plainLines(err error) string {
	lines := strings.Split(err.Error(), "\n")
	for i, l := range lines {
		lines[i] = plain(l)
	}
	return strings.Join(lines, "\n")
}

// quoted is an absolute path for a line of its own. One that would spoil the line, or the terminal, is quoted; a quote
// at the beginning tells.
func quoted(path string) string {
	if utf8.ValidString(path) && strings.IndexFunc(path, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return path
	}
	return strconv.Quote(path)
}

// wrap breaks a text between words so that no line has more than width columns, where words allow it. Later lines are
// indented.
func wrap(text string, width int, indent string) string {
	if width == 0 {
		return text
	}
	var b strings.Builder
	room := width
	for i, word := range strings.Split(text, " ") {
		n := uniseg.StringWidth(word)
		switch {
		case i == 0:
		case n+1 > room:
			b.WriteString("\n" + indent)
			room = width
		default:
			b.WriteByte(' ')
			room--
		}
		b.WriteString(word)
		room -= n
	}
	return b.String()
}

// mark is the sign of a kind of change, its colour, and the word for it.
type mark struct{ sign, colour, verb string }

var marks = map[plan.Kind]mark{
	plan.Create:   {"+", "32", "create"},
	plan.Adopt:    {"=", "36", "adopt"},
	plan.Update:   {"~", "33", "update"},
	plan.Repair:   {"!", "33", "repair"},
	plan.Replace:  {"-/+", "31", "replace"},
	plan.Delete:   {"-", "31", "delete"},
	plan.Conflict: {"✗", "31;1", "conflict"},
	plan.NoOp:     {" ", "2", "no change"},

	plan.ResetKind: {"-/+", "31", "reset"},
}

// writePlan shows a plan to people, in the look of Terraform's.
func (a *app) writePlan(w io.Writer, p plan.Plan, words planWords) {
	printPlan(w, painter(a.colour(w)), columns(w), p, words)
}

// planWords are what differs between the commands that show a plan.
type planWords struct {
	title  string      // of the last line
	inSync string      // where there is nothing to show
	purge  bool        // what is deleted loses its data
	looks  bool        // nothing of this can be done by the command
	always []plan.Kind // are named in the last line even when there is none; nil: what every plan is about
}

func printPlan(w io.Writer, paint painter, width int, p plan.Plan, words planWords) {
	if p.InSync() {
		fmt.Fprintf(w, "%s %s\n", paint.paint("32;1", "No changes."), words.inSync)
		return
	}
	for _, c := range p.Changes {
		if c.Kind != plan.NoOp {
			writeChange(w, paint, width, c, words.purge)
		}
	}
	switch {
	case p.Target == plan.TargetRemove && words.looks:
		fmt.Fprintf(w, "  overlayd.target is there, and no unit file of an overlay.\n\n")
	case p.Target == plan.TargetRemove:
		fmt.Fprintf(w, "  overlayd.target is removed, as no overlay is left.\n\n")
	}
	fmt.Fprintln(w, paint.bold(summary(words, p)))
}

const detail = "        "

func writeChange(w io.Writer, paint painter, width int, c plan.Change, purge bool) {
	m := marks[c.Kind]
	head := fmt.Sprintf("%3s %s", m.sign, m.verb)
	fmt.Fprintf(w, "%s %s", paint.paint(m.colour, head), paint.bold(c.Address))
	if c.Source != "" {
		fmt.Fprintf(w, "  %s", paint.dim(c.Source))
	}
	fmt.Fprintln(w)
	for _, line := range append(attributes(c), data(c, purge)...) {
		fmt.Fprintf(w, "%s%s\n", detail, line)
	}
	note := func(colour, sign, text string) {
		hang := len(detail) + len(sign) + 1
		room := width
		if width > 0 {
			room = max(width-hang, 20)
		}
		fmt.Fprintf(w, "%s%s %s\n", detail, paint.paint(colour, sign), wrap(plain(text), room, strings.Repeat(" ", hang)))
	}
	for _, r := range c.Reasons {
		note("2", "#", r)
	}
	for _, text := range c.Warnings {
		note("33", "warning:", text)
	}
	for _, line := range hits(c) {
		note("31", "!", line)
	}
	fmt.Fprintln(w)
}

// attributes shows what a change makes of an overlay: all of a new one, what differs of another.
func attributes(c plan.Change) []string {
	switch {
	case c.After == nil && c.Before == nil:
		return nil
	case c.After == nil:
		return []string{line("mountpoint", c.Before.Mountpoint)}
	case c.Kind == plan.Create || c.Kind == plan.Adopt:
		return whole(*c.After)
	case c.Before == nil:
		return []string{line("mountpoint", c.After.Mountpoint)}
	}
	out := []string{}
	changed := func(name, was, now string) {
		if was != now {
			out = append(out, line(name, orNone(was)+" → "+orNone(now)))
		}
	}
	changed("mountpoint", c.Before.Mountpoint, c.After.Mountpoint)
	if len(out) == 0 {
		out = append(out, line("mountpoint", c.After.Mountpoint))
	}
	if c.Kind == plan.Conflict {
		return out
	}
	if !slices.Equal(c.Before.Lowerdirs, c.After.Lowerdirs) {
		out = append(out, layers(c.Before.Lowerdirs, c.After.Lowerdirs)...)
	}
	changed("upperdir", c.Before.Upperdir, c.After.Upperdir)
	changed("workdir", c.Before.Workdir, c.After.Workdir)
	return out
}

func whole(v plan.View) []string {
	out := []string{line("mountpoint", v.Mountpoint)}
	for i, l := range v.Lowerdirs {
		name := "lowerdirs"
		if i > 0 {
			name = ""
		}
		out = append(out, line(name, l))
	}
	if v.Upperdir != "" {
		out = append(out, line("upperdir", v.Upperdir), line("workdir", v.Workdir))
	}
	if o := options(v.Options); o != "" {
		out = append(out, line("options", o))
	}
	return out
}

// layers shows the lowerdirs as they will be, topmost first, with what comes and what goes.
func layers(was, now []string) []string {
	var out []string
	name := "lowerdirs"
	add := func(sign, l string) {
		out = append(out, line(name, sign+" "+l))
		name = ""
	}
	for _, l := range now {
		if slices.Contains(was, l) {
			add(" ", l)
		} else {
			add("+", l)
		}
	}
	for _, l := range was {
		if !slices.Contains(now, l) {
			add("-", l)
		}
	}
	return out
}

func line(name, value string) string { return fmt.Sprintf("%-11s %s", name, value) }

// options lists mount options, without those that are off as everywhere.
func options(o overlayfs.Options) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(o)) {
		switch value := o[name]; value {
		case "off":
		case "":
			out = append(out, name)
		default:
			out = append(out, name+"="+value)
		}
	}
	return strings.Join(out, ", ")
}

// data tells what becomes of what the client wrote.
func data(c plan.Change, purge bool) []string {
	var out []string
	if purge && c.Kind == plan.Delete {
		for _, dir := range c.Made {
			out = append(out, line("deletes", dir))
		}
	}
	for _, dir := range c.Keeps {
		if !purge || !slices.Contains(c.Made, dir) {
			out = append(out, line("keeps", dir))
		}
	}
	return out
}

// hits tells what a disruptive change takes with it.
func hits(c plan.Change) []string {
	var out []string
	if c.ViaReason != "" {
		out = append(out, "by a job of systemd, as "+c.ViaReason)
	}
	if len(c.Impact.Units) > 0 {
		verb := "restarts "
		if c.Do.Mount == nil {
			verb = "stops "
		}
		out = append(out, verb+strings.Join(c.Impact.Units, ", "))
	}
	if len(c.Impact.Mounts) > 0 {
		out = append(out, "mounts below it: "+strings.Join(c.Impact.Mounts, ", "))
	}
	if len(c.Impact.Processes) > 0 {
		var names []string
		for _, p := range c.Impact.Processes {
			names = append(names, fmt.Sprintf("%d (%s)", p.PID, p.Command))
		}
		text := "in use by process " + strings.Join(names, ", ")
		if len(c.Impact.Units) == 0 && !c.Do.Detach {
			text += ": left as it is; end that, then try again"
		}
		out = append(out, text)
	}
	return out
}

// shownKinds are all that a summary can name.
func shownKinds() []plan.Kind { return append([]plan.Kind{plan.ResetKind}, plan.Kinds()...) }

// summary is the last line of a plan. What every plan is about is named even when there is none of it.
func summary(words planWords, p plan.Plan) string {
	always := words.always
	if always == nil {
		always = []plan.Kind{plan.Create, plan.Replace, plan.Delete}
	}
	var parts []string
	units := restarted(p)
	for _, k := range shownKinds() {
		n := p.Count(k)
		if k == plan.NoOp || n == 0 && !slices.Contains(always, k) {
			continue
		}
		part := fmt.Sprintf("%d to %s", n, marks[k].verb)
		if k == plan.Conflict {
			part = count(n, "conflict")
		}
		if (k == plan.Replace || k == plan.ResetKind) && n > 0 && units > 0 {
			part += fmt.Sprintf(" (%s will restart)", count(units, "unit"))
			units = 0 // said once
		}
		parts = append(parts, part)
	}
	return words.title + ": " + strings.Join(parts, ", ") + "."
}

// restarted counts the units that a plan restarts.
func restarted(p plan.Plan) int {
	seen := map[string]bool{}
	for _, c := range p.Changes {
		if c.Do.Mount != nil {
			for _, u := range c.Impact.Units {
				seen[u] = true
			}
		}
	}
	return len(seen)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
