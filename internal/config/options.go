package config

import (
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// options evaluates the options block.
func (e *evaluator) options(b *block, o *Overlay) {
	o.Options = overlayfs.Options{}
	given := b.blocks["options"]
	if given == nil {
		return
	}
	for _, info := range e.m.options {
		a := given.attr(info.Name)
		if a == nil {
			continue
		}
		switch info.Kind {
		case overlayfs.KindEnum:
			if s, ok := e.oneOf(a, info.Values); ok {
				o.Options[info.Name] = s
			}
		case overlayfs.KindBool:
			if on, ok := e.boolean(a); ok {
				o.Options[info.Name] = map[bool]string{true: "on", false: "off"}[on]
			}
		case overlayfs.KindFlag:
			on, ok := e.boolean(a)
			switch {
			case ok && on:
				o.Options[info.Name] = ""
			case ok:
				if o.OffFlags == nil {
					o.OffFlags = map[string]bool{}
				}
				o.OffFlags[info.Name] = true
			}
		}
	}
	if len(o.Options) == 0 {
		return
	}
	for _, c := range overlayfs.Conflicts(o.Options, o.ReadOnly) {
		subject, last := given.header, (*attr)(nil)
		for _, name := range c.Options {
			if a := given.attr(name); a != nil && (last == nil || before(last.rng, a.rng)) {
				subject, last = a.rng, a
			}
		}
		d := problem(subject, "Options that exclude each other", "%s.", strings.TrimSuffix(c.Reason, "."))
		if len(c.Options) == 1 {
			d.Summary = "Option not possible here"
		}
		if last == nil {
			e.m.diags.addFor(o.Address, d)
			continue
		}
		whole := last.rng
		for _, name := range c.Options {
			if a := given.attr(name); a != nil {
				whole = hcl.RangeOver(whole, a.rng)
			}
		}
		d.Context = &whole
		e.report(last, d)
	}
}

// unit evaluates the unit block.
func (e *evaluator) unit(b *block, o *Overlay) {
	u := &o.Unit
	u.WantedBy = []string{defaultWantedBy}
	given := b.blocks["unit"]
	if given == nil {
		return
	}
	e.description(b, o)
	if list, ok := e.units(given.attr("wanted_by")); ok {
		u.WantedBy = list
	}
	u.After, _ = e.units(given.attr("after"))
	u.Requires, _ = e.units(given.attr("requires"))
	u.Network, _ = e.boolean(given.attr("network"))
}

func (e *evaluator) description(b *block, o *Overlay) {
	o.Unit.Description = ""
	a := b.sub("unit", "description")
	s, ok := e.text(a)
	if !ok {
		return
	}
	if reason := lineProblem(s); reason != "" {
		e.invalid(a, "The description %s %s.", shorten(quote(s)), reason)
		return
	}
	o.Unit.Description = s
}

// units returns a list of names of units, each once.
func (e *evaluator) units(a *attr) ([]string, bool) {
	list, ok := e.texts(a)
	if !ok {
		return nil, false
	}
	names := make([]string, 0, len(list))
	for _, s := range list {
		if reason := unitProblem(s); reason != "" {
			e.invalid(a, "The name of a unit, %s, %s.", shorten(quote(s)), reason)
			return nil, false
		}
		if !slices.Contains(names, s) {
			names = append(names, s)
		}
	}
	return names, true
}

// lifecycle evaluates the lifecycle block.
func (e *evaluator) lifecycle(b *block, o *Overlay) {
	o.Lifecycle.OnBusy = OnBusyFail
	o.Lifecycle.PreventDestroy, _ = e.boolean(b.sub("lifecycle", "prevent_destroy"))
	if s, ok := e.oneOf(b.sub("lifecycle", "on_busy"), []string{OnBusyFail, OnBusyDetach}); ok {
		o.Lifecycle.OnBusy = s
	}
}
