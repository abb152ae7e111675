package config

import (
	"fmt"

	"github.com/agext/levenshtein"
)

// suggester looks for the name somebody meant. It has a budget, so that a spec
// with thousands of wrong names and thousands of right ones still ends.
type suggester struct {
	budget int
}

func newSuggester() *suggester {
	return &suggester{budget: 1_000_000}
}

// nearest returns the candidate closest to name, "" if none is close. Of equally
// close ones it returns the first by name.
func (s *suggester) nearest(name string, candidates []string) string {
	limit := max(2, len(name)/3)
	if len(name) < 4 {
		limit = 1
	}
	best, bestDistance := "", limit+1
	for _, c := range candidates {
		if s.budget--; s.budget < 0 {
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

// Nearest returns the candidate that somebody meant who wrote name, "" if none is
// close. Of equally close ones it returns the first by name.
func Nearest(name string, candidates ...string) string {
	return newSuggester().nearest(name, candidates)
}

// didYouMean is the sentence for the end of a detail, with a blank before it.
func (s *suggester) didYouMean(name string, candidates []string) string {
	if n := s.nearest(name, candidates); n != "" {
		return fmt.Sprintf(" Did you mean %q?", n)
	}
	return ""
}
