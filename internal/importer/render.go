package importer

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// Text is a draft as HCL, in canonical form.
type Text struct {
	HCL    []byte
	Blocks []Block
}

// Block is where a block stands.
type Block struct {
	First, Last int      // lines
	Mountpoints []string // of the overlay, or of all that use the lowerdir

	// What a plan has to say of an overlay: adopt, or update if overlayd mounted it, or create if it is only in fstab.
	// Fstab asks for the plan as it is once its line is removed.
	Overlay, Mounted, Ours, Fstab bool
}

// width is where comments are broken.
const width = 80

// Render writes the draft. Names depend on what is in it, so each change makes a new text.
func (d *Draft) Render() Text {
	w := &writer{text: &Text{}}
	switch {
	case d.none:
		w.comment("No overlay is mounted on this host.")
	case len(d.overlays) == 0 && d.managed() == len(d.left):
		w.comment("Nothing to import: overlayd manages every overlay here already.")
	case len(d.overlays) == 0 && d.managed() > 0:
		w.comment("Nothing to import: what overlayd does not manage already cannot be declared.")
	case len(d.overlays) == 0:
		w.comment("Nothing to import: no overlay here can be declared.")
	default:
		w.comment("Written by overlayd import. Save it as a .hcl file in /etc/overlayd, and see what overlayd plan says.")
	}
	names := w.name(d)
	for _, l := range slices.SortedFunc(maps.Keys(w.shared), func(a, b string) int {
		return cmp.Compare(w.shared[a], w.shared[b])
	}) {
		w.lowerdir(l, d)
	}
	for _, o := range d.overlays {
		w.line("")
		for _, note := range o.notes {
			w.comment(note)
		}
		first := w.lines + 1
		w.overlay(o, names[o.mountpoint])
		w.text.Blocks = append(w.text.Blocks, Block{
			First: first, Last: w.lines, Mountpoints: []string{o.mountpoint},
			Overlay: true, Mounted: o.mounted, Ours: o.ours, Fstab: o.fstab,
		})
	}
	w.leftOut(d.left)
	w.text.HCL = hclwrite.Format([]byte(w.out.String()))
	return *w.text
}

type writer struct {
	out    strings.Builder
	lines  int
	text   *Text
	shared map[string]string // layers with a lowerdir block, and its name
	mounts map[string]string // mountpoints of the blocks, and their names
}

func (w *writer) line(s string) {
	w.out.WriteString(s)
	w.out.WriteByte('\n')
	w.lines++
}

// name finds out what is referred to by name: layers that several share, and overlays that are layers.
func (w *writer) name(d *Draft) map[string]string {
	var points []string
	for _, o := range d.overlays {
		points = append(points, o.mountpoint)
	}
	w.mounts = nameAll(points, "overlay", d.taken)
	users := map[string]int{}
	for _, o := range d.overlays {
		for _, l := range slices.Compact(slices.Sorted(slices.Values(o.lower))) {
			users[l]++
		}
	}
	var shared []string
	for l, n := range users {
		if _, overlay := w.mounts[l]; n > 1 && !overlay {
			shared = append(shared, l)
		}
	}
	w.shared = nameAll(shared, "lowerdir", nil)
	return w.mounts
}

func (w *writer) lowerdir(p string, d *Draft) {
	w.line("")
	b := Block{First: w.lines + 1, Last: w.lines + 3}
	for _, o := range d.overlays {
		if slices.Contains(o.lower, p) {
			b.Mountpoints = append(b.Mountpoints, o.mountpoint)
		}
	}
	w.line("lowerdir " + quote(w.shared[p]) + " {")
	w.line("path = " + quote(p))
	w.line("}")
	w.text.Blocks = append(w.text.Blocks, b)
}

func (w *writer) overlay(o *overlay, name string) {
	w.line("overlay " + quote(name) + " {")
	w.layers(o)
	if o.upper != "" {
		w.line("upperdir = " + quote(o.upper))
		w.line("workdir = " + quote(o.work))
	}
	w.line("mountpoint = " + quote(o.mountpoint))
	if o.upper == "" {
		w.line("read_only = true")
	}
	w.block("options", o.options)
	w.block("unit", o.unit.lines())
	w.line("}")
}

func (w *writer) block(kind string, lines []setting) {
	if len(lines) == 0 {
		return
	}
	w.line("")
	w.line(kind + " {")
	for _, s := range lines {
		w.line(s.name + " = " + s.value)
	}
	w.line("}")
}

// layers writes lowerdirs, a longer list with a line for each.
func (w *writer) layers(o *overlay) {
	items := make([]string, 0, len(o.lower))
	for _, l := range o.lower {
		item := quote(l)
		if name, ok := w.shared[l]; ok {
			item = "lowerdir." + name
		} else if name, ok := w.mounts[l]; ok && l != o.mountpoint {
			item = "overlay." + name + ".mountpoint"
		}
		items = append(items, item)
	}
	one := "lowerdirs = [" + strings.Join(items, ", ") + "]"
	if len(items) == 1 || utf8.RuneCountInString(one) <= width {
		w.line(one)
		return
	}
	w.line("lowerdirs = [")
	for _, item := range items {
		w.line(item + ",")
	}
	w.line("]")
}

// leftOut lists what is not declared, those together that share the reason.
func (w *writer) leftOut(left []leftOut) {
	left = slices.Clone(left)
	slices.SortFunc(left, func(a, b leftOut) int {
		return cmp.Or(cmp.Compare(a.reason, b.reason), cmp.Compare(a.mountpoint, b.mountpoint))
	})
	for i, l := range left {
		if i == 0 || left[i-1].reason != l.reason || left[i-1].block != nil {
			w.line("")
			w.comment("Left out: " + l.reason + ".")
		}
		where := show(l.mountpoint)
		if l.detail != "" {
			where += " (" + l.detail + ")"
		}
		w.line("#   " + where)
		if l.block == nil {
			continue
		}
		block := &writer{text: w.text}
		block.overlay(l.block, nameAll([]string{l.mountpoint}, "overlay", nil)[l.mountpoint])
		w.line("#")
		for line := range strings.Lines(string(hclwrite.Format([]byte(block.out.String())))) {
			w.line(strings.TrimRight("# "+line, "\n "))
		}
	}
}

// comment writes a text as lines of a comment.
func (w *writer) comment(text string) {
	line := "#"
	for word := range strings.FieldsSeq(harmless(text)) {
		if line != "#" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			w.line(line)
			line = "#"
		}
		line += " " + word
	}
	w.line(line)
}

// quote writes s as a quoted text of HCL.
func quote(s string) string { return string(hclwrite.TokensForValue(cty.StringVal(s)).Bytes()) }

// show is a path in a comment: as it is, or quoted where it would not be seen as it is.
func show(s string) string {
	odd := strings.TrimSpace(s) != s || !utf8.ValidString(s) ||
		strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) })
	if odd {
		return strconv.Quote(s)
	}
	return s
}

// harmless takes out what would end a comment, or command a terminal. The reasons come from elsewhere, with names in
// them that anybody may have given.
func harmless(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r):
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}
