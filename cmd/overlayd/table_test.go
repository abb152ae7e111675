package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAlign(t *testing.T) {
	long := strings.Repeat("x", 40)
	for _, test := range []struct {
		name string
		rows [][]string
		room int
		want []string
	}{
		{"none", nil, 80, []string{}},
		{"one column is not padded", [][]string{{"a"}, {"bbb"}}, 80, []string{"a", "bbb"}},
		{
			"wide characters, and those of no width",
			[][]string{{"日本", "1"}, {"é", "2"}, {"e\u0301e", "3"}, {"four", "4"}},
			0,
			[]string{"日本  1", "é     2", "e\u0301e    3", "four  4"},
		},
		{"it fits", [][]string{{long, "b"}, {"a", "b"}}, 43, []string{long + "  b", "a" + strings.Repeat(" ", 41) + "b"}},
		{"a long cell moves its own row", [][]string{{"A", "B"}, {long, "b"}, {"aa", "b"}}, 42, []string{
			"A   B", long + "  b", "aa  b",
		}},
		{"no terminal: nothing has to fit", [][]string{{long, "b"}, {"a", "b"}}, 0, []string{
			long + "  b", "a" + strings.Repeat(" ", 41) + "b",
		}},
		{"the last column makes it too wide", [][]string{{long, "b"}, {"a", long}}, 80, []string{long + "  b", "a  " + long}},
		{"nothing but long cells", [][]string{{long, "b"}}, 10, []string{long + "  b"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if d := cmp.Diff(test.want, align(test.rows, test.room)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
