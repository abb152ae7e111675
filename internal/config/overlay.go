package config

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// defaultWantedBy is what enables an overlay whose block says nothing.
const defaultWantedBy = "overlayd.target"

// build fills the spec with what was resolved.
func (m *module) build(spec *Spec) {
	stateDir, stateOK := m.stateDir()
	spec.StateDir = stateDir
	spec.Agent = m.agent()
	if !stateOK {
		stateDir = ""
	}
	spec.Lowerdirs = slices.Grow(spec.Lowerdirs, len(m.names[kindLowerdir]))
	for _, d := range m.order {
		switch d.kind {
		case kindLowerdir:
			if d.value.IsKnown() {
				spec.Lowerdirs = append(spec.Lowerdirs, Lowerdir{
					Name: d.name, Path: d.value.GetAttr("path").AsString(), Range: d.rng,
				})
			}
		case kindOverlay:
			m.finish(d, stateDir)
			for _, inst := range d.instances {
				spec.Overlays = append(spec.Overlays, inst.overlay)
			}
		}
	}
	slices.SortFunc(spec.Lowerdirs, func(a, b Lowerdir) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(spec.Overlays, func(a, b *Overlay) int { return a.Address.compare(b.Address) })
	m.relate(spec)
}

// stateDir returns settings.state_dir, and false if it is wrong.
func (m *module) stateDir() (string, bool) {
	if m.settings == nil {
		return DefaultStateDir, true
	}
	a := m.settings.attr("state_dir")
	e := m.evaluator(a)
	if e.unset(a) {
		return DefaultStateDir, true
	}
	p, ok := e.path(a, layerPath)
	if !ok {
		return DefaultStateDir, false
	}
	return p, true
}

// finish evaluates the rest of an overlay's instances. stateDir is "" when it
// is not known.
func (m *module) finish(d *declaration, stateDir string) {
	if len(d.instances) == 0 {
		return
	}
	b := d.block
	e := m.evaluator(b.all()...)
	same := b.shared()
	first := d.instances[0].overlay
	for i, inst := range d.instances {
		o := inst.overlay
		e.enter(inst)
		o.ReadOnly, _ = e.boolean(b.attr("read_only"))
		if i > 0 && same.layers {
			o.Lowerdirs = first.Lowerdirs // relate sees by this that they are alike
			if o.ReadOnly && !first.ReadOnly && len(o.Lowerdirs) == 1 {
				e.layers(b, true) // is wrong then, and says so
			}
		} else {
			o.Lowerdirs = e.layers(b, o.ReadOnly)
		}
		e.data(b, o, stateDir)
		if i > 0 && same.root {
			o.AllowUnsafeParent, o.Owner, o.Group, o.Mode = first.AllowUnsafeParent, first.Owner, first.Group, first.Mode
		} else {
			e.root(b, o)
		}
		if i > 0 && same.options {
			o.Options, o.OffFlags = first.Options, first.OffFlags
		} else {
			e.options(b, o)
		}
		if i > 0 && same.unit {
			o.Unit = first.Unit
			e.description(b, o)
		} else {
			e.unit(b, o)
		}
		if i > 0 && same.lifecycle {
			o.Lifecycle = first.Lifecycle
		} else {
			e.lifecycle(b, o)
		}
	}
}

// shared tells of parts of an overlay whether all instances have them in common.
// Whatever there is to report of them, the first one has reported.
type shared struct{ layers, root, options, unit, lifecycle bool }

func (b *block) shared() shared {
	fixed := func(attrs ...*attr) bool {
		return !slices.ContainsFunc(attrs, func(a *attr) bool { return a != nil && a.each })
	}
	readOnly := b.attr("read_only")
	out := shared{
		layers: b.attr("lowerdirs") != nil && fixed(b.attr("lowerdirs")),
		root:   fixed(readOnly, b.attr("allow_unsafe_parent"), b.attr("owner"), b.attr("group"), b.attr("mode")),
		unit: fixed(b.sub("unit", "wanted_by"), b.sub("unit", "after"), b.sub("unit", "requires"),
			b.sub("unit", "network")),
		lifecycle: fixed(b.sub("lifecycle", "prevent_destroy"), b.sub("lifecycle", "on_busy")),
		options:   fixed(readOnly),
	}
	if given := b.blocks["options"]; given != nil {
		out.options = fixed(readOnly) && fixed(given.all()...)
	}
	return out
}

// layers evaluates lowerdirs.
func (e *evaluator) layers(b *block, readOnly bool) []Layer {
	a := b.attr("lowerdirs")
	if a == nil {
		return nil
	}
	v, _ := e.value(a)
	switch {
	case !v.IsKnown():
		return nil
	case v.IsNull():
		e.invalid(a, "An overlay needs lowerdirs; this is null.")
		return nil
	}
	if t := v.Type(); !t.IsListType() && !t.IsTupleType() {
		hint := ""
		switch {
		case t.IsSetType():
			hint = " A set has no order, and the first lowerdir is the topmost one."
		case t == cty.String, t.IsObjectType():
			hint = " Write [...] around it."
		}
		e.invalid(a, "lowerdirs takes a list, topmost first, not %s.%s", typeName(t), hint)
		return nil
	}
	n := v.LengthInt()
	switch {
	case n == 0:
		e.invalid(a, "An overlay needs at least one lowerdir.")
		return nil
	case n == 1 && readOnly:
		e.invalid(a, "An overlay that is read_only needs at least two lowerdirs: the kernel refuses one without an "+
			"upperdir. For a single directory use a bind mount, or add an empty directory as a second lowerdir.")
	case n > overlayfs.MaxLayers:
		e.invalid(a, "An overlay has at most %d lowerdirs; these are %d.", overlayfs.MaxLayers, n)
		return nil
	}
	tuple, _ := a.expr.(*hclsyntax.TupleConsExpr)
	layers := make([]Layer, 0, n)
	for it := v.ElementIterator(); it.Next(); {
		_, el := it.Element()
		rng := a.expr.Range()
		if tuple != nil && len(tuple.Exprs) == n {
			rng = tuple.Exprs[len(layers)].Range()
		}
		p := ""
		if el.IsWhollyKnown() {
			p = e.layer(a, rng, el)
		}
		layers = append(layers, Layer{Path: p, Range: rng})
	}
	return slices.DeleteFunc(layers, func(l Layer) bool { return l.Path == "" })
}

// layer returns the path of one element of lowerdirs, "" if it is none.
func (e *evaluator) layer(a *attr, rng hcl.Range, v cty.Value) string {
	t := v.Type()
	if t.IsObjectType() && t.HasAttribute("path") && !v.IsNull() {
		return e.layer(a, rng, v.GetAttr("path")) // lowerdir.NAME
	}
	if t != cty.String || v.IsNull() {
		hint := ""
		if t.IsObjectType() && t.HasAttribute("mountpoint") {
			hint = " An overlay is a layer by its mountpoint: add .mountpoint."
		}
		e.report(a, problem(rng, "Invalid lowerdir",
			"A layer is a lowerdir or the path of a directory, such as lowerdir.NAME or \"/srv/base\", not %s.%s",
			valueName(v), hint))
		return ""
	}
	p := v.AsString()
	if !e.checkPath(a, rng, p, layerPath) {
		return ""
	}
	return p
}

// data evaluates upperdir and workdir, or takes them from the state directory.
func (e *evaluator) data(b *block, o *Overlay, stateDir string) {
	o.UpperRange, o.WorkRange = o.Range, o.Range
	upper, work := b.attr("upperdir"), b.attr("workdir")
	if o.ReadOnly {
		for _, a := range []*attr{upper, work} {
			if !e.unset(a) {
				e.invalid(a, "An overlay that is read_only has no %s.", a.name)
			}
		}
		return
	}
	if !e.readOnlyKnown(b) {
		return
	}
	o.Upperdir, o.UpperRange, o.DefaultUpper = e.dataDir(upper, o.Range)
	o.Workdir, o.WorkRange, o.DefaultWork = e.dataDir(work, o.Range)
	if !o.DefaultUpper && !o.DefaultWork || stateDir == "" {
		return
	}
	base := strings.TrimSuffix(stateDir, "/") + "/" + o.Address.Name
	if o.Address.Keyed {
		base += "." + escapeKey(o.Address.Key)
	}
	if f := pathFlaw(base+"/upper", layerPath); f != (flaw{}) {
		e.m.diags.addFor(o.Address, problem(o.Range, "Unusable default directory",
			"The directory for %s, %s, %s. Name an upperdir and a workdir.", o.Address, shorten(quote(base)), f.reason))
		o.Upperdir, o.Workdir = "", ""
		return
	}
	o.DataDir = base
	if o.DefaultUpper {
		o.Upperdir = base + "/upper"
	}
	if o.DefaultWork {
		o.Workdir = base + "/work"
	}
}

func (e *evaluator) readOnlyKnown(b *block) bool {
	a := b.attr("read_only")
	if e.unset(a) {
		return true
	}
	_, ok := e.value(a)
	return ok
}

// dataDir returns an upperdir or workdir that the spec names, "" if it is wrong
// or the default is to be taken.
func (e *evaluator) dataDir(a *attr, header hcl.Range) (p string, rng hcl.Range, isDefault bool) {
	if e.unset(a) {
		return "", header, true
	}
	p, ok := e.path(a, layerPath)
	if !ok {
		p = ""
	}
	return p, a.expr.Range(), false
}

var (
	octal = regexp.MustCompile(`^[0-7]{3,5}$`)
	// The characters that end a name in passwd(5), and those no tool accepts.
	badAccount = regexp.MustCompile(`[:/,\s\x00-\x1f\x7f]|^-|^$`)
)

// root evaluates what describes the root of the merged tree.
func (e *evaluator) root(b *block, o *Overlay) {
	if unsafe, ok := e.boolean(b.attr("allow_unsafe_parent")); ok && unsafe {
		o.AllowUnsafeParent = true
		a := b.attr("allow_unsafe_parent")
		e.report(a, warning(a.expr.Range(), "Directories of others are trusted",
			"Whoever can write to a directory above upperdir, workdir or mountpoint can lead the mount elsewhere: the "+
				"kernel follows symlinks again at each mount and at boot."))
	}
	o.Owner = e.account(b.attr("owner"))
	o.Group = e.account(b.attr("group"))
	if s, ok := e.text(b.attr("mode")); ok {
		n, err := strconv.ParseUint(s, 8, 32)
		if !octal.MatchString(s) || err != nil || n > 0o7777 {
			e.invalid(b.attr("mode"), "mode takes the permissions in octal, such as \"0755\", not %s.", quote(s))
		} else {
			mode := uint32(n)
			o.Mode = &mode
		}
	}
	if !o.ReadOnly {
		return
	}
	for _, name := range []string{"owner", "group", "mode"} {
		if a := b.attr(name); !e.unset(a) {
			e.report(a, warning(a.rng, "No effect", "An overlay that is read_only shows the topmost lowerdir as its "+
				"root, whose owner and mode overlayd does not change."))
		}
	}
}

func (e *evaluator) account(a *attr) string {
	s, ok := e.text(a)
	if !ok {
		return ""
	}
	if badAccount.MatchString(s) {
		e.invalid(a, "%s takes the name or the number of %s, not %s.", a.name,
			map[string]string{"owner": "a user", "group": "a group"}[a.name], quote(s))
		return ""
	}
	return s
}
