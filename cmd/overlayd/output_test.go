package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
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
	o := newOutput(w)
	for i, text := range []string{"one", "two", "three"} {
		_, err := io.WriteString(o, text)
		if flushed := o.flush(); (flushed != nil) != (i > 0) || (err != nil) != (i > 1) {
			t.Errorf("%s: %v, then %v", text, err, flushed)
		}
		if i == 1 {
			w.writes = 9
		}
	}
	if err := o.flush(); err == nil || err.Error() != "full" || w.String() != "one" {
		t.Errorf("got %v, and %q is written", err, w)
	}
	if err := newOutput(w).flush(); err != nil {
		t.Error(err)
	}
}

// Lines are written many at a time.
func TestOutputGathers(t *testing.T) {
	const lines = 10000
	w := &limited{writes: lines}
	o := newOutput(w)
	for i := range lines {
		fmt.Fprintf(o, "this is line %d\n", i)
	}
	if err := o.flush(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(w.String(), "\n"); n != lines {
		t.Errorf("%d lines are written, want %d", n, lines)
	}
	if writes := lines - w.writes; writes > w.Len()/4096+1 {
		t.Errorf("%d bytes are written in %d parts", w.Len(), writes)
	}
}

// On a terminal both streams are one, and what was printed first stands first.
func TestNotices(t *testing.T) {
	var screen bytes.Buffer
	o := newOutput(&screen)
	n := &notices{w: &screen, out: o}
	for i, w := range []io.Writer{o, n, o, o, n, n, o} {
		fmt.Fprint(w, i)
	}
	if err := o.flush(); err != nil || screen.String() != "0123456" {
		t.Errorf("the screen shows %s, %v", &screen, err)
	}
	// A result that cannot be written is no reason to be silent about the rest.
	var stderr bytes.Buffer
	n = &notices{w: &stderr, out: newOutput(&limited{})}
	fmt.Fprint(n.out, "lost")
	fmt.Fprint(n, "said")
	if stderr.String() != "said" {
		t.Errorf("stderr is %q", stderr.String())
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
