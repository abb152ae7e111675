// Package suggest finds the name that somebody meant who wrote another one. It is for hints in messages; never act on
// what it finds.
package suggest

import "github.com/agext/levenshtein"

// Finder looks for names. It has a budget, so that a spec with thousands of wrong names and thousands of right ones
// still ends. The zero value finds nothing.
type Finder struct{ budget int }

// New makes a Finder for one run.
func New() *Finder { return &Finder{budget: 1_000_000} }

// Nearest returns the candidate that somebody meant who wrote name, "" if none is close. Of equally close ones it
// returns the first by name.
func Nearest(name string, candidates ...string) string { return New().Nearest(name, candidates) }

// Nearest is [Nearest] within the budget.
func (f *Finder) Nearest(name string, candidates []string) string {
	limit := max(2, len(name)/3)
	if len(name) < 4 {
		limit = 1
	}
	best, bestDistance := "", limit+1
	for _, c := range candidates {
		if f.budget--; f.budget < 0 {
			return ""
		}
		if d := len(c) - len(name); d > limit || -d > limit || c == name {
			continue
		}
		d := levenshtein.Distance(name, c, nil)
		if d == max(len(name), len(c)) {
			continue // every letter differs: not a misspelling
		}
		if d < bestDistance || d == bestDistance && c < best {
			best, bestDistance = c, d
		}
	}
	return best
}
