package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// approve asks on a terminal whether to go on; only yes does. Where there is no terminal nothing is asked and nothing
// done.
func (a *app) approve(ctx context.Context, question, hint string) error {
	if !isTerminal(a.in) {
		return errors.New("nothing was done, as nobody can be asked here: " + hint)
	}
	return ask(ctx, a.in, a.err, question)
}

func ask(ctx context.Context, in io.Reader, out io.Writer, question string) error {
	fmt.Fprintf(out, "\n%s\n  Only \"yes\" goes on: ", question)
	answer := make(chan string, 1)
	// A read cannot be interrupted, so on Ctrl-C it is left alone; the program is about to end.
	go func() {
		line, err := bufio.NewReader(in).ReadString('\n')
		if err != nil {
			fmt.Fprintln(out) // the end of the input leaves the cursor on the line of the question
		}
		answer <- line
	}()
	select {
	case line := <-answer:
		if strings.TrimSpace(line) == "yes" {
			fmt.Fprintln(out)
			return nil
		}
		return errors.New("nothing was done, as the answer was not yes")
	case <-ctx.Done():
		fmt.Fprintln(out)
		return errors.New("nothing was done, as it was interrupted")
	}
}
