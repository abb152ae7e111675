package config

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
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

// declaration is where a node comes from.
type declaration struct {
	rng   hcl.Range
	block *block // nil for a local
	local *attr
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
	order    []node // as declared
	names    map[string][]string
	used     map[node]bool

	values map[node]cty.Value
	state  map[node]visit
	path   []node
	cyclic map[node]bool

	instances map[string][]*instance // by name of the overlay block
}

// evaluate makes a Spec of what was read. It looks at nothing else. Paths that
// name files and directories are left to the caller.
func evaluate(in input) (*Spec, hcl.Diagnostics) {
	m := &module{
		diags:     newCollector(),
		suggest:   newSuggester(),
		sources:   map[string]*hcl.File{},
		abs:       map[string]string{},
		funcs:     functions(),
		options:   overlayfs.SpecOptions(),
		host:      cty.ObjectVal(map[string]cty.Value{"name": cty.StringVal(in.hostName)}),
		nodes:     map[node]*declaration{},
		names:     map[string][]string{},
		used:      map[node]bool{},
		values:    map[node]cty.Value{},
		state:     map[node]visit{},
		cyclic:    map[node]bool{},
		instances: map[string][]*instance{},
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
		file, ok := m.parse(src)
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

// parse reads one file. Its text is kept for diagnostics even when it is wrong.
func (m *module) parse(src source) (*hclsyntax.Body, bool) {
	if d := unfit(src.text, src.name); d != nil {
		m.sources[src.name] = &hcl.File{Bytes: src.text}
		m.diags.add(d)
		return nil, false
	}
	file, diags := hclsyntax.ParseConfig(src.text, src.name, hcl.InitialPos)
	if file == nil {
		file = &hcl.File{Bytes: src.text}
	}
	m.sources[src.name] = file
	m.diags.addAll(diags)
	body, ok := file.Body.(*hclsyntax.Body)
	return body, ok && !diags.HasErrors()
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
			m.declareNode(node{"local", a.name}, &declaration{rng: a.rng, local: a})
		}
	case kindVariable:
		m.declareNode(node{"var", b.name}, &declaration{rng: b.header, block: b})
	default:
		m.declareNode(node{b.kind, b.name}, &declaration{rng: b.header, block: b})
	}
}

func (m *module) declareNode(n node, d *declaration) {
	if first := m.nodes[n]; first != nil {
		m.diags.add(problem(d.rng, "Duplicate "+noun(n.kind),
			"%s is declared twice; the first is at %s. All files of a spec share their names.", n, place(first.rng)))
		return
	}
	m.nodes[n] = d
	m.order = append(m.order, n)
	m.names[n.kind] = append(m.names[n.kind], n.name)
}

func noun(kind string) string {
	if kind == "var" {
		return "variable"
	}
	return kind
}
