package doctor

// Level is how bad a finding is.
type Level string

// The levels, each worse than the one before.
const (
	OK      Level = "ok"
	Warning Level = "warning" // works now, yet surprises; or could not be known
	Error   Level = "error"   // does not work
)

// Area is what a finding is about.
type Area string

// The areas, in the order of a report.
const (
	AreaHost        Area = "host"
	AreaKernel      Area = "kernel"
	AreaBoot        Area = "boot" // who mounts at boot: mount(8) and systemd
	AreaFilesystems Area = "filesystems"
	AreaOverlays    Area = "overlays"
)

// Areas lists the areas in the order of a report.
func Areas() []Area { return []Area{AreaHost, AreaKernel, AreaBoot, AreaFilesystems, AreaOverlays} }

// Finding is one thing found out.
type Finding struct {
	Area    Area
	Subject string
	Level   Level
	Text    string
	Remedy  string // what to do; "" where there is nothing to do, or where Text says it
}

// Count gives the number of findings of a level.
func Count(findings []Finding, l Level) int {
	n := 0
	for _, f := range findings {
		if f.Level == l {
			n++
		}
	}
	return n
}

// Judge says what the facts mean, in the order of the areas. It never fails, and gives the same answer to the same
// facts.
func Judge(f Facts) []Finding {
	var r report
	r.tree(f)
	if f.Root == "" {
		r.host(f)
		r.kernel(f)
		r.boot(f)
		r.filesystems(f)
	}
	r.fstab(f)
	r.overlays(f)
	return r.sorted()
}

// report collects findings.
type report struct{ findings []Finding }

func (r *report) add(area Area, level Level, subject, text, remedy string) {
	r.findings = append(r.findings, Finding{Area: area, Subject: subject, Level: level, Text: text, Remedy: remedy})
}

// sorted gives the findings by area; within an area they stay in the order in which they were made.
func (r *report) sorted() []Finding {
	out := make([]Finding, 0, len(r.findings))
	for _, area := range Areas() {
		for _, f := range r.findings {
			if f.Area == area {
				out = append(out, f)
			}
		}
	}
	return out
}
