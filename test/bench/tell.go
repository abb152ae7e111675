package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/overlayd/overlayd/test/bench/report"
	"github.com/overlayd/overlayd/test/bench/scale"
)

// retell shows what an earlier run has measured.
func retell(o options, out io.Writer) error {
	f, err := os.Open(o.from)
	if err != nil {
		return err
	}
	r, err := report.ReadJSON(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("%s: %w", o.from, err)
	}
	if err := write(r.Tables, out); err != nil {
		return err
	}
	return tell(r, o.docs)
}

// tell writes the page and its curves.
func tell(r report.Report, dir string) error {
	if dir == "" {
		return nil
	}
	files, err := scale.Pages(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot tell what was measured: %w", err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return fmt.Errorf("cannot tell what was measured: %w", err)
		}
	}
	return nil
}
