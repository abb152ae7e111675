package config

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// source is one file as read.
type source struct {
	name string // as the user gave it; what diagnostics say
	abs  string
	text []byte
}

// value is one --var, or one file of values.
type value struct {
	file *source
	arg  string
}

// input is everything that evaluation depends on.
type input struct {
	specs    []source
	auto     []source // *.auto.vars.hcl, in order
	values   []value
	environ  []string
	hostName string
	partial  bool // some file could not be read
}

// node is what other parts of the spec can refer to.
type node struct {
	kind string
	name string
}

func (n node) String() string { return n.kind + "." + n.name }

// declaration is where a node comes from, and what became of it.
type declaration struct {
	node
	rng   hcl.Range
	block *block // nil for a local
	local *attr

	used      bool
	state     visit
	cyclic    bool
	value     cty.Value   // cty.NilVal until it is computed
	set       []string    // the elements, in order, where value is a set of strings and they came cheap
	instances []*instance // of an overlay
}

// module is a spec on its way from files to values.
type module struct {
	diags   *collector
	suggest suggester
	sources map[string]*hcl.File
	abs     map[string]string // name of a spec file → absolute path
	funcs   map[string]function.Function
	options []overlayfs.OptionInfo
	host    cty.Value

	settings *block
	nodes    map[node]*declaration
	order    []*declaration // as declared
	names    map[string][]string
	path     []*declaration
}

// evaluate makes a Spec of what was read. It looks at nothing else. Paths that
// name files and directories are left to the caller.
func evaluate(in input) (*Spec, hcl.Diagnostics) {
	m := &module{
		diags:   newCollector(),
		suggest: newSuggester(),
		sources: map[string]*hcl.File{},
		abs:     map[string]string{},
		funcs:   functions(),
		options: overlayfs.SpecOptions(),
		host:    cty.ObjectVal(map[string]cty.Value{"name": cty.StringVal(in.hostName)}),
		nodes:   map[node]*declaration{},
		names:   map[string][]string{},
	}
	spec := &Spec{Sources: m.sources, StateDir: DefaultStateDir}
	specsWhole := m.declare(in.specs)
	given, valuesWhole := m.given(in)
	if in.partial || !specsWhole || !valuesWhole {
		// What a file that does not parse would have declared is missing everywhere
		// else; to go on would report that, too.
		return spec, m.diags.result()
	}
	m.check()
	m.variables(given)
	m.resolveAll()
	m.build(spec)
	return spec, m.diags.result()
}

// declare parses the spec files and notes what they declare. It returns false
// if a file did not parse.
func (m *module) declare(specs []source) bool {
	whole := true
	d := &decoder{diags: m.diags, suggest: m.suggest}
	root := specSchema()
	for _, src := range specs {
		m.abs[src.name] = src.abs
		file, ok := m.parseSpec(src)
		if !ok {
			whole = false
			continue
		}
		d.attributes(root, "A spec", hcl.Range{}, file)
		for _, b := range d.children(root, "A spec", file) {
			m.declareBlock(b)
		}
	}
	return whole
}

func (m *module) declareBlock(b *block) {
	switch b.kind {
	case kindSettings:
		if m.settings != nil {
			m.diags.add(problem(b.header, "Duplicate settings block",
				"A spec has at most one settings block; the first is at %s.", place(m.settings.header)))
			return
		}
		m.settings = b
	case kindLocals:
		for _, a := range b.all() {
			m.declareNode(&declaration{node: node{"local", a.name}, rng: a.rng, local: a})
		}
	case kindVariable:
		m.declareNode(&declaration{node: node{"var", b.name}, rng: b.header, block: b})
	default:
		m.declareNode(&declaration{node: node{b.kind, b.name}, rng: b.header, block: b})
	}
}

func (m *module) declareNode(d *declaration) {
	if first := m.nodes[d.node]; first != nil {
		m.diags.add(problem(d.rng, "Duplicate "+noun(d.kind),
			"%s is declared twice; the first is at %s. All files of a spec share their names.", d, place(first.rng)))
		return
	}
	m.nodes[d.node] = d
	m.order = append(m.order, d)
	m.names[d.kind] = append(m.names[d.kind], d.name)
}

func noun(kind string) string {
	if kind == "var" {
		return "variable"
	}
	return kind
}
