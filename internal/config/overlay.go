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
	for _, n := range m.order {
		switch n.kind {
		case kindLowerdir:
			if v := m.values[n]; v.IsKnown() {
				spec.Lowerdirs = append(spec.Lowerdirs, Lowerdir{
					Name: n.name, Path: v.GetAttr("path").AsString(), Range: m.nodes[n].rng,
				})
			}
		case kindOverlay:
			if !stateOK {
				stateDir = ""
			}
			m.finish(m.nodes[n].block, stateDir)
			for _, inst := range m.instances[n.name] {
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
	a := m.settings.attrs["state_dir"]
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
func (m *module) finish(b *block, stateDir string) {
	instances := m.instances[b.name]
	if len(instances) == 0 {
		return
	}
	e := m.evaluator(b.all()...)
	var shared []Layer
	for i, inst := range instances {
		o := inst.overlay
		ie := e.forInstance(o.Address, inst.each)
		o.ReadOnly, _ = ie.boolean(b.attrs["read_only"])
		if a := b.attrs["lowerdirs"]; a != nil && !a.each && i > 0 {
			o.Lowerdirs = shared // relate sees by this that they are alike
		} else {
			o.Lowerdirs = ie.layers(b, o.ReadOnly)
			shared = o.Lowerdirs
		}
		ie.data(b, o, stateDir)
		ie.root(b, o)
		ie.options(b, o)
		ie.unit(b, o)
		ie.lifecycle(b, o)
	}
}

// layers evaluates lowerdirs.
func (e *evaluator) layers(b *block, readOnly bool) []Layer {
	a := b.attrs["lowerdirs"]
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
	upper, work := b.attrs["upperdir"], b.attrs["workdir"]
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
	base := ""
	if stateDir != "" {
		base = strings.TrimSuffix(stateDir, "/") + "/" + o.Address.Name
		if o.Address.Keyed {
			base += "." + escapeKey(o.Address.Key)
		}
	}
	o.Upperdir, o.UpperRange, o.DefaultUpper = e.dataDir(upper, base, "/upper", o.Range)
	o.Workdir, o.WorkRange, o.DefaultWork = e.dataDir(work, base, "/work", o.Range)
	if (o.DefaultUpper || o.DefaultWork) && base != "" {
		if f := pathFlaw(base+"/upper", layerPath); f != (flaw{}) {
			e.m.diags.addFor(o.Address, problem(o.Range, "Unusable default directory",
				"The directory for %s, %s, %s. Name an upperdir and a workdir.", o.Address, shorten(quote(base)), f.reason))
			o.Upperdir, o.Workdir = "", ""
			return
		}
		o.DataDir = base
	}
}

func (e *evaluator) readOnlyKnown(b *block) bool {
	a := b.attrs["read_only"]
	if e.unset(a) {
		return true
	}
	_, ok := e.value(a)
	return ok
}

func (e *evaluator) dataDir(a *attr, base, leaf string, header hcl.Range) (p string, rng hcl.Range, isDefault bool) {
	if e.unset(a) {
		if base == "" {
			return "", header, true
		}
		return base + leaf, header, true
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
	if unsafe, ok := e.boolean(b.attrs["allow_unsafe_parent"]); ok && unsafe {
		o.AllowUnsafeParent = true
		a := b.attrs["allow_unsafe_parent"]
		e.report(a, warning(a.expr.Range(), "Directories of others are trusted",
			"Whoever can write to a directory above upperdir, workdir or mountpoint can lead the mount elsewhere: the "+
				"kernel follows symlinks again at each mount and at boot."))
	}
	o.Owner = e.account(b.attrs["owner"])
	o.Group = e.account(b.attrs["group"])
	if s, ok := e.text(b.attrs["mode"]); ok {
		n, err := strconv.ParseUint(s, 8, 32)
		if !octal.MatchString(s) || err != nil || n > 0o7777 {
			e.invalid(b.attrs["mode"], "mode takes the permissions in octal, such as \"0755\", not %s.", quote(s))
		} else {
			mode := uint32(n)
			o.Mode = &mode
		}
	}
	if !o.ReadOnly {
		return
	}
	for _, name := range []string{"owner", "group", "mode"} {
		if a := b.attrs[name]; !e.unset(a) {
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
