//go:build e2e

package fleet

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/overlayd/overlayd/test/machine"
)

// played runs a playbook on the host itself, with the ansible-core that it has.
func (h *host) played(t *testing.T, vars map[string]any, args ...string) play {
	t.Helper()
	extra, err := json.Marshal(vars)
	if err != nil {
		t.Fatal(err)
	}
	argv := append([]string{
		"env", "--chdir=/root/ansible", "LC_ALL=C.UTF-8", "ansible-playbook", "--extra-vars", string(extra),
	}, args...)
	out, err := h.Command(bounded(t), argv...).CombinedOutput()
	p := play{string(out), readRecap(string(out))}
	if len(p.recap) != 1 || (err != nil) != (p.recap[h.name].failed > 0) {
		t.Fatalf("ansible-playbook %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return p
}

// A newer Ansible, on the host itself: files that come and go, what is refused, and the playbook without the role.
func TestAnsibleLocal(t *testing.T) {
	h := fleet(t, machine.Trixie)[0]
	if err := h.InstallTree("../../examples/ansible", "/root/ansible"); err != nil {
		t.Fatal(err)
	}
	if err := h.Install(suite.deb, "/root/package.deb", 0o644); err != nil {
		t.Fatal(err)
	}
	h.put(t, "/root/ansible/inventory.yml", "overlay_hosts: {hosts: {h1: {ansible_connection: local}}}\n")
	h.put(t, "/etc/overlayd/own.hcl", "locals { mine = true }\n")

	const variables = `
variable "name" { type = string }
variable "note" { type = string }
`
	const overlay = `
overlay "one" {
  lowerdirs  = ["/srv/base"]
  mountpoint = "/srv/one/${var.name}"
  unit {
    description = var.note
  }
}`
	const note = `${x} %{y} $${z} \n "q"` // no template, no escape
	one, two := variables+overlay, strings.ReplaceAll(overlay, "one", "two")
	vars := map[string]any{
		"overlayd_deb":    "/root/package.deb",
		"overlayd_spec":   map[string]string{"one.hcl": one, "two.hcl": two},
		"overlayd_values": map[string]string{"name": "a \"b\" é", "note": note},
	}
	machine.Say("two files")
	h.played(t, vars, "site.yml").fine(t).wantChanged(t, h)
	h.wantMounts(t, `/srv/one/a\040"b"\040é`, `/srv/two/a\040"b"\040é`)
	if got := h.sh(t, "systemctl show --value --property Description 'srv-one-*.mount'"); strings.TrimSpace(got) != note {
		t.Errorf("a value arrived as %s, not %s", got, note)
	}

	machine.Say("a file that is no longer asked for")
	vars["overlayd_spec"] = map[string]string{"one.hcl": one}
	wantSame(t, []*host{h}, func() {
		p := h.played(t, vars, "site.yml").fine(t)
		p.wantChanged(t)
		p.says(t, "/etc/overlayd/two.hcl was laid down by an earlier run")
	})
	vars["overlayd_spec_purge"] = true
	wantSame(t, []*host{h}, func() {
		p := h.played(t, vars, "site.yml", "--check", "--diff").fine(t)
		p.wantChanged(t, h)
		p.says(t, "- delete overlay.two")
	})
	h.played(t, vars, "site.yml").fine(t).wantChanged(t, h)
	h.wantMounts(t, `/srv/one/a\040"b"\040é`)
	if files := h.sh(t, "ls /etc/overlayd"); !strings.Contains(files, "own.hcl") || strings.Contains(files, "two.hcl") {
		t.Errorf("left after purging: %s", files)
	}

	machine.Say("nothing at all")
	vars["overlayd_spec"], vars["overlayd_values"] = map[string]string{}, map[string]string{}
	wantSame(t, []*host{h}, func() {
		p := h.played(t, vars, "site.yml")
		p.wantFailed(t, h)
		p.says(t, "the new spec has no overlay, so 1 would be deleted; if that is meant, say allow_empty")
	})
	vars["overlayd_allow_empty"] = true
	h.played(t, vars, "site.yml").fine(t).wantChanged(t, h)
	h.wantMounts(t)

	machine.Say("what is in the way")
	words := "conflict: overlay.one: lowerdir /srv/none does not exist: create it, or correct the path"
	vars["overlayd_spec"] = map[string]string{
		"one.hcl": "overlay \"one\" {\n  lowerdirs = [\"/srv/none\"]\n  mountpoint = \"/srv/one/a\"\n}",
	}
	wantSame(t, []*host{h}, func() {
		p := h.played(t, vars, "site.yml", "--check").fine(t)
		p.says(t, words)
	})
	p := h.played(t, vars, "site.yml")
	p.wantFailed(t, h)
	p.says(t, words)
	h.sh(t, "rm /etc/overlayd/*.hcl")

	machine.Say("without the role")
	vars = map[string]any{"overlayd_values": map[string]any{"clients": []string{"ada", "grace"}}}
	h.played(t, vars, "plain.yml").fine(t).wantChanged(t, h)
	h.wantMounts(t, "/srv/clients/ada", "/srv/clients/grace")
	wantSame(t, []*host{h}, func() { h.played(t, vars, "plain.yml").fine(t).wantChanged(t) })
	vars = map[string]any{"overlayd_values": map[string]any{"clients": []string{"ada", "../grace"}}}
	wantSame(t, []*host{h}, func() {
		p := h.played(t, vars, "plain.yml")
		p.wantFailed(t, h)
		p.says(t, `The path "/srv/clients/../grace" contains ..`)
	})
}
