//go:build e2e

package fleet

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/overlayd/overlayd/test/machine"
)

// clients sets the value that a host's spec gets.
func (c *control) clients(h *host, names ...string) {
	c.vars[h]["overlayd_values"] = map[string]any{"clients": names}
}

// spec replaces files/site.hcl of the example.
func (c *control) spec(t *testing.T, edit func(string) string) {
	t.Helper()
	file := filepath.Join(c.dir, "files", "site.hcl")
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := edit(string(old))
	if text == string(old) {
		t.Fatalf("%s does not change", file)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// state is what a run that changes nothing must leave: the overlays, the units, the spec, and no file of its own.
func (h *host) state(t *testing.T) string {
	t.Helper()
	files := h.sh(t, `ls -l --time-style=full-iso /etc/overlayd /etc/systemd/system /etc/default /srv 2>&1 || true
		cat /etc/overlayd/*.hcl 2>&1 || true
		ls -A /tmp /var/tmp /root/.ansible/tmp 2>&1 | grep -v systemd-private || true
		dpkg-query --show | cksum`)
	mounts := h.mounts(t)
	for _, m := range slices.Sorted(maps.Keys(mounts)) {
		files += m + " " + mounts[m] + "\n"
	}
	return files
}

// wantSame asks that hosts are as they were before something was done.
func wantSame(t *testing.T, hosts []*host, do func()) {
	t.Helper()
	before := map[*host]string{}
	for _, h := range hosts {
		before[h] = h.state(t)
	}
	do()
	for _, h := range hosts {
		if after := h.state(t); after != before[h] {
			t.Errorf("%s changed, from\n%s\nto\n%s", h.name, before[h], after)
		}
	}
}

// One run over three hosts, from nothing, and what happens to them later.
func TestAnsible(t *testing.T) {
	hosts := fleet(t, machine.Bookworm, machine.Trixie, machine.Trixie)
	old, agent, repo := hosts[0], hosts[1], hosts[2]
	c := newControl(t, hosts...)
	c.clients(old, "ada", "grace")
	c.clients(agent, "linus")
	c.clients(repo, "ada", "ken", "rob")
	c.vars[agent]["overlayd_agent"] = true
	c.vars[agent]["overlayd_agent_options"] = "--policy=safe"
	c.vars[repo]["overlayd_deb"] = ""
	c.vars[repo]["overlayd_apt_source"] = repository(t, repo)

	machine.Say("nothing is there yet: check mode")
	wantSame(t, hosts, func() {
		p := c.run(t, "site.yml", "--check", "--diff").fine(t)
		p.wantChanged(t, hosts...)
		p.says(t, "overlayd is not installed, so there is no plan to show: would install overlayd_",
			`+ "grace"`, `+lowerdir "base" {`)
	})
	machine.Say("the first run")
	c.run(t, "site.yml").fine(t).wantChanged(t, hosts...)
	old.wantMounts(t, "/srv/clients/ada", "/srv/clients/grace")
	agent.wantMounts(t, "/srv/clients/linus")
	agent.sh(t, "systemctl is-active overlayd; systemctl is-enabled overlayd; pgrep -f -- --policy=safe")
	repo.wantMounts(t, "/srv/clients/ada", "/srv/clients/ken", "/srv/clients/rob")

	machine.Say("the second run, on one host without D-Bus")
	old.sh(t, "mv /run/dbus/system_bus_socket /run/dbus/away; mv /run/systemd/private /run/systemd/away; ! systemctl")
	wantSame(t, hosts, func() { c.run(t, "site.yml").fine(t).wantChanged(t) })
	old.sh(t, "mv /run/dbus/away /run/dbus/system_bus_socket; mv /run/systemd/away /run/systemd/private; systemctl")

	machine.Say("one client more on one host")
	c.clients(old, "ada", "grace", "edsger")
	wantSame(t, hosts, func() {
		p := c.run(t, "site.yml", "--check", "--diff").fine(t)
		p.wantChanged(t, old)
		p.says(t, `+ "edsger"`, `+ create overlay.client["edsger"]`, "Plan: 1 to create, 0 to replace, 0 to delete.")
	})
	machine.Say("and, on another, values that no spec can have")
	c.clients(repo, "ada", "ken", "../rob")
	before := old.mounts(t)
	wantSame(t, []*host{agent, repo}, func() {
		p := c.run(t, "site.yml")
		p.wantFailed(t, repo)
		p.wantChanged(t, old)
		p.says(t, "/etc/overlayd stays as it was, as the new spec is not valid", "on /etc/overlayd/site.hcl line 17",
			`The path "/srv/clients/../rob" contains ..; it leads to "/srv/rob".`)
	})
	touched(t, before, old.mounts(t), "/srv/clients/edsger")
	c.clients(repo, "ada", "ken", "rob")

	machine.Say("another layer for all, while somebody works in an overlay of one host")
	for _, h := range hosts {
		h.sh(t, "mkdir /srv/tools")
	}
	c.spec(t, func(spec string) string {
		return strings.Replace(spec, "[lowerdir.base]", `["/srv/tools", lowerdir.base]`, 1)
	})
	repo.sh(t, "cd /srv/clients/ken; sleep infinity >/dev/null 2>&1 & echo $! >/run/worker")
	before = repo.mounts(t)
	p := c.run(t, "site.yml")
	p.wantFailed(t, repo)
	p.says(t, `replace overlay.client["ken"]: `, "(sleep infinity)")
	if strings.Contains(p.out, "format_version") {
		t.Errorf("a failure shows JSON:\n%s", p.out)
	}
	touched(t, before, repo.mounts(t), "/srv/clients/ada", "/srv/clients/rob")
	p.wantChanged(t, old, agent)

	machine.Say("the work is done, and one host has rebooted")
	before = repo.mounts(t)
	repo.sh(t, "kill $(cat /run/worker)")
	c.reboot(t, old)
	wantSame(t, []*host{old, agent}, func() { c.run(t, "site.yml").fine(t).wantChanged(t, repo) })
	touched(t, before, repo.mounts(t), "/srv/clients/ken")
	old.wantMounts(t, "/srv/clients/ada", "/srv/clients/edsger", "/srv/clients/grace")
}
