package config

import (
	"fmt"

	"github.com/overlayd/overlayd/internal/suggest"
)

// suggester looks for the name somebody meant.
type suggester struct{ *suggest.Finder }

func newSuggester() suggester { return suggester{suggest.New()} }

// didYouMean is the sentence for the end of a detail, with a blank before it.
func (s suggester) didYouMean(name string, candidates []string) string {
	if n := s.Nearest(name, candidates); n != "" {
		return fmt.Sprintf(" Did you mean %q?", n)
	}
	return ""
}
