package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/overlayd/overlayd/internal/inventory"
	ovl "github.com/overlayd/overlayd/internal/overlayfs/layers"
)

// pathJSON is a path in a client's view. JSON cannot hold one that is not UTF-8, so there are its bytes as well.
type pathJSON struct {
	Path       string `json:"path"`
	PathBase64 []byte `json:"path_base64,omitempty"`
}

func newPathJSON(path string) pathJSON {
	if utf8.ValidString(path) {
		return pathJSON{Path: path}
	}
	return pathJSON{strings.ToValidUTF8(path, string(unicode.ReplacementChar)), []byte(path)}
}

type differenceJSON struct {
	Kind ovl.Kind `json:"kind"`
	pathJSON
}

type shadowJSON struct {
	pathJSON
	Copied      time.Time `json:"copied"`
	BaseChanged time.Time `json:"base_changed"`
}

func (a *app) diffCommand() *cobra.Command {
	var asJSON, shadowed bool
	cmd := &cobra.Command{
		Use:   "diff [OPTION...] ADDRESS|PATH",
		Short: "Show what a client changed",
		Long: `Diff shows what differs between an overlay and its lowerdirs, a line per path:

  A path  added; what is in an added directory has lines of its own
  C path  changed: contents, type, owner, mode, ACL or other xattr
  D path  deleted; a directory has one line, with all that was in it

PATH is any path in the overlay; the diff is always of the whole overlay.

It reads the upperdir, mounted or not, so it takes as long as there are changes.
With --root it is a client of the tree, in which nothing need be mounted.
Times do not count: a file that was only touched, or written as it was before,
is no change. Nor does the owner or mode of the root, which is the upperdir's.
Names with control characters are quoted as in Go and C.

With --shadowed it shows the files that hide a base file which has changed since
the client made its own: when that was, and when the base file last changed (its
ctime, so touching or replacing it counts). It looks at files only: what the
client deleted, by itself or with its directory, is not listed, whatever the
base has there now, as nothing tells when that was deleted.`,
		Example: "  overlayd diff 'overlay.client[\"client_1\"]'\n  overlayd diff --shadowed /overlaytest/merged/client_1",
		Args:    oneOverlay,
		RunE: func(cmd *cobra.Command, args []string) error {
			out := &listing{w: a.out, paint: painter(a.colour(a.out))}
			err := a.diff(cmd.Context(), args[0], out, shadowed, asJSON)
			switch {
			case !asJSON:
				return err
			case err != nil && !out.begun:
				return a.fail(err, true)
			}
			return out.endJSON(err)
		},
		ValidArgsFunction: a.completeOverlay,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what changed as JSON")
	cmd.Flags().BoolVar(&shadowed, "shadowed", false, "show the files that hide a newer file of the base")
	return cmd
}

// diff writes the result while it is found: there may be more of it than fits into memory.
func (a *app) diff(ctx context.Context, ref string, out *listing, shadowed, asJSON bool) error {
	o, c, err := a.findLayers(ref)
	if err != nil {
		return err
	}
	view, err := openLayers(o, c)
	if err != nil {
		return fmt.Errorf("%s: %w", o, err)
	}
	defer view.Close()
	out.overlay, out.list = o, "changes"
	if shadowed {
		out.list = "shadowed"
	}
	var notes ovl.Notes
	switch {
	case shadowed && asJSON:
		notes, err = view.Shadowed(ctx, func(s ovl.Shadow) error {
			return out.addJSON(shadowJSON{newPathJSON(s.Path), s.Copied, s.BaseChanged})
		})
	case shadowed:
		notes, err = view.Shadowed(ctx, out.addShadow)
	case asJSON:
		notes, err = view.Changes(ctx, func(c ovl.Change) error {
			return out.addJSON(differenceJSON{c.Kind, newPathJSON(c.Path)})
		})
	default:
		notes, err = view.Changes(ctx, out.addChange)
	}
	if notes.Walked {
		a.note("the base was read in full. With index=on, a file that was written through one of its names shows at " +
			"the others, too, of which the upperdir says nothing.")
	}
	if notes.Moved {
		a.note("somebody changed the overlay meanwhile. What came or went while it was read may be missing here.")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", o, err)
	}
	if asJSON {
		return out.beginJSON()
	}
	return nil
}

// note says what to know about a result.
func (a *app) note(text string) { fmt.Fprintln(a.err, wrap("Note: "+text, columns(a.err), "      ")) }

// listing writes results one by one.
type listing struct {
	w       io.Writer
	paint   painter
	overlay inventory.Overlay
	list    string // its name in JSON
	begun   bool
	items   int
}

var changeColours = map[ovl.Kind]string{ovl.Added: "32", ovl.Changed: "33", ovl.Deleted: "31"}

func (l *listing) addChange(c ovl.Change) error {
	_, err := fmt.Fprintf(l.w, "%s %s\n", l.paint.paint(changeColours[c.Kind], string(c.Kind)), quoted(c.Path))
	return err
}

func (l *listing) addShadow(s ovl.Shadow) error {
	if l.items++; l.items == 1 {
		head := fmt.Sprintf("%-19s  %-19s  PATH", "COPIED", "BASE CHANGED")
		if _, err := fmt.Fprintln(l.w, l.paint.bold(head)); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(l.w, "%s  %s  %s\n",
		s.Copied.Format(time.DateTime), s.BaseChanged.Format(time.DateTime), quoted(s.Path))
	return err
}

// beginJSON writes what comes before the list, in the form of writeJSON.
func (l *listing) beginJSON() error {
	if l.begun {
		return nil
	}
	l.begun = true
	var head bytes.Buffer
	fmt.Fprintf(&head, "{\n  \"format_version\": %q,\n", formatVersion)
	field := func(name string, value any) error {
		fmt.Fprintf(&head, "  %q: ", name)
		return encode(&head, value, "  ", ",\n")
	}
	if err := field("address", orNull(l.overlay.Address)); err != nil {
		return err
	}
	if l.overlay.Address == "" {
		if err := field("mountpoint", l.overlay.Mountpoint); err != nil {
			return err
		}
	}
	fmt.Fprintf(&head, "  %q: [", l.list)
	_, err := l.w.Write(head.Bytes())
	return err
}

func (l *listing) addJSON(item any) error {
	if err := l.beginJSON(); err != nil {
		return err
	}
	before := "\n    "
	if l.items++; l.items > 1 {
		before = ",\n    "
	}
	if _, err := io.WriteString(l.w, before); err != nil {
		return err
	}
	return encode(l.w, item, "    ", "")
}

// endJSON completes the list. An error that came when it was begun already goes to its end: stdout is one JSON value
// whatever happens.
func (l *listing) endJSON(failure error) error {
	tail := "]"
	if l.items > 0 {
		tail = "\n  ]"
	}
	if _, err := io.WriteString(l.w, tail); err != nil {
		return err
	}
	if failure != nil {
		if _, err := io.WriteString(l.w, ",\n  \"error\": "); err != nil {
			return err
		}
		if err := encode(l.w, failure.Error(), "  ", ""); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(l.w, "\n}\n"); err != nil {
		return err
	}
	if failure != nil {
		return exitCode(exitError)
	}
	return nil
}

// encode writes one value as writeJSON does, indented as a part of something larger.
func encode(w io.Writer, v any, indent, after string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent(indent, "  ")
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(append(bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), after...))
	return err
}
