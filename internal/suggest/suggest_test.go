package suggest_test

import (
	"testing"

	"github.com/overlayd/overlayd/internal/suggest"
)

func TestNearest(t *testing.T) {
	cases := []struct {
		name       string
		candidates []string
		want       string
	}{
		{"mount_point", []string{"workdir", "mountpoint"}, "mountpoint"},
		{"bse", []string{"base", "tools"}, "base"},
		{"x", []string{"y"}, ""},
		{"quite_different", []string{"base"}, ""},
		{"bat", []string{"cat", "bar"}, "bar"},
		{"base", []string{"base"}, ""},
		{"", []string{"a"}, ""},
	}
	for _, c := range cases {
		if got := suggest.Nearest(c.name, c.candidates...); got != c.want {
			t.Errorf("%q: %q, want %q", c.name, got, c.want)
		}
	}
}

// A search without end ends.
func TestBudget(t *testing.T) {
	f := suggest.New()
	candidates := []string{"base"}
	for range 1_000_000 {
		if f.Nearest("bse", candidates) != "base" {
			t.Fatal("the budget is used up too early")
		}
	}
	if got := f.Nearest("bse", candidates); got != "" {
		t.Errorf("found %q beyond the budget", got)
	}
}
