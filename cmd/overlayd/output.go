package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
)

// output is where results go. It gathers them, as a plan has thousands of lines: they go out when the run is over,
// before a word on the other stream (see notices), and before what takes long (see flush). It keeps the first error, so
// that the many places that print need not look for one: run does at the end. After an error it takes no more, as a
// result with a hole in it is worse than one that ends.
type output struct {
	w io.Writer

	mu  sync.Mutex
	all *bufio.Writer
}

func newOutput(w io.Writer) *output { return &output{w: w, all: bufio.NewWriterSize(w, 32<<10)} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all.Write(p)
}

func (o *output) flush() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all.Flush()
}

// flush lets the results so far go out.
func (a *app) flush() error {
	if o, ok := a.out.(*output); ok {
		return o.flush()
	}
	return nil
}

// notices is where all goes that is no result. On a terminal both are one, so the results so far come first.
type notices struct {
	w   io.Writer
	out *output
}

func (n *notices) Write(p []byte) (int, error) {
	_ = n.out.flush() // run tells at the end if that fails
	return n.w.Write(p)
}

// unwritten is what to report if a result could not be written in full. The place is left out: os.Stdout calls it
// /dev/stdout, whatever it is.
func unwritten(cause error) error {
	if at, ok := errors.AsType[*fs.PathError](cause); ok {
		cause = at.Err
	}
	return fmt.Errorf("cannot write the result: %w", cause)
}

// fileOf is the file behind a stream, if there is one.
func fileOf(stream any) (*os.File, bool) {
	switch s := stream.(type) {
	case *output:
		stream = s.w
	case *notices:
		stream = s.w
	}
	f, ok := stream.(*os.File)
	return f, ok
}
