package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
	"github.com/overlayd/overlayd/internal/units/systemd"
)

// patience is how long another program, or systemd, may take to answer.
const patience = 10 * time.Second

// helperName is what mount(8) runs instead of mounting an overlay itself, where there is one (mount(8), "external
// helpers").
const helperName = "sbin/mount.overlay"

// Look finds out the facts. What cannot be found out is a fact as well, so there is no error.
func Look(ctx context.Context, q Question) Facts {
	f := Facts{Question: q}
	f.Fstab, f.FstabErr = lookFstab(filepath.Join("/", q.Root, "etc/fstab"))
	f.Privileges = lookPrivileges()
	if q.Root != "" {
		f.Tree = lookTree(q.Root)
		return f
	}
	f.Kernel = lookKernel()
	f.Mount = lookMount(ctx)
	f.Systemd = lookSystemd(ctx)
	f.Security = lookSecurity()
	f.lookFilesystems()
	f.tryLayers()
	return f
}

func lookPrivileges() Privileges {
	const capSysAdmin = 21
	p := Privileges{Root: os.Geteuid() == 0}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // of 32 capabilities each
	if err := unix.Capget(&header, &data[0]); err == nil {
		p.Mounts = data[0].Effective&(1<<capSysAdmin) != 0
	}
	own, errOwn := os.Readlink("/proc/self/ns/mnt")
	first, errFirst := os.Readlink("/proc/1/ns/mnt") // only root may
	p.OwnNamespace = errOwn == nil && errFirst == nil && own != first
	return p
}

// Unfit says what this host lacks so that no overlay of any spec can be mounted on it: findings of level [Error].
func Unfit() []Finding {
	f := Facts{Kernel: lookFilesystem(), Privileges: lookPrivileges()}
	var r report
	r.release(f.Kernel.Release)
	r.filesystem(f)
	return slices.DeleteFunc(r.sorted(), func(f Finding) bool { return f.Level != Error })
}

// lookFilesystem looks for the filesystem itself: the release, Overlay and the defaults of a kernel.
func lookFilesystem() Kernel {
	var k Kernel
	var name unix.Utsname
	if err := unix.Uname(&name); err == nil {
		k.Release = unix.ByteSliceToString(name.Release[:])
	}
	var err error
	if k.Defaults, err = host.ReadDefaults(); err != nil { // it also loads the module
		k.DefaultsErr = err.Error()
	}
	_, err = os.Stat("/sys/module/overlay/parameters")
	k.DefaultsSeen = err == nil
	filesystems, err := os.ReadFile("/proc/filesystems")
	k.Overlay = err == nil && bytes.Contains(filesystems, []byte("\toverlay\n"))
	return k
}

func lookKernel() Kernel {
	k := lookFilesystem()
	var err error
	if k.Options, err = kernelOptions(k.Release); err != nil {
		k.OptionsErr = err.Error()
	}
	return k
}

// say runs a program and gives what it prints.
func say(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func lookMount(ctx context.Context) Mount {
	var m Mount
	if out, err := say(ctx, "mount", "--version"); !errors.Is(err, exec.ErrNotFound) {
		m = parseMountVersion(out)
	}
	if _, err := os.Stat("/" + helperName); err == nil {
		m.Helper = "/" + helperName
	}
	return m
}

func lookSystemd(ctx context.Context) Systemd {
	s := Systemd{Running: systemd.Running()}
	if out, err := say(ctx, "systemctl", "--version"); err == nil {
		s.Version = parseSystemdVersion(out)
	}
	if !s.Running {
		return s
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if m, err := systemd.Connect(ctx); err != nil {
		s.Err = err.Error()
	} else {
		m.Close()
	}
	if space, err := host.SpaceOf("/run"); err != nil {
		s.RunErr = err.Error()
	} else {
		s.RunFree = space.Free
	}
	return s
}

func lookSecurity() Security {
	var s Security
	if text, err := os.ReadFile("/sys/kernel/security/lsm"); err == nil {
		s.Modules = strings.Split(strings.TrimSpace(string(text)), ",")
	}
	if text, err := os.ReadFile("/sys/fs/selinux/enforce"); err == nil {
		s.SELinux = "permissive"
		if strings.TrimSpace(string(text)) == "1" {
			s.SELinux = "enforcing"
		}
	}
	return s
}

// tryLayers asks the kernel about the layers of overlays that are to be mounted.
func (f *Facts) tryLayers() {
	var which []int
	var configs []overlayfs.Config
	for i, o := range f.Overlays {
		if o.Try != nil {
			which, configs = append(which, i), append(configs, *o.Try)
		}
	}
	if len(configs) == 0 {
		return
	}
	if !f.Privileges.Mounts {
		f.TrialErr = "that takes root"
		return
	}
	f.Refused = map[int]string{}
	for n, err := range host.TrialMounts(configs) {
		if refused, ok := errors.AsType[*host.MountError](err); ok {
			f.Refused[which[n]] = refused.Error()
		} else if err != nil {
			f.TrialErr = err.Error()
		}
	}
}

// lookTree looks at a tree from within, where symlinks lead as they will when it has booted.
func lookTree(dir string) Tree {
	var t Tree
	root, err := os.OpenRoot(dir)
	if err != nil {
		return t
	}
	defer root.Close()
	there := func(paths ...string) bool {
		for _, p := range paths {
			if _, err := root.Lstat(p); err == nil {
				return true
			}
		}
		return false
	}
	t.Mount = there("usr/bin/mount", "bin/mount")
	t.Systemd = there("usr/lib/systemd/systemd", "lib/systemd/systemd")
	if there(helperName, "usr/"+helperName) {
		t.Helper = "/" + helperName
	}
	return t
}

func lookFstab(file string) ([]FstabLine, string) {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ""
	}
	if err != nil {
		return nil, fmt.Sprintf("cannot look for overlays in it: %v", err)
	}
	return parseFstab(string(text)), ""
}

// parseFstab finds the lines that mount overlays. Mountpoints stay as they are written, blanks as \040.
func parseFstab(text string) []FstabLine {
	var out []FstabLine
	n := 0
	for line := range strings.Lines(text) {
		n++
		fields := strings.Fields(line)
		if len(fields) < 3 || strings.HasPrefix(fields[0], "#") || fields[2] != "overlay" {
			continue
		}
		l := FstabLine{Line: n, Mountpoint: fields[1], Careless: true}
		if len(fields) > 3 {
			for option := range strings.SplitSeq(fields[3], ",") {
				l.Careless = l.Careless && option != "nofail" && option != "noauto"
			}
		}
		out = append(out, l)
	}
	return out
}
