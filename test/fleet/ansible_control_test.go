//go:build e2e

package fleet

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// control is the node that Ansible runs on: a copy of examples/ansible on this computer, with an inventory of its own.
type control struct {
	dir   string
	home  string // of Ansible and of ssh
	hosts []*host
	vars  map[*host]map[string]any // of each host
}

// newControl copies the example and lets root in on the hosts, by a key.
func newControl(t *testing.T, hosts ...*host) *control {
	t.Helper()
	c := &control{dir: t.TempDir(), home: t.TempDir(), hosts: hosts, vars: map[*host]map[string]any{}}
	if err := os.CopyFS(c.dir, os.DirFS("../../examples/ansible")); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(c.home, "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("cannot make a key: %v\n%s", err, out)
	}
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hosts {
		h.put(t, "/root/.ssh/authorized_keys", string(public))
		c.vars[h] = map[string]any{"overlayd_deb": suite.deb}
	}
	return c
}

// inventory has ssh talk to a sshd of the host's own, which nsenter starts for it: the hosts have no network. ssh ends
// what it talked through by SIGHUP. nsenter must not die of that: whoever inherited the sshd might not reap it, and a
// host cannot go down as long as one of its processes is left.
func (c *control) inventory(t *testing.T) string {
	t.Helper()
	hosts := map[string]any{}
	for _, h := range c.hosts {
		sshd := strings.Join(h.Command(suite.ctx, "/usr/sbin/sshd", "-i").Args, " ")
		vars := map[string]any{
			"ansible_ssh_private_key_file": filepath.Join(c.home, "key"),
			"ansible_ssh_common_args": fmt.Sprintf("-o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no "+
				"-o LogLevel=ERROR -o ProxyCommand='nohup %s'", sshd),
		}
		maps.Copy(vars, c.vars[h])
		hosts[h.name] = vars
	}
	text, err := json.Marshal(map[string]any{"overlay_hosts": map[string]any{"hosts": hosts}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(c.dir, "inventory.yml") // JSON is YAML
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// socket is that of the ssh which holds the connection to a host for the next task.
func (c *control) socket(host string) string { return filepath.Join(c.home, host+".ssh") }

// reboot reboots a host. The connection has to be gone: systemd stops all processes (SIGSTOP) before it kills them,
// nsenter then stops as its child does, nobody has it go on, and so nobody would reap the child.
func (c *control) reboot(t *testing.T, h *host) {
	t.Helper()
	cmd := exec.CommandContext(bounded(t), "ssh", "-o", "ControlPath="+c.socket(h.name), "-O", "exit", h.name)
	if out, err := cmd.CombinedOutput(); err != nil && !strings.Contains(string(out), "No such file") {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	h.sh(t, "while pgrep -f '[s]shd.*root@notty'; do sleep 0.05; done >&2")
	if _, err := h.Reboot(bounded(t)); err != nil {
		t.Fatal(err)
	}
}

// play is what came of a run of ansible-playbook.
type play struct {
	out   string
	recap map[string]recap
}

// recap is a host's line at the end of a run.
type recap struct{ changed, failed int }

var recapLine = regexp.MustCompile(
	`(?m)^(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=0\s+failed=(\d+)\s+skipped=\d+\s+rescued=0\s+ignored=0`)

func readRecap(out string) map[string]recap {
	hosts := map[string]recap{}
	for _, m := range recapLine.FindAllStringSubmatch(out, -1) {
		changed, _ := strconv.Atoi(m[2])
		failed, _ := strconv.Atoi(m[3])
		hosts[m[1]] = recap{changed, failed}
	}
	return hosts
}

// run runs a playbook, as somebody would who has changed to the folder of the example.
func (c *control) run(t *testing.T, args ...string) play {
	t.Helper()
	c.inventory(t)
	cmd := exec.CommandContext(bounded(t), "ansible-playbook", args...)
	cmd.Dir = c.dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + c.home, "ANSIBLE_HOME=" + c.home, "LC_ALL=C.UTF-8",
		"ANSIBLE_SSH_ARGS=-o ControlMaster=auto -o ControlPersist=10s", "ANSIBLE_SSH_CONTROL_PATH=" + c.socket("%%h"),
	}
	out, err := cmd.CombinedOutput()
	p := play{string(out), readRecap(string(out))}
	if len(p.recap) == 0 {
		t.Fatalf("ansible-playbook %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	failed := false
	for _, r := range p.recap {
		failed = failed || r.failed > 0
	}
	if (err != nil) != failed {
		t.Fatalf("ansible-playbook %s: %v, but the recap is %v\n%s", strings.Join(args, " "), err, p.recap, out)
	}
	return p
}

// wantFailed asks that exactly these hosts failed.
func (p play) wantFailed(t *testing.T, hosts ...*host) {
	t.Helper()
	p.want(t, "failed", hosts, func(r recap) int { return r.failed })
}

// wantChanged asks that exactly these hosts were changed. A host that failed counts for neither.
func (p play) wantChanged(t *testing.T, hosts ...*host) {
	t.Helper()
	p.want(t, "changed", hosts, func(r recap) int {
		if r.failed > 0 {
			return 0
		}
		return r.changed
	})
}

func (p play) want(t *testing.T, what string, hosts []*host, count func(recap) int) {
	t.Helper()
	var want, got []string
	for _, h := range hosts {
		want = append(want, h.name)
	}
	for name, r := range p.recap {
		if count(r) > 0 {
			got = append(got, name)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Fatalf("%s: %v, not %v\n%s", what, got, want, p.out)
	}
}

// fine asks that nobody failed.
func (p play) fine(t *testing.T) play {
	t.Helper()
	p.wantFailed(t)
	return p
}

// says asks for words in the output, whatever the indentation.
func (p play) says(t *testing.T, words ...string) {
	t.Helper()
	flat := strings.Join(strings.Fields(p.out), " ")
	for _, w := range words {
		if !strings.Contains(flat, strings.Join(strings.Fields(w), " ")) {
			t.Fatalf("the output lacks %q\n%s", w, p.out)
		}
	}
}
