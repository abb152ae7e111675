package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// output is where results go. It keeps the first error, so that the many places that print need not look for one: run
// does at the end. After an error it takes no more, as a result with a hole in it is worse than one that ends.
type output struct {
	w   io.Writer
	err error
}

func (o *output) Write(p []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.w.Write(p)
	o.err = err
	return n, err
}

// failure is what to report if a result could not be written in full. The place is left out: os.Stdout calls it
// /dev/stdout, whatever it is.
func (o *output) failure() error {
	err := o.err
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		err = at.Err
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("cannot write the result: %w", err)
}

// fileOf is the file behind a stream, if there is one.
func fileOf(stream any) (*os.File, bool) {
	if o, ok := stream.(*output); ok {
		stream = o.w
	}
	f, ok := stream.(*os.File)
	return f, ok
}
