//go:build man

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/overlayd/overlayd/internal/manpage"
)

// With the build tag man, this writes overlayd's manual pages, instead of being overlayd. So what they are made with is
// not in the program.
func main() {
	if err := writePages(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "Error: %v\n", err)
		os.Exit(exitError)
	}
}

// writePages writes all pages into a directory. It runs in the root of the repository, and reads docs.
func writePages(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: go run -tags man ./cmd/overlayd DIR")
	}
	date, err := buildDate()
	if err != nil {
		return err
	}
	book := manpage.Book{Program: (&app{}).command(), Docs: os.DirFS("docs"), Version: buildVersion, Date: date}
	pages, err := book.Pages()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(args[0], 0o755); err != nil {
		return err
	}
	for _, p := range pages {
		if err := os.WriteFile(filepath.Join(args[0], p.File()), []byte(p.Text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// buildDate is the day that SOURCE_DATE_EPOCH means, so that the same source gives the same pages on any day.
// https://reproducible-builds.org/specs/source-date-epoch/
func buildDate() (string, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return "", nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return "", fmt.Errorf("cannot read SOURCE_DATE_EPOCH %q: it takes seconds since 1970", text)
	}
	return time.Unix(seconds, 0).UTC().Format(time.DateOnly), nil
}
