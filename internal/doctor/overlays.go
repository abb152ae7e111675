package doctor

import (
	"fmt"
	"strings"
)

func (r *report) overlays(f Facts) {
	found := len(r.findings)
	r.spec(f)
	for i, o := range f.Overlays {
		r.overlay(f, i, o)
	}
	if f.Spec.Err != "" {
		r.add(AreaOverlays, Error, "overlays", f.Spec.Err, "see that, then run overlayd doctor again")
		return
	}
	bad := map[string]bool{}
	for _, finding := range r.findings[found:] {
		bad[finding.Subject] = finding.Level != OK
	}
	good := 0
	for _, o := range f.Overlays {
		if !bad[o.Address] {
			good++
		}
	}
	switch {
	case good == 0:
	case f.TrialErr != "":
		r.add(AreaOverlays, Warning, count(good, "overlay"), "nothing is seen in the way, but the kernel was not asked "+
			"about the layers: "+f.TrialErr, asRoot(f, "see the findings about this host and its kernel"))
	default:
		r.add(AreaOverlays, OK, count(good, "overlay"), "nothing is in the way", "")
	}
}

func (r *report) spec(f Facts) {
	const subject = "spec"
	s := f.Spec
	at := strings.Join(s.Paths, ", ")
	switch {
	case s.Missing:
		r.add(AreaOverlays, OK, subject, "there is none at "+at+": only what was applied is looked at", "")
	case s.Errors > 0:
		r.add(AreaOverlays, Error, subject, fmt.Sprintf("%s has %s: only what was applied is looked at", at,
			count(s.Errors, "error")), "correct what overlayd validate shows")
	case s.Warnings > 0:
		r.add(AreaOverlays, Warning, subject, fmt.Sprintf("%s is valid, with %s", at, count(s.Warnings, "warning")),
			"see what overlayd validate shows")
	default:
		r.add(AreaOverlays, OK, subject, at+" is valid", "")
	}
	level := Error
	if !f.Privileges.Root {
		level = Warning // who is not root applies nothing, and may well own what others are to apply
	}
	for _, text := range s.Distrust {
		r.add(AreaOverlays, level, "trust", text, "")
	}
}

func (r *report) overlay(f Facts, i int, o Overlay) {
	add := func(l Level, text, remedy string) {
		if o.Source != "" {
			text += " (" + o.Source + ")"
		}
		r.add(AreaOverlays, l, o.Address, text, remedy)
	}
	for _, text := range o.Conflicts {
		add(Error, text, "")
	}
	for _, text := range o.Warnings {
		add(Warning, text, "")
	}
	if options := unknown(f.Kernel, o.Options); len(options) > 0 && f.Root == "" {
		add(Error, "this kernel does not take "+strings.Join(options, ", "),
			"leave that out of its options, or run a newer kernel")
	} else if text := f.Refused[i]; text != "" {
		add(Error, text, "correct its layers and options; overlayd plan shows them")
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
