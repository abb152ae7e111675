//go:build e2e

package fleet

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/overlayd/overlayd/test/machine"
)

const (
	labSpec = "../../examples/puppet/modules/site/files/lab.hcl"
	clients = "/srv/lab/clients/"
	// awkward is a client's name that each layer between a value and a mountpoint has to carry through.
	awkward = `o'neil "50%" ${y} %{z} \z é`
	// awkwardDir is the same in the mount table, where the mountpoint has S for $, which systemd would not let pass.
	awkwardDir = `o'neil\040"50%"\040S{y}\040%{z}\040\134z\040é`
)

// lab is the spec of the examples, with pairs of old and new text replaced.
func lab(t *testing.T, replace ...string) string {
	t.Helper()
	text, err := os.ReadFile(labSpec)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(string(text), replace[i]) {
			t.Fatalf("%s has no %q", labSpec, replace[i])
		}
	}
	return strings.NewReplacer(replace...).Replace(string(text))
}

// renamed is the change that no order of two files can carry out: a variable that has no default goes by another name.
var renamed = []string{
	`variable "owner"`, `variable "holder"`, "var.owner", "var.holder", "\n  default     = \"root\"", "",
	"${each.key}", `${replace(each.key, "$", "S")}`,
}

// contains asks for each of the texts.
func contains(t *testing.T, what, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%s has no %q:\n%s", what, w, text)
		}
	}
}

// exit runs a command on the host, asks for its exit code and returns what it prints.
func (h *host) exit(t *testing.T, code int, argv ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	cmd := h.Command(bounded(t), argv...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if failed := (*exec.ExitError)(nil); err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("%s: %s: exit %d, not %d\n%s%s", h.name, strings.Join(argv, " "), got, code, &out, &errs)
	}
	return out.String(), errs.String()
}

// TestPuppet applies the catalog of the example: Puppet 7 on the one host, Puppet 8 on the other.
func TestPuppet(t *testing.T) {
	for _, h := range fleet(t, machine.Bookworm, machine.Trixie) {
		if err := errors.Join(
			h.InstallTree("../../examples/puppet", "/srv/puppet"),
			h.Install(suite.deb, "/var/cache/overlayd.deb", 0o644),
		); err != nil {
			t.Fatal(err)
		}
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			h.puppet(t)
		})
	}
}

func (h *host) puppet(t *testing.T) {
	const values = "/etc/overlayd/puppet.auto.vars.hcl"
	run := func(code int, args ...string) string {
		t.Helper()
		out, errs := h.exit(t, code, append([]string{
			"puppet", "apply", "--detailed-exitcodes", "--color", "false", "--hiera_config", "/srv/puppet/hiera.yaml",
			"--modulepath", "/srv/puppet/modules", "/srv/puppet/manifests/site.pp",
		}, args...)...)
		return out + errs
	}
	hiera := func(yaml string) { h.put(t, "/srv/puppet/data/nodes/"+h.name+".yaml", yaml) }
	spec := func(replace ...string) { h.put(t, "/srv/puppet/modules/site/files/lab.hcl", lab(t, replace...)) }

	contains(t, "a noop run without the package", run(0, "--noop"), "overlayd is not installed yet: there is no plan")
	h.sh(t, "! test -e /srv/lab && ! test -e /etc/overlayd")

	contains(t, "the first run", run(2), `+ create overlay.client["ada"]`, "ensure: Apply: ")
	want := []string{clients + "ada", clients + "grace"}
	if h.name == "h2" { // which has values of its own
		want = append(want, clients+"linus")
	}
	h.wantMounts(t, want...)
	before := h.mounts(t)

	if out := run(0); strings.Contains(out, "Overlayd") {
		t.Errorf("the second run tells of overlayd:\n%s", out)
	}
	touched(t, before, h.mounts(t))

	// The file that would be new is in the plan, and is not there.
	hiera(`{"overlayd::values": {"clients": ["ada", "mary"]}}`)
	old := h.sh(t, "cat "+values)
	contains(t, "a noop run", run(0, "--noop"), `- delete overlay.client["grace"]`, `+ create overlay.client["mary"]`)
	touched(t, before, h.mounts(t))
	if now := h.sh(t, "cat "+values); now != old {
		t.Errorf("a noop run has written %s:\n%s", values, now)
	}

	spec("lowerdirs ", "lowerdir ")
	contains(t, "a run with a broken spec", run(4),
		"The new spec is not valid:", "/etc/overlayd/lab.hcl line 20", `Did you mean "lowerdirs"?`)
	touched(t, before, h.mounts(t))
	if now := h.sh(t, "cat "+values); now != old {
		t.Errorf("a broken spec has let %s be written:\n%s", values, now)
	}

	spec(renamed...)
	name, err := json.Marshal(strings.ReplaceAll(awkward, "%", "%{literal('%')}")) // for Hiera, %{ begins something
	if err != nil {
		t.Fatal(err)
	}
	hiera(`{"overlayd::values": {"holder": "root", "clients": ["ada", ` + string(name) + `]}}`)
	contains(t, "a run with another client", run(2), "1 created")
	gone := []string{clients + "grace", clients + awkwardDir}
	if h.name == "h2" {
		gone = append(gone, clients+"linus")
	}
	touched(t, before, h.mounts(t), gone...)
	before = h.mounts(t)

	h.sh(t, "mkdir /srv/lab/clients/bob && mount -t tmpfs none /srv/lab/clients/bob")
	hiera(`{"overlayd::values": {"holder": "root", "clients": ["ada", "bob"]}}`)
	contains(t, "a run with a conflict", run(6), "Apply: 1 deleted, 1 conflict.", `conflict: overlay.client["bob"]`,
		"unmount it, or choose another mountpoint")
	touched(t, before, h.mounts(t), clients+awkwardDir)
}
