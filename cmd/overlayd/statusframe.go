package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rivo/uniseg"

	"github.com/overlayd/overlayd/internal/reconcile"
)

// watchView is what status --watch shows: how the host was at a time.
type watchView struct {
	at       time.Time
	host     string
	rows     []reconcile.Row
	explains string // the command that tells why there is a conflict
	agent    agentView
	notes    []string // what is wrong with the looking itself
}

// frame is the view as the lines of a terminal: at most height of them, none wider than width. What is not mounted
// comes first, since that is what somebody waits for; what has no room is counted.
func (v watchView) frame(paint painter, width, height int) []string {
	out := []string{v.title(paint, width)}
	for _, n := range v.notes {
		for l := range strings.SplitSeq(wrap(plain(n), width, "  "), "\n") {
			out = append(out, paint.paint("31;1", cut(l, width)))
		}
	}
	out = append(out, "")
	room := max(height-len(out), 0)

	agent := []string{""}
	if hint := unexplained(v.rows, v.agent, v.explains); hint != "" {
		agent = append(agent, cut(hint, width))
	}
	for _, l := range agentLines(v.agent, width, v.at) {
		l.text = cut(l.text, width-len(l.lead))
		agent = append(agent, l.print(paint))
	}
	// A third of the terminal is the agent's, and what the table does not need.
	if most := max(room/3, room-len(v.rows)-1); len(agent) > most {
		agent = agent[:most]
		switch most {
		case 1:
			agent = nil // a blank line
		case 0, 2:
		default:
			agent[most-1] = cut("  … overlayd status shows all of it", width)
		}
	}
	out = append(out, v.table(paint, width, room-len(agent))...)
	out = append(out, agent...)
	return out[:max(min(len(out), height), 0)]
}

func (v watchView) title(paint painter, width int) string {
	left := "overlayd status on " + plain(v.host)
	if n := len(v.rows); n > 0 {
		left = fmt.Sprintf("%s: %d of %s mounted", left, counted(v.rows)[reconcile.StateMounted], count(n, "overlay"))
	}
	right := clock(v.at, v.at)
	left = cut(left, width-len(right)-2)
	gap := max(width-len(right)-uniseg.StringWidth(left), 0)
	return paint.bold(left) + cut(strings.Repeat(" ", gap)+right, width)
}

// table is the table of states in so many lines.
func (v watchView) table(paint painter, width, room int) []string {
	if len(v.rows) == 0 {
		return []string{cut(noOverlays, width)}
	}
	rows := slices.Clone(v.rows)
	slices.SortStableFunc(rows, func(a, b reconcile.Row) int {
		up := func(r reconcile.Row) int {
			if r.State == reconcile.StateMounted {
				return 1
			}
			return 0
		}
		return up(a) - up(b)
	})
	shown := len(rows)
	if shown+1 > room {
		shown = max(room-2, 0) // the head, and the line that counts the rest
	}
	lines := statusLines(width, rows[:shown], true)
	if slices.ContainsFunc(lines, func(l statusLine) bool { return uniseg.StringWidth(l.text) > width-statusMargin }) {
		lines = statusLines(width, rows[:shown], false) // where it is mounted says more than of what
	}
	var out []string
	for _, l := range lines {
		l.text = cut(l.text, width-statusMargin)
		out = append(out, l.print(paint))
	}
	if shown < len(rows) {
		out = append(out, cut(rest(rows[shown:]), width))
	}
	return out
}

// rest says how many rows there are more, and how they are.
func rest(rows []reconcile.Row) string {
	n := counted(rows)
	if n[reconcile.StateMounted] == len(rows) {
		return fmt.Sprintf("… and %d more, all mounted", len(rows))
	}
	var parts []string
	for _, s := range slices.Sorted(maps.Keys(n)) {
		parts = append(parts, fmt.Sprintf("%d %s", n[s], s))
	}
	return fmt.Sprintf("… and %d more: %s", len(rows), strings.Join(parts, ", "))
}

func counted(rows []reconcile.Row) map[reconcile.State]int {
	out := map[reconcile.State]int{}
	for _, r := range rows {
		out[r.State]++
	}
	return out
}

// cut shortens a text without colours to so many columns.
func cut(text string, width int) string {
	if uniseg.StringWidth(text) <= width {
		return text
	}
	var b strings.Builder
	room := width - 1 // for what says that it was cut
	for state := -1; text != ""; {
		var cluster string
		var w int
		cluster, text, w, state = uniseg.FirstGraphemeClusterInString(text, state)
		if room -= w; room < 0 {
			break
		}
		b.WriteString(cluster)
	}
	if width > 0 {
		b.WriteString("…")
	}
	return b.String()
}
