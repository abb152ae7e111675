package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/overlayd/overlayd/internal/config"
)

// The graph runs from right to left, so that the directories come first and thirty clients are a column. A background
// is set for readers with a dark page.
const graphHead = `// Layers and overlays, made by overlayd graph. To see it: dot -Tsvg
digraph overlayd {
  graph [rankdir=RL, bgcolor="white", pad=0.2, ranksep=1.2, nodesep=0.15, fontname="Helvetica,Arial,sans-serif"]
  node [fontname="Helvetica,Arial,sans-serif", fontsize=11, style=filled, color="#57606a"]
  edge [fontname="Helvetica,Arial,sans-serif", fontsize=9, color="#57606a", arrowsize=0.6, headport=e]
`

// printGraph writes a spec in the language of Graphviz.
func printGraph(w io.Writer, spec *config.Spec) {
	mountpoints := map[config.Address]string{}
	for _, o := range spec.Overlays {
		mountpoints[o.Address] = o.Mountpoint
	}
	fmt.Fprint(w, graphHead)
	directories(w, spec)
	for i := 0; i < len(spec.Overlays); {
		block := spec.Overlays[i:]
		other := func(o *config.Overlay) bool { return o.Address.Name != block[0].Address.Name }
		if n := slices.IndexFunc(block, other); n > 0 {
			block = block[:n]
		}
		overlayNodes(w, block)
		i += len(block)
	}
	for _, o := range spec.Overlays {
		edges(w, o, mountpoints)
	}
	fmt.Fprintln(w, "}")
}

// directories are the layers that are no overlays, those of lowerdir blocks by their names, also where none uses them.
func directories(w io.Writer, spec *config.Spec) {
	overlay, done := map[string]bool{}, map[string]bool{}
	for _, o := range spec.Overlays {
		overlay[o.Mountpoint] = true
	}
	node := func(path string, label ...string) {
		if !done[path] {
			done[path] = true
			fmt.Fprintf(w, "  %s [shape=folder, fillcolor=\"#ddf4ff\", label=%s]\n", dotID(path), dotLabel(label...))
		}
	}
	for _, l := range spec.Lowerdirs {
		if !overlay[l.Path] {
			node(l.Path, "lowerdir."+l.Name, l.Path)
		}
	}
	for _, o := range spec.Overlays {
		for _, l := range o.Lowerdirs {
			if l.Overlay == nil {
				node(l.Path, l.Path)
			}
		}
	}
}

// overlayNodes writes the overlays of one block, those of for_each in a frame. One with several layers has a port for
// each, topmost first: numbers on the arrows would not be told apart where thirty of them meet.
func overlayNodes(w io.Writer, block []*config.Overlay) {
	indent := "  "
	if name := "overlay." + block[0].Address.Name; len(block) > 1 {
		fmt.Fprintf(w, "  subgraph %s {\n", dotID("cluster_"+name))
		fmt.Fprintf(w, "    graph [label=%s, fontsize=11, color=\"#d0d7de\", style=rounded]\n", dotLabel(name))
		indent = "    "
	}
	for _, o := range block {
		lines, look := []string{o.Address.String(), o.Mountpoint}, `fillcolor="#dafbe1"`
		if o.ReadOnly {
			lines, look = append(lines, "read-only"), `style="filled,dashed", fillcolor="#f6f8fa"`
		}
		fmt.Fprintf(w, "%s%s [shape=Mrecord, %s, label=%s]\n", indent, dotID(o.Address.String()), look,
			dotRecord(len(o.Lowerdirs), lines...))
	}
	if len(block) > 1 {
		fmt.Fprintln(w, "  }")
	}
}

// edges lead from an overlay to its layers. One that lies inside another overlay's tree bears its path there.
func edges(w io.Writer, o *config.Overlay, mountpoints map[config.Address]string) {
	for i, l := range o.Lowerdirs {
		from, to, label := dotID(o.Address.String()), l.Path, ""
		if len(o.Lowerdirs) > 1 {
			from += fmt.Sprintf(":%d:w", i+1)
		}
		if l.Overlay != nil {
			to = l.Overlay.String()
			if inside, ok := strings.CutPrefix(l.Path, mountpoints[*l.Overlay]+"/"); ok {
				label = " [label=" + dotLabel(inside) + "]"
			}
		}
		fmt.Fprintf(w, "  %s -> %s%s\n", from, dotID(to), label)
	}
}

// dotID quotes the name of a node. There, a backslash means itself but before a quote, and two of them stay two.
func dotID(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// labelEscapes are the escapes of every label.
func labelEscapes() []string { return []string{`\`, `\\`, `"`, `\"`, `&`, `&amp;`} }

// dotLabel quotes a text to show, a line for each part. There, a backslash begins an escape and & an entity.
func dotLabel(lines ...string) string {
	return dotLines(strings.NewReplacer(labelEscapes()...), `"`, lines, `"`)
}

// dotRecord is the label of a record: its ports, where it has several, beside a text. There, some more characters have
// a meaning, and several blanks are one.
func dotRecord(ports int, lines ...string) string {
	escapes := labelEscapes()
	for _, c := range []string{"{", "}", "|", "<", ">", " "} {
		escapes = append(escapes, c, `\`+c)
	}
	cells := make([]string, 0, ports)
	for i := range ports {
		cells = append(cells, fmt.Sprintf("<%d>%[1]d", i+1))
	}
	before := `"{`
	if ports > 1 {
		before += "{" + strings.Join(cells, "|") + "}|"
	}
	return dotLines(strings.NewReplacer(escapes...), before, lines, `}"`)
}

func dotLines(escape *strings.Replacer, before string, lines []string, after string) string {
	escaped := make([]string, 0, len(lines))
	for _, l := range lines {
		escaped = append(escaped, escape.Replace(l))
	}
	return before + strings.Join(escaped, `\n`) + after
}
