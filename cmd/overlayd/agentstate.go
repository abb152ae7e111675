package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/overlayd/overlayd/internal/agent/state"
)

// agentView is what is known of the agent.
type agentView struct {
	state   state.State
	told    bool  // there is a state
	running bool  // and who wrote it lives
	err     error // why there is none, where there should be one
}

// readAgent reads the state of the agent, which takes no privileges.
func readAgent(dir string) agentView {
	s, running, err := state.Read(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return agentView{}
	case err != nil:
		return agentView{err: err}
	}
	return agentView{state: s, told: true, running: running}
}

type agentJSON struct {
	Running        *bool           `json:"running"` // null: not known, see error
	Error          *string         `json:"error"`   // why the state could not be read
	PID            int             `json:"pid"`
	Version        string          `json:"version"`
	Since          *time.Time      `json:"since"`
	Policy         string          `json:"policy"`
	Paths          []string        `json:"paths"`
	Stopping       bool            `json:"stopping"`
	Reconciled     *time.Time      `json:"reconciled"`
	SpecLoaded     *time.Time      `json:"spec_loaded"`
	SpecOverlays   int             `json:"spec_overlays"`
	SpecError      *string         `json:"spec_error"`
	SpecErrorSince *time.Time      `json:"spec_error_since"`
	Pending        []state.Pending `json:"pending"`
	Conflicts      []state.Pending `json:"conflicts"`
	Failed         []failureJSON   `json:"failed"`
	Omitted        state.Omitted   `json:"omitted"`
	LastChange     *state.Done     `json:"last_change"`
}

// failureJSON has null for a time that is not set, as all of this.
type failureJSON struct {
	Address    string     `json:"address"`
	Change     string     `json:"change"`
	Mountpoint string     `json:"mountpoint"`
	Error      string     `json:"error"`
	At         time.Time  `json:"at"`
	Times      int        `json:"times"`
	Next       *time.Time `json:"next"`
}

// newAgentJSON is null where no agent ran since boot, or the last one ended as it should. That of one that was killed
// says how things were then.
func newAgentJSON(v agentView) *agentJSON {
	s := v.state
	out := &agentJSON{
		PID: s.PID, Version: s.Version, Since: orNoTime(s.Since), Policy: s.Policy, Paths: orEmpty(s.Paths),
		Stopping: s.Stopping, Reconciled: orNoTime(s.Reconciled), SpecLoaded: orNoTime(s.Spec.Loaded),
		SpecOverlays: s.Spec.Overlays, SpecError: orNull(s.Spec.Error), SpecErrorSince: orNoTime(s.Spec.ErrorSince),
		Pending: orEmpty(s.Pending), Conflicts: orEmpty(s.Conflicts), Failed: []failureJSON{}, Omitted: s.Omitted,
		LastChange: s.LastChange,
	}
	for _, f := range s.Failed {
		out.Failed = append(out.Failed, failureJSON{
			f.Address, f.Change, f.Mountpoint, f.Error, f.At, f.Times, orNoTime(f.Next),
		})
	}
	switch {
	case v.err != nil:
		text := v.err.Error()
		out.Error = &text
	case !v.told:
		return nil
	default:
		out.Running = &v.running
	}
	return out
}

// orNoTime is null in JSON for a time that has not come.
func orNoTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// agentLine is a line about the agent. The lead says what it is about.
type agentLine struct{ lead, colour, text string }

func (l agentLine) print(paint painter) string {
	if l.colour == "" {
		return l.lead + l.text
	}
	return paint.paint(l.colour, l.lead) + l.text
}

// agentMargin is how wide the leads are, but for the first.
const agentMargin = 2 + len("conflict") + 2

// mostEntries is how many entries of each kind the screen shows; --json has all.
const mostEntries = 10

// printAgent shows the agent to people: a sentence about it, and below what it has to say.
func printAgent(w io.Writer, paint painter, width int, v agentView, now time.Time) {
	for _, l := range agentLines(v, width, now) {
		fmt.Fprintln(w, l.print(paint))
	}
}

// agentSentence follows "Agent:".
func agentSentence(v agentView, now time.Time) string {
	s := v.state
	switch {
	case v.err != nil:
		return "not known: " + plain(v.err.Error())
	case !v.told:
		return "not running."
	case !v.running:
		return fmt.Sprintf("not running: process %d, started %s, is gone, last heard of at %s. See systemctl status "+
			"overlayd.", s.PID, moment(s.Since, now), moment(s.Written, now))
	case s.Stopping:
		return fmt.Sprintf("stopping, process %d. Mounts stay.", s.PID)
	}
	return fmt.Sprintf("running since %s, policy %s, process %d.", moment(s.Since, now), plain(s.Policy), s.PID)
}

// agentLines is what there is to say about the agent. width is that of the terminal, 0 for none; lines that no blank
// allows to be broken are wider.
func agentLines(v agentView, width int, now time.Time) []agentLine {
	out := agentPad{width: width, now: now}
	out.add("Agent: ", "1", agentSentence(v, now), "  ")
	if !v.running {
		return out.lines // what was pending or failed when it was killed may long be otherwise
	}
	s := v.state
	out.spec(s.Spec, s.Paths, s.Reconciled)
	out.pending(s.Pending, s.Omitted.Pending)
	for i, c := range first(s.Conflicts) {
		text := fmt.Sprintf("%s  since %s: %s", c.Address, moment(c.Since, now), c.Reason)
		out.entry(unlessBelow(i, "conflict"), "31;1", text)
	}
	out.more(len(s.Conflicts), s.Omitted.Conflicts)
	for i, f := range first(s.Failed) {
		text := fmt.Sprintf("%s  %s, %s, last at %s", f.Address, f.Change, times(f.Times), clock(f.At, now))
		if !f.Next.IsZero() {
			text += ", again at " + clock(f.Next, now)
		}
		out.entry(unlessBelow(i, "failed"), "31;1", text+":")
		out.below(f.Error)
	}
	out.more(len(s.Failed), s.Omitted.Failed)
	if d := s.LastChange; d != nil {
		text := fmt.Sprintf("%s  %s at %s", d.Address, d.Change, clock(d.At, now))
		if d.Reason != "" {
			text += ": " + d.Reason
		}
		out.entry("last did", "2", text)
	}
	return out.lines
}

// agentPad collects lines.
type agentPad struct {
	lines []agentLine
	width int
	now   time.Time
}

// add adds a text, broken to the width. Its further lines are indented.
func (p *agentPad) add(lead, colour, text, indent string) {
	room := 0
	if p.width > 0 {
		room = max(p.width-len(lead), 20)
	}
	for line := range strings.SplitSeq(wrap(plain(text), room, ""), "\n") {
		p.lines = append(p.lines, agentLine{lead, colour, strings.TrimRight(line, " ")})
		lead, colour = indent, ""
	}
}

// entry adds a text below the sentence about the agent. The label says what it is about.
func (p *agentPad) entry(label, colour, text string) {
	indent := strings.Repeat(" ", agentMargin)
	if label == "" {
		p.add(indent, "", text, indent)
		return
	}
	p.add(fmt.Sprintf("  %-8s  ", label), colour, text, indent)
}

// below adds a text about the entry above.
func (p *agentPad) below(text string) {
	indent := strings.Repeat(" ", agentMargin+2)
	p.add(indent, "", text, indent)
}

// unlessBelow is the label of the first entry of a kind; the others stand below it.
func unlessBelow(i int, label string) string {
	if i > 0 {
		return ""
	}
	return label
}

func first[T any](list []T) []T { return list[:min(len(list), mostEntries)] }

// more says how many entries there are besides the first ones.
func (p *agentPad) more(listed, omitted int) {
	if n := max(listed-mostEntries, 0) + omitted; n > 0 {
		p.entry("", "", fmt.Sprintf("and %d more", n))
	}
}

// spec tells which spec is in force, and why it is not the one that is there.
func (p *agentPad) spec(s state.Spec, paths []string, reconciled time.Time) {
	if s.Error == "" {
		if s.Loaded.IsZero() {
			return
		}
		text := fmt.Sprintf("%s as of %s, %s", list(paths), moment(s.Loaded, p.now), count(s.Overlays, "overlay"))
		if !reconciled.IsZero() {
			text += ", all checked at " + moment(reconciled, p.now)
		}
		p.entry("spec", "2", text)
		return
	}
	inForce := "what was applied stays in force"
	if !s.Loaded.IsZero() {
		inForce = fmt.Sprintf("the one of %s stays in force", moment(s.Loaded, p.now))
	}
	p.entry("spec", "31;1", fmt.Sprintf("broken since %s, %s:", moment(s.ErrorSince, p.now), inForce))
	lines := strings.Split(strings.TrimSpace(s.Error), "\n")
	for _, l := range first(lines) {
		p.entry("", "", l)
	}
	p.more(len(lines), 0)
}

// pending tells what waits, those with the same reason to wait together.
func (p *agentPad) pending(all []state.Pending, omitted int) {
	var reasons []string
	held := map[string][]state.Pending{}
	for _, each := range first(all) {
		if held[each.Held] == nil {
			reasons = append(reasons, each.Held)
		}
		held[each.Held] = append(held[each.Held], each)
	}
	label := "pending"
	for _, reason := range reasons {
		for _, each := range held[reason] {
			text := fmt.Sprintf("%s  %s since %s", each.Address, each.Change, moment(each.Since, p.now))
			if each.Reason != "" {
				text += ": " + each.Reason
			}
			p.entry(label, "36", text)
			label = ""
		}
		if reason != "" {
			p.below("→ " + reason)
		}
	}
	p.more(len(all), omitted)
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// moment is a time to the minute, in the zone of now, with its date unless that is today.
func moment(t, now time.Time) string { return today(t, now, "15:04") }

// clock is moment to the second.
func clock(t, now time.Time) string { return today(t, now, "15:04:05") }

func today(t, now time.Time, layout string) string {
	t = t.In(now.Location())
	if y, m, d := t.Date(); y != now.Year() || m != now.Month() || d != now.Day() {
		layout = time.DateOnly + " " + layout
	}
	return t.Format(layout)
}
