package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// limited takes so many writes.
type limited struct {
	bytes.Buffer
	writes int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.writes--; l.writes < 0 {
		return 0, errors.New("full")
	}
	return l.Buffer.Write(p)
}

// After an error nothing more is written, also if there is room again.
func TestOutput(t *testing.T) {
	w := &limited{writes: 1}
	o := &output{w: w}
	for i, text := range []string{"one", "two", "three"} {
		if _, err := o.Write([]byte(text)); (err != nil) != (i > 0) {
			t.Errorf("%s: %v", text, err)
		}
		if i == 1 {
			w.writes = 9
		}
	}
	if err := o.failure(); err == nil || err.Error() != "cannot write the result: full" || w.String() != "one" {
		t.Errorf("got %v, and %q is written", err, w)
	}
	if err := (&output{w: w}).failure(); err != nil {
		t.Error(err)
	}
}

func TestRunOutputFails(t *testing.T) {
	var stderr bytes.Buffer
	code := run(t.Context(), []string{"version"}, streams{out: &limited{}, err: &stderr})
	if want := "Error: cannot write the result: full\n"; code != exitError || stderr.String() != want {
		t.Errorf("exit code %d and %q, want %q", code, stderr.String(), want)
	}
}

func TestPlain(t *testing.T) {
	for text, want := range map[string]string{
		"héllo wörld 日本":        "héllo wörld 日本",
		"a\x1b[31mb\u009bc\nd":  "a�[31mb�c�d",
		"abc\u202etxt.exe":      "abc�txt.exe", // what follows is shown backwards
		"a\u200bb\u2066c\ufeff": "a�b�c�",
		"\xff":                  "�",
	} {
		if got := plain(text); got != want {
			t.Errorf("plain(%q) = %q, want %q", text, got, want)
		}
	}
}

// What is shown of a path can be given back, and is one line.
func TestQuoted(t *testing.T) {
	for path, want := range map[string]string{
		"/a b/日本":                            "/a b/日本",
		"/e\x1b[31m":                         `"/e\x1b[31m"`,
		"/a\nb":                              `"/a\nb"`,
		"/a\u202eb":                          `"/a\u202eb"`,
		"/\xff":                              `"/\xff"`,
		"/plain/" + strings.Repeat("x", 200): "/plain/" + strings.Repeat("x", 200),
	} {
		if got := quoted(path); got != want {
			t.Errorf("quoted(%q) = %s, want %s", path, got, want)
		}
	}
}
