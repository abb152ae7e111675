package config

import (
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// schema says what a block may hold.
type schema struct {
	labelled bool
	attrs    []string
	required []string
	blocks   map[string]*schema
	// open blocks take any attribute (locals).
	open bool
	// refused attributes have a reason of their own.
	refused map[string]string
}

const (
	kindSettings = "settings"
	kindVariable = "variable"
	kindLocals   = "locals"
	kindLowerdir = "lowerdir"
	kindOverlay  = "overlay"
)

func specSchema() *schema {
	return &schema{blocks: map[string]*schema{
		kindSettings: {
			attrs: []string{"state_dir"},
			blocks: map[string]*schema{
				kindAgent: {attrs: []string{"policy", "resync", "metrics_file"}},
			},
		},
		kindVariable: {labelled: true, attrs: []string{"description", "type", "default"}},
		kindLocals:   {open: true},
		kindLowerdir: {labelled: true, attrs: []string{"path"}, required: []string{"path"}},
		kindOverlay: {
			labelled: true,
			attrs: []string{
				"for_each", "lowerdirs", "upperdir", "workdir", "mountpoint", "read_only",
				"allow_unsafe_parent", "owner", "group", "mode",
			},
			required: []string{"lowerdirs", "mountpoint"},
			refused: map[string]string{
				"count": "There is no count. Use for_each with a set or a map, such as " +
					"toset([for i in range(3) : tostring(i)]).",
				"depends_on": "The order follows from what is a layer of what; unit { after = [...] } orders an " +
					"overlay against other units.",
			},
			blocks: map[string]*schema{
				"options": {attrs: optionNames(), refused: refusedOptions()},
				"unit":    {attrs: []string{"description", "wanted_by", "after", "requires", "network"}},
				"lifecycle": {
					attrs: []string{"prevent_destroy", "on_busy"},
				},
			},
		},
	}}
}

func optionNames() []string {
	var names []string
	for _, o := range overlayfs.SpecOptions() {
		names = append(names, o.Name)
	}
	return names
}

// refusedOptions are those that exist and yet have no place in a spec.
func refusedOptions() map[string]string {
	const (
		attribute = "It is an attribute of the overlay, not one of its options."
		implied   = "overlayd sets it by itself."
		volatile  = "An overlay mounted with it cannot be mounted again: after any unmount, clean or not, the kernel " +
			"leaves work/incompat/volatile behind and refuses the next mount."
	)
	return map[string]string{
		"volatile":  volatile,
		"fsync":     volatile,
		"lowerdir":  `Use the attribute "lowerdirs" of the overlay.`,
		"lowerdirs": attribute,
		"upperdir":  attribute,
		"workdir":   attribute,
		"read_only": attribute,
		"nofail":    implied,
		"_netdev":   "Use unit { network = true }.",
		"rw":        "An overlay is writable unless ro or read_only is true.",
		"relatime":  "It is the kernel's default.",
	}
}

// block is a block as written, with its attributes' references checked later.
type block struct {
	kind   string
	name   string
	header hcl.Range
	attrs  []*attr // by name
	blocks map[string]*block
}

// attr is one attribute.
type attr struct {
	name string
	expr hclsyntax.Expression
	rng  hcl.Range // name and expression

	refs []reference
	each bool // refers to each
	bad  bool // reported; never evaluated
	memo *memo

	compiled bool
	template *template // nil if the expression is none
}

// attr returns the attribute of that name, nil if there is none.
func (b *block) attr(name string) *attr {
	for _, a := range b.attrs {
		if a.name == name {
			return a
		}
	}
	return nil
}

// all returns the attributes of the block and those of the blocks in it, in a
// stable order.
func (b *block) all() []*attr {
	if len(b.blocks) == 0 {
		return b.attrs
	}
	out := slices.Clone(b.attrs)
	for _, name := range slices.Sorted(maps.Keys(b.blocks)) {
		out = append(out, b.blocks[name].all()...)
	}
	return out
}

// sub returns the attribute of a block that may be missing.
func (b *block) sub(kind, name string) *attr {
	if s := b.blocks[kind]; s != nil {
		return s.attr(name)
	}
	return nil
}

// decoder turns bodies into blocks and tells what does not belong there.
type decoder struct {
	diags   *collector
	suggest suggester
}

// attributes returns those that may be there, by name, and reports the others
// and those that are missing.
func (d *decoder) attributes(s *schema, where string, header hcl.Range, body *hclsyntax.Body) []*attr {
	names := make([]string, 0, len(body.Attributes))
	for name := range body.Attributes {
		names = append(names, name)
	}
	slices.Sort(names)
	out := make([]*attr, 0, len(names))
	var misspelled []string
	for _, name := range names {
		a := body.Attributes[name]
		if !s.open && !slices.Contains(s.attrs, name) {
			d.diags.add(problem(a.NameRange, "Unknown attribute", "%s", d.unknownAttribute(s, where, name)))
			// A misspelled attribute is one mistake, not two.
			misspelled = append(misspelled, d.suggest.Nearest(name, s.attrs))
			continue
		}
		out = append(out, &attr{name: name, expr: a.Expr, rng: a.SrcRange})
	}
	for _, name := range s.required {
		if body.Attributes[name] == nil && !slices.Contains(misspelled, name) &&
			!slices.ContainsFunc(body.Blocks, func(b *hclsyntax.Block) bool { return b.Type == name }) {
			d.diags.add(problem(header, "Missing attribute", "%s needs the attribute %s.", where, quote(name)))
		}
	}
	return out
}

func (d *decoder) unknownAttribute(s *schema, where, name string) string {
	if reason, ok := s.refused[name]; ok {
		return quote(name) + " is not accepted here. " + reason
	}
	if s.blocks[name] != nil {
		return quote(name) + " is a block: write " + name + " { ... } without the equals sign."
	}
	for _, inner := range slices.Sorted(maps.Keys(s.blocks)) {
		if !s.blocks[inner].labelled && slices.Contains(s.blocks[inner].attrs, name) {
			return quote(name) + " belongs into a block: " + inner + " { " + name + " = ... }"
		}
	}
	if len(s.attrs) == 0 {
		return where + " holds blocks only; " + quote(name) + " must be inside of one."
	}
	return where + " has no attribute " + quote(name) + "." + d.suggest.didYouMean(name, s.attrs)
}

// children decodes the blocks of a body. Those that are wrong as a whole are
// reported and left out.
func (d *decoder) children(s *schema, where string, body *hclsyntax.Body) []*block {
	var out []*block
	for _, hb := range body.Blocks {
		bs := s.blocks[hb.Type]
		if bs == nil {
			d.diags.add(problem(hb.TypeRange, "Unknown block", "%s", d.unknownBlock(s, where, hb.Type)))
			continue
		}
		if b := d.block(bs, hb); b != nil {
			out = append(out, b)
		}
	}
	return out
}

func (d *decoder) unknownBlock(s *schema, where, name string) string {
	if slices.Contains(s.attrs, name) {
		return quote(name) + " is an attribute: write " + name + " = ..."
	}
	for _, outer := range slices.Sorted(maps.Keys(s.blocks)) {
		if !s.blocks[outer].labelled && s.blocks[outer].blocks[name] != nil {
			return quote(name) + " belongs into a block: " + outer + " { " + name + " { ... } }"
		}
	}
	if len(s.blocks) == 0 {
		return where + " holds no blocks."
	}
	return where + " has no block " + quote(name) + "." +
		d.suggest.didYouMean(name, slices.Collect(maps.Keys(s.blocks)))
}

func (d *decoder) block(s *schema, hb *hclsyntax.Block) *block {
	b := &block{kind: hb.Type, header: hb.DefRange()}
	where := "The block " + hb.Type
	ok := true
	switch {
	case s.labelled && len(hb.Labels) == 0:
		d.diags.add(problem(b.header, "Missing name", "%s needs a name: %s \"NAME\" { ... }", where, hb.Type))
		ok = false
	case s.labelled && len(hb.Labels) > 1:
		d.diags.add(problem(hb.LabelRanges[1], "Too many names", "%s has one name.", where))
		ok = false
	case !s.labelled && len(hb.Labels) > 0:
		d.diags.add(problem(hb.LabelRanges[0], "Unexpected name", "%s has no name.", where))
		ok = false
	case s.labelled:
		b.name = hb.Labels[0]
		if !validName(b.name) {
			d.diags.add(problem(hb.LabelRanges[0], "Invalid name",
				"The name of %s begins with a letter or \"_\" and holds letters, digits, \"_\" and \"-\".", withArticle(hb.Type)))
			ok = false
		}
	}
	b.attrs = d.attributes(s, where, b.header, hb.Body)
	for _, child := range d.children(s, where, hb.Body) {
		if first := b.blocks[child.kind]; first != nil {
			d.diags.add(problem(child.header, "Duplicate block",
				"%s has at most one block %s; the first is at %s.", where, quote(child.kind), place(first.header)))
			continue
		}
		if b.blocks == nil {
			b.blocks = map[string]*block{}
		}
		b.blocks[child.kind] = child
	}
	if !ok {
		return nil
	}
	return b
}

// validName is hclsyntax.ValidIdentifier, which starts a scanner, for names in
// tens of thousands.
func validName(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_':
		case i > 0 && (c >= '0' && c <= '9' || c == '-'):
		default:
			return hclsyntax.ValidIdentifier(s)
		}
	}
	return s != ""
}

// withArticle puts "a" or "an" before a noun.
func withArticle(noun string) string {
	if strings.ContainsRune("aeiou", rune(noun[0])) {
		return "an " + noun
	}
	return "a " + noun
}
