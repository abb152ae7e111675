package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

var verbs = map[plan.StepKind]string{
	plan.StepUnmount: "unmount", plan.StepMount: "mount", plan.StepRestart: "restart", plan.StepRemount: "remount",
	plan.StepRevive: "revive",
}

// script writes a schedule down: what happens before the unit files change, a bar, and each group on a line.
func script(p plan.Plan) []string {
	s := p.Steps(func(int) bool { return true })
	line := func(steps []plan.Step) string {
		var out []string
		for _, step := range steps {
			at := p.Changes[step.Change].Mountpoint
			if step.Kind == plan.StepUnmount {
				at = step.Live.Mountpoint
			}
			out = append(out, verbs[step.Kind]+" "+at)
		}
		return strings.Join(out, ", ")
	}
	var waves []string
	for _, wave := range s.Waves() {
		waves = append(waves, line(wave))
	}
	out := []string{strings.Join(waves, ", then "), "--"}
	for _, g := range s.Groups {
		out = append(out, line(g))
	}
	return out
}

func TestOrder(t *testing.T) {
	swap := func(a, b plan.Overlay) (plan.Overlay, plan.Overlay) {
		a.Upper, b.Upper, a.Work, b.Work = b.Upper, a.Upper, b.Work, a.Work
		return a, b
	}
	a2, b2 := swap(client("a"), client("b"))
	moved := named(client("a"), "overlay.a")
	moved.Mountpoint = "/m/z"
	tests := []struct {
		name      string
		was, want []plan.Overlay
		then      func(*world)
		steps     []string
	}{
		{
			name: "new overlays are independent", want: []plan.Overlay{client("a"), client("b")},
			steps: []string{"", "--", "mount /m/a", "mount /m/b"},
		},
		{
			name: "parents are mounted before children", want: []plan.Overlay{client("a", "/m/p"), client("p")},
			steps: []string{"", "--", "mount /m/p, mount /m/a"},
		},
		{
			name: "deletes go first, children before parents", was: []plan.Overlay{client("a", "/m/p"), client("p")},
			want: []plan.Overlay{client("n")}, steps: []string{"unmount /m/a, then unmount /m/p", "--", "mount /m/n"},
		},
		{
			name:  "a replaced parent takes its mounted child down and brings it back",
			was:   []plan.Overlay{client("a", "/m/p"), client("p")},
			want:  []plan.Overlay{client("a", "/m/p"), client("p", "/tools", "/base")},
			steps: []string{"", "--", "unmount /m/a, unmount /m/p, mount /m/p, mount /m/a"},
		},
		{
			name: "swapped upperdirs: both down before either is up", was: []plan.Overlay{client("a"), client("b")},
			want: []plan.Overlay{a2, b2}, steps: []string{"", "--", "unmount /m/a, unmount /m/b, mount /m/a, mount /m/b"},
		},
		{
			name: "a moved mountpoint is left before its unit goes", was: []plan.Overlay{client("a")},
			want: []plan.Overlay{moved}, steps: []string{"unmount /m/a", "--", "mount /m/z"},
		},
		{
			name: "what goes down comes before what is new", was: []plan.Overlay{client("b")},
			want:  []plan.Overlay{client("a"), client("b", "/tools", "/base")},
			steps: []string{"", "--", "unmount /m/b, mount /m/b", "mount /m/a"},
		},
		{
			name: "dependents: one restart job", was: []plan.Overlay{client("a")},
			then:  func(w *world) { w.impact["/m/a"] = plan.Impact{Units: []string{"app.service"}} },
			want:  []plan.Overlay{client("a", "/tools", "/base")},
			steps: []string{"", "--", "restart /m/a"},
		},
		{
			name: "dependents in a group: stopped, and started again at its end", was: []plan.Overlay{client("a"), client("b")},
			then:  func(w *world) { w.impact["/m/a"] = plan.Impact{Units: []string{"app.service"}} },
			want:  []plan.Overlay{a2, b2},
			steps: []string{"", "--", "unmount /m/a, unmount /m/b, mount /m/a, mount /m/b, revive /m/a"},
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			w := settled(t, tc.was...)
			if tc.then != nil {
				tc.then(w)
			}
			p := plan.Diff(desired(tc.want...), w.observe(), nil)
			if diff := cmp.Diff(tc.steps, script(p)); diff != "" {
				t.Errorf("steps (-want +got):\n%s%s", diff, show(p))
			}
		})
	}
}

// TestHold: what is held back holds back what cannot be done without it, and nothing else.
func TestHold(t *testing.T) {
	a2, b2 := client("a"), client("b")
	a2.Upper, b2.Upper, a2.Work, b2.Work = b2.Upper, a2.Upper, b2.Work, a2.Work
	tests := []struct {
		name      string
		was, want []plan.Overlay
		busy      string
		held      []string
	}{
		{
			name: "independent ones go on", was: []plan.Overlay{client("a"), client("b")},
			want: []plan.Overlay{client("a", "/tools"), client("b", "/tools")}, busy: "/m/a", held: []string{"/m/a"},
		},
		{
			name: "a busy child holds its parent", was: []plan.Overlay{client("a", "/m/p"), client("p")},
			want: []plan.Overlay{client("a", "/m/p"), client("p", "/tools")}, busy: "/m/a", held: []string{"/m/a", "/m/p"},
		},
		{
			name: "a busy parent leaves its child where it is", was: []plan.Overlay{client("a", "/m/p"), client("p")},
			want: []plan.Overlay{client("a", "/m/p"), client("p", "/tools")}, busy: "/m/p", held: []string{"/m/a", "/m/p"},
		},
		{
			name: "what would stand on a mount that is not made", want: []plan.Overlay{client("a", "/m/p"), client("p")},
			busy: "/m/p", held: []string{"/m/a", "/m/p"},
		},
		{
			name: "an upperdir that stays in use is not handed on", was: []plan.Overlay{client("a"), client("b")},
			want: []plan.Overlay{a2, b2}, busy: "/m/a", held: []string{"/m/a", "/m/b"},
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			w := settled(t, tc.was...)
			p := plan.Diff(desired(tc.want...), w.observe(), nil)
			held := map[int]string{}
			for i, c := range p.Changes {
				if c.Mountpoint == tc.busy {
					held[i] = "busy"
				}
			}
			var got []string
			for i := range p.Hold(held) {
				got = append(got, p.Changes[i].Mountpoint)
			}
			slices.Sort(got)
			if diff := cmp.Diff(tc.held, got); diff != "" {
				t.Errorf("held (-want +got):\n%s", diff)
			}
		})
	}
}

// TestScope: a run deletes only what came from the files it loaded.
func TestScope(t *testing.T) {
	w := newWorld(t)
	w.dir("/base", "/tools")
	d := desired(client("a"), from(client("b"), "/srv/b/x.hcl"), from(client("c"), "/s/other.hcl"))
	d.Scope.Files = append(d.Scope.Files, "/srv/b/x.hcl", "/s/other.hcl")
	w.bring(d)
	for _, tc := range []struct {
		scope plan.Scope
		want  string
	}{
		{plan.Scope{Files: []string{"/s/a.hcl"}}, "[overlay.a]"},
		{plan.Scope{Dirs: []string{"/s"}}, "[overlay.a overlay.c]"},
		{plan.Scope{Files: []string{"/srv/b/x.hcl"}}, "[overlay.b]"},
		{plan.Scope{Dirs: []string{"/"}}, "[]"},
	} {
		p := plan.Diff(plan.Desired{Scope: tc.scope}, w.observe(), nil)
		got := []string{}
		for _, c := range p.Changes {
			got = append(got, c.Address)
		}
		slices.Sort(got)
		if fmt.Sprint(got) != tc.want {
			t.Errorf("scope %v deletes %v, want %s", tc.scope, got, tc.want)
		}
	}
}

// TestSharedUpperByAnotherName: two desired overlays never get one upperdir between them, whatever name it has.
func TestSharedUpperByAnotherName(t *testing.T) {
	w := settled(t)
	w.dir("/u/a/upper", "/u/a/work")
	w.mount("/m/other", "byhand", overlayfs.Config{
		Lower: []string{"/base"}, Upper: "/bind/upper", Work: "/bind/work", Options: overlayfs.Options{},
	})
	w.uses = []overlayfs.Use{{
		Mountpoint: "/m/other", Dev: "0:40", Upper: w.paths["/u/a/upper"].ID, Work: w.paths["/u/a/work"].ID,
	}}
	p := plan.Diff(desired(client("a")), w.observe(), nil)
	if c := p.Changes[0]; c.Kind != plan.Conflict || !strings.Contains(c.Reasons[0], "/m/other") {
		t.Errorf("want a conflict that names /m/other, got %s", show(p))
	}
}

// TestAliases: two upperdirs that are one directory under two names, also one that does not exist yet.
func TestAliases(t *testing.T) {
	w := settled(t)
	base := overlayfs.FileID{Dev: 1, Ino: 7}
	for _, p := range []string{"/u/a", "/u/b"} {
		for _, dir := range []string{p + "/upper", p + "/work"} {
			w.paths[dir] = overlayfs.PathInfo{Path: dir, Real: dir, Base: p, BaseID: base, MountID: 1, FSType: "ext4"}
		}
	}
	p := plan.Diff(desired(client("a"), client("b")), w.observe(), nil)
	if n := p.Count(plan.Conflict); n != 2 || !strings.Contains(p.Changes[0].Reasons[0], "same directory") {
		t.Errorf("want two conflicts, got %s", show(p))
	}
}

// TestNestedMountpoints: overlays may lie in each other's trees as deep as one likes; only layers count as a stack.
func TestNestedMountpoints(t *testing.T) {
	at := func(p string) plan.Overlay {
		o := client(strings.ReplaceAll(p[1:], "/", "-"))
		o.Mountpoint = p
		return o
	}
	w := settled(t)
	p := plan.Diff(desired(at("/m/a"), at("/m/a/b"), at("/m/a/b/c")), w.observe(), nil)
	if diff := cmp.Diff([]string{"", "--", "mount /m/a, mount /m/a/b, mount /m/a/b/c"}, script(p)); diff != "" {
		t.Errorf("steps (-want +got):\n%s%s", diff, show(p))
	}
}

// TestLayerBehindLink: a layer that reaches another overlay through a symlink stands on it.
func TestLayerBehindLink(t *testing.T) {
	w := settled(t)
	w.paths["/link"] = overlayfs.PathInfo{Path: "/link", Symlink: "/link", Real: "/m/p"}
	p := plan.Diff(desired(client("a", "/link"), client("p")), w.observe(), nil)
	if diff := cmp.Diff([]string{"", "--", "mount /m/p, mount /m/a"}, script(p)); diff != "" {
		t.Errorf("steps (-want +got):\n%s%s", diff, show(p))
	}
}

// TestForeignNamespace: an upperdir that lives on in another mount namespace is in use.
func TestForeignNamespace(t *testing.T) {
	w := settled(t)
	w.dir("/u/a/upper", "/u/a/work")
	w.uses = []overlayfs.Use{{
		Mountpoint: "/m/a", PID: 4711, Dev: "0:77", Upper: w.paths["/u/a/upper"].ID, Work: w.paths["/u/a/work"].ID,
	}}
	p := plan.Diff(desired(client("a")), w.observe(), nil)
	if c := p.Changes[0]; c.Kind != plan.Conflict || !strings.Contains(c.Reasons[0], "4711") {
		t.Errorf("want a conflict that names the process, got %s", show(p))
	}
}

// Two old places of one change go one after the other: the second stays when the first is busy.
func TestWavesOfOneChange(t *testing.T) {
	step := func(change int, at string) plan.Step {
		return plan.Step{Change: change, Live: plan.Live{Mountpoint: at}}
	}
	a, b, c, d := step(0, "/m/a"), step(0, "/m/b"), step(1, "/m/c"), step(2, "/m/c")
	got := plan.Schedule{Down: []plan.Step{a, b, c, d}}.Waves()
	if diff := cmp.Diff([][]plan.Step{{a}, {b, c}, {d}}, got); diff != "" {
		t.Errorf("waves (-want +got):\n%s", diff)
	}
}
