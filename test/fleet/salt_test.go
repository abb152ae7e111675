//go:build e2e

package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/overlayd/overlayd/test/machine"
)

// TestSalt applies the states of the example. Debian has no Salt any more, so a stand-in runs them that does what
// salt-call does with them, and SALT_DEBS may name packages of the real one, for it to run them as well.
func TestSalt(t *testing.T) {
	for _, h := range fleet(t, machine.Bookworm, machine.Trixie) {
		if err := errors.Join(
			h.Install("testdata/salt-call.py", "/root/salt-call.py", 0o755),
			h.Install(suite.deb, "/var/cache/overlayd.deb", 0o644),
		); err != nil {
			t.Fatal(err)
		}
		t.Run(h.name, func(t *testing.T) { h.salt(t, "/root/salt-call.py") })
		t.Run(h.name+" salt-call", func(t *testing.T) {
			if err := h.Command(bounded(t), "which", "salt-call").Run(); err != nil {
				t.Skip("no real Salt: set SALT_DEBS to its packages, salt-common and salt-minion, separated by colons")
			}
			h.sh(t, "apt-get purge --quiet --yes overlayd && rm -rf /etc/overlayd /srv/lab")
			h.sh(t, "salt-call --local saltutil.sync_all")
			h.salt(t, "salt-call", "--local", "--retcode-passthrough", "--out=json", "state.apply", "overlayd")
		})
	}
}

// saltState is what a state returns.
type saltState struct {
	Result  *bool          `json:"result"` // nil: with test=True, there is something to do
	Changes map[string]any `json:"changes"`
	Comment string         `json:"comment"`
}

func (s saltState) String() string {
	result := "None"
	if s.Result != nil {
		result = fmt.Sprint(*s.Result)
	}
	return fmt.Sprintf("result %s, changes %v: %s", result, s.Changes, s.Comment)
}

func (h *host) salt(t *testing.T, tool ...string) {
	run := func(code int, args ...string) (spec, applied saltState, changes int) {
		t.Helper()
		out, errs := h.exit(t, code, append(tool, args...)...)
		var report struct {
			Local map[string]saltState `json:"local"`
		}
		if err := json.Unmarshal([]byte(out), &report); err != nil {
			t.Fatalf("%v\n%s%s", err, out, errs)
		}
		for _, state := range report.Local {
			changes += len(state.Changes)
		}
		return report.Local["overlayd_|-overlayd-spec_|-/etc/overlayd_|-valid"],
			report.Local["overlayd_|-overlayd-applied_|-/etc/overlayd_|-applied"], changes
	}
	// wants asks for a result, "True", "False" or "None", and what changed, as address and change.
	wants := func(what string, state saltState, result string, changed map[string]any) {
		t.Helper()
		got := map[bool]string{true: "True", false: "False"}
		if is := state.Result == nil && result == "None" || state.Result != nil && got[*state.Result] == result; !is ||
			!maps.Equal(state.Changes, changed) {
			t.Errorf("%s, %s: %v; not %s, %v", h.name, what, state, result, changed)
		}
	}
	pillar := func(yaml string) { h.put(t, "/srv/pillar/overlayd.sls", yaml) }
	spec := func(replace ...string) { h.put(t, "/srv/salt/overlayd/files/lab.hcl", lab(t, replace...)) }
	const settings = `{"overlayd": {"deb": "/var/cache/overlayd.deb", ` +
		`"specs": {"lab.hcl": "salt://overlayd/files/lab.hcl"}, "values": `

	if err := errors.Join(
		h.InstallTree("../../examples/salt/states", "/srv/salt"),
		h.InstallTree("../../examples/salt/pillar", "/srv/pillar"),
	); err != nil {
		t.Fatal(err)
	}
	h.sh(t, "mkdir -p /srv/lab/base")

	_, applied, _ := run(0, "test=True")
	wants("a test without the package", applied, "None", map[string]any{})
	h.sh(t, "! test -e /etc/overlayd")

	ada, grace, mary := `overlay.client["ada"]`, `overlay.client["grace"]`, `overlay.client["mary"]`
	_, applied, _ = run(0)
	wants("the first run", applied, "True", map[string]any{ada: "create", grace: "create"})
	h.wantMounts(t, clients+"ada", clients+"grace")
	before := h.mounts(t)

	if _, _, changes := run(0); changes != 0 {
		t.Errorf("%s: the second run changes %d things", h.name, changes)
	}
	touched(t, before, h.mounts(t))

	// The file that would be new is in the plan, and is not there.
	pillar(settings + `{"clients": ["ada", "mary"]}}}`)
	old := h.sh(t, "cat /etc/overlayd/salt.auto.vars.hcl")
	_, applied, _ = run(0, "test=True")
	wants("a test", applied, "None", map[string]any{grace: "delete", mary: "create"})
	contains(t, "the plan of a test", applied.Comment, "+ create "+mary, "Plan: 1 to create, 0 to replace, 1 to delete.")
	touched(t, before, h.mounts(t))

	spec("lowerdirs ", "lowerdir ")
	broken, _, _ := run(2)
	wants("a broken spec", broken, "False", map[string]any{})
	contains(t, "a run with a broken spec", broken.Comment, "/etc/overlayd/lab.hcl line 20", `Did you mean "lowerdirs"?`)
	touched(t, before, h.mounts(t))
	if now := h.sh(t, "cat /etc/overlayd/salt.auto.vars.hcl"); now != old {
		t.Errorf("%s: a test or a broken spec has let the values be written:\n%s", h.name, now)
	}

	spec(renamed...)
	name, err := json.Marshal(awkward)
	if err != nil {
		t.Fatal(err)
	}
	pillar(settings + `{"holder": "root", "clients": ["ada", ` + string(name) + `]}}}`)
	if _, applied, _ = run(0); applied.Changes[grace] != "delete" || len(applied.Changes) != 2 {
		t.Errorf("%s, a run with another client: %v", h.name, applied)
	}
	touched(t, before, h.mounts(t), clients+"grace", clients+awkwardDir)
	before = h.mounts(t)

	h.sh(t, "mkdir /srv/lab/clients/bob && mount -t tmpfs none /srv/lab/clients/bob")
	pillar(settings + `{"holder": "root", "clients": ["ada", "bob"]}}}`)
	_, applied, _ = run(2)
	if applied.Result == nil || *applied.Result || len(applied.Changes) != 1 {
		t.Errorf("%s, a run with a conflict: %v", h.name, applied)
	}
	contains(t, "a run with a conflict", applied.Comment, `overlay.client["bob"]: conflict: none (tmpfs) is mounted at`)
	touched(t, before, h.mounts(t), clients+awkwardDir)
	h.sh(t, "umount /srv/lab/clients/bob")

	pillar(strings.Replace(settings, `"deb"`, `"allow_empty": true, "agent": true, "deb"`, 1) +
		`{"holder": "root", "clients": []}}}`)
	_, applied, _ = run(0)
	wants("a run without clients", applied, "True", map[string]any{ada: "delete"})
	h.wantMounts(t)
	h.sh(t, "systemctl is-enabled overlayd && systemctl is-active overlayd")
}
