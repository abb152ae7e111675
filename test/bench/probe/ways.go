package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

var daemonReload = []string{"systemctl", "daemon-reload"}

// byFstab mounts from fstab. The lines and the directories are there before: mount(8) makes none.
func (f site) byFstab(do string) (work, error) {
	all, err := f.files()
	if err != nil {
		return work{}, err
	}
	lines := func(clients ...client) []string {
		out := make([]string, len(clients))
		for i, c := range clients {
			out[i] = c.fstab()
		}
		return out
	}
	write := func(lines []string, clients ...client) func(context.Context) error {
		return func(context.Context) error { return errors.Join(directories(clients), editFstab(lines)) }
	}
	everything, at := lines(all.Clients...), all.One.Mountpoint
	switch do {
	case Apply:
		return work{
			before: write(everything, all.Clients...), commands: [][]string{daemonReload, {"mount", "-a"}}, up: true,
		}, nil
	case Again:
		return work{commands: [][]string{{"mount", "-a"}}}, nil
	case Add:
		return work{
			before:   write(append(everything, lines(all.One)...), all.One),
			commands: [][]string{daemonReload, {"mount", at}}, watch: inLower,
		}, nil
	case Change:
		return work{
			before:   write(append(everything, lines(all.One.changed())...)),
			commands: [][]string{daemonReload, {"umount", at}, {"mount", at}}, watch: inExtra,
		}, nil
	case Remove:
		return work{before: write(everything), commands: [][]string{{"umount", at}, daemonReload}}, nil
	case Destroy:
		// Not "umount -a", which would try all that is mounted.
		argv := []string{"umount"}
		for _, c := range all.Clients {
			argv = append(argv, c.Mountpoint)
		}
		return work{commands: [][]string{argv}, down: true}, nil
	}
	return work{}, nil
}

// bySystemctl starts and stops the units that overlayd writes. They and the directories are there before.
func (f site) bySystemctl(do string) (work, error) {
	all, err := f.files()
	if err != nil {
		return work{}, err
	}
	systemctl := func(verb string) []string {
		argv := []string{"systemctl", verb, "--"}
		for _, c := range all.Clients {
			argv = append(argv, c.Unit)
		}
		return argv
	}
	write := func(do func() error, clients ...client) func(context.Context) error {
		return func(context.Context) error { return errors.Join(directories(clients), do()) }
	}
	switch do {
	case Apply:
		return work{
			before:   write(all.write, all.Clients...),
			commands: [][]string{daemonReload, systemctl("start")}, up: true,
		}, nil
	case Again:
		return work{commands: [][]string{systemctl("start")}}, nil
	case Add:
		return work{
			before:   write(all.One.write, all.One),
			commands: [][]string{daemonReload, {"systemctl", "start", all.One.Unit}}, watch: inLower,
		}, nil
	case Change:
		return work{
			before:   write(all.One.changed().rewrite),
			commands: [][]string{daemonReload, {"systemctl", "restart", all.One.Unit}}, watch: inExtra,
		}, nil
	case Remove:
		return work{
			call: func(ctx context.Context) error {
				return errors.Join(run(ctx, "systemctl", "stop", all.One.Unit), all.One.remove(), run(ctx, daemonReload...))
			},
		}, nil
	case Destroy:
		return work{commands: [][]string{systemctl("stop")}, down: true}, nil
	}
	return work{}, nil
}

// byAnsible has Ansible's mount module do it, which needs directories, too.
func (f site) byAnsible(do string) (work, error) {
	const play = Base + "/play.yml"
	all, err := f.files()
	if err != nil {
		return work{}, err
	}
	write := func(state string, clients []client) func(context.Context) error {
		return func(context.Context) error {
			text := playbook(state, all.Clients)
			return errors.Join(directories(clients), os.WriteFile(play, []byte(text), 0o644))
		}
	}
	commands := [][]string{{"ansible-playbook", "--inventory", "localhost,", "--connection", "local", play}}
	switch do {
	case Apply:
		return work{before: write("mounted", all.Clients), commands: commands, up: true}, nil
	case Again:
		return work{commands: commands}, nil
	case Destroy:
		return work{before: write("absent", nil), commands: commands, down: true}, nil
	}
	return work{}, nil
}

func playbook(state string, clients []client) string {
	var b strings.Builder
	fmt.Fprintf(&b, `- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.posix.mount:
        src: overlayd
        path: "{{ item.path }}"
        fstype: overlay
        opts: "{{ item.opts }}"
        state: %s
      loop:
`, state)
	for _, c := range clients {
		fmt.Fprintf(&b, "        - { path: %q, opts: %q }\n", c.Mountpoint, c.Options+",nofail")
	}
	return b.String()
}

func directories(clients []client) error {
	for _, c := range clients {
		for _, dir := range c.directories() {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
	}
	return nil
}

// write writes all units of clients, so that they are mounted at boot, too, as overlayd's are.
func (all files) write() error {
	wants := filepath.Join(unitDir, "multi-user.target.wants")
	if err := errors.Join(os.MkdirAll(wants, 0o755), os.MkdirAll(filepath.Join(unitDir, target+".wants"), 0o755),
		os.WriteFile(filepath.Join(unitDir, target), []byte(all.Target), 0o644),
		os.Symlink("../"+target, filepath.Join(wants, target))); err != nil {
		return err
	}
	for _, c := range all.Clients {
		if err := c.write(); err != nil {
			return err
		}
	}
	return nil
}

func (all files) remove() error {
	for _, c := range all.Clients {
		if err := c.remove(); err != nil {
			return err
		}
	}
	return errors.Join(os.Remove(filepath.Join(unitDir, target+".wants")), os.Remove(filepath.Join(unitDir, target)),
		os.Remove(filepath.Join(unitDir, "multi-user.target.wants", target)))
}

// fstab is the line that mounts it.
func (c client) fstab() string {
	return fmt.Sprintf("overlayd %s overlay %s,nofail 0 0", c.Mountpoint, c.Options)
}

func (c client) write() error {
	if err := os.WriteFile(c.file(), []byte(c.Text), 0o644); err != nil {
		return err
	}
	return os.Symlink("../"+c.Unit, c.link())
}

func (c client) rewrite() error { return os.WriteFile(c.file(), []byte(c.Text), 0o644) }

func (c client) remove() error { return errors.Join(os.Remove(c.file()), os.Remove(c.link())) }
