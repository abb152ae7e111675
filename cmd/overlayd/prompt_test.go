package main

import (
	"context"
	"io"
	"strings"
	"testing"
)

func TestAsk(t *testing.T) {
	for in, want := range map[string]string{
		"yes\n":   "",
		" yes \n": "",
		"yes":     "", // and the end of the input
		"y\n":     "nothing was done, as the answer was not yes",
		"YES\n":   "nothing was done, as the answer was not yes",
		"no\n":    "nothing was done, as the answer was not yes",
		"":        "nothing was done, as the answer was not yes",
	} {
		got := ""
		if err := ask(t.Context(), strings.NewReader(in), io.Discard, "Go on?"); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}

	// Ctrl-C at the question ends it, though nobody answers.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	never, w := io.Pipe()
	defer w.Close()
	if err := ask(ctx, never, io.Discard, "Go on?"); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("interrupted: %v", err)
	}
}
