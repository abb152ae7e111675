package doctor

import (
	"strings"
)

func (r *report) host(f Facts) {
	const subject = "privileges"
	switch p := f.Privileges; {
	case p.Root && p.Mounts:
		r.add(AreaHost, OK, subject, "root, who may mount", "")
	case p.Root:
		r.add(AreaHost, Error, subject, "root without CAP_SYS_ADMIN: nothing can be mounted from here",
			"run overlayd on the host itself, or give the container the right to mount")
	default:
		r.add(AreaHost, Warning, subject, "not root: what takes a trial is not known, and nothing can be applied",
			"run overlayd doctor as root")
	}
	if f.Privileges.OwnNamespace {
		r.add(AreaHost, Warning, "mount namespace", "this process does not live in that of process 1: neither systemd "+
			"nor anybody else sees what is mounted from here",
			"run overlayd outside of containers and services with private mounts (nsenter --target 1 --mount)")
	}
	if f.TableErr != "" {
		r.add(AreaHost, Error, "mount table", f.TableErr, "mount /proc")
	}
	switch s := f.Security; {
	case s.SELinux != "":
		r.add(AreaHost, Warning, "security", "SELinux is "+s.SELinux+", where overlayd was not tested: the layers' labels "+
			"and a policy decide what clients may do", "look for denials in the audit log when a client is refused something")
	case s.Modules != nil:
		r.add(AreaHost, OK, "security", strings.Join(s.Modules, ", "), "")
	}
}
