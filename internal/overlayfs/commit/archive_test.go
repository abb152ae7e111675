package commit_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/test/scramble"
)

// need skips the test if a program is missing, or fails it where all must run.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing, and CI=true says that this test must run; test/setup.sh installs it", program)
	}
	t.Skipf("%s is missing; test/setup.sh installs it", program)
}

func (b *bench) run(cmd *exec.Cmd) string {
	b.Helper()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("%s: %v\n%s", cmd, err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

func (b *bench) umoci(args ...string) {
	b.Helper()
	b.run(exec.Command("umoci", args...))
}

func (b *bench) podman(args ...string) string {
	b.Helper()
	return b.run(b.podmanCommand(args...))
}

// podmanCommand is podman with a storage of the test's own.
func (b *bench) podmanCommand(args ...string) *exec.Cmd {
	return exec.Command("podman", append([]string{
		"--root", b.path("podman"), "--runroot", b.path("podman.run"), "--storage-driver", "overlay",
		"--cgroup-manager", "cgroupfs", "--events-backend", "none",
	}, args...)...)
}

// image makes an OCI image of layers, lowest first, and returns its layout.
func (b *bench) image(archives ...string) string {
	b.Helper()
	layout := b.path("layout")
	b.umoci("init", "--layout", layout)
	b.umoci("new", "--image", layout+":test")
	for _, archive := range archives {
		b.umoci("raw", "add-layer", "--image", layout+":test", archive)
	}
	return layout
}

// An archive on top of the base gives the client's view, say those who read layers for a living.
func TestArchiveGivesTheView(t *testing.T) {
	need(t, "umoci")
	need(t, "podman")
	for i, options := range []string{
		"redirect_dir=off,index=off,metacopy=off", "redirect_dir=on,index=on,metacopy=on", "userxattr",
	} {
		for seed := range uint64(*seeds) {
			t.Run(fmt.Sprintf("%d/%d", i, seed), func(t *testing.T) {
				b := newBench(t)
				o := scramble.Options{OCI: true, OneName: true}
				base := b.lowers(1, seed, options, o)
				empty := b.config("nothing", "")
				b.toArchive(b.client("base", overlayfs.Config{
					Lower: []string{empty.Upper}, Upper: base[0], Work: empty.Work, Options: overlayfs.Options{},
				}, false), "base.tar")
				c := b.config("client", options, base...)
				unmount := b.mount("client", c)
				b.scramble("client", seed, 40, o)
				b.toArchive(b.client("client", c, true), "layer.tar")
				// With index=off the kernel may take two names of one file for two files until the next mount.
				unmount()
				b.mount("client", c)

				layout := b.image(b.path("base.tar"), b.path("layer.tar"))
				b.umoci("raw", "unpack", "--image", layout+":test", b.path("unpacked"))
				b.same(b.path("client"), b.path("unpacked"), nil)

				b.podman("pull", "-q", "oci:"+layout+":test")
				id := b.podman("images", "-q")
				mounted := b.podman("image", "mount", id)
				b.same(b.path("client"), mounted, func(line string) bool {
					return strings.HasPrefix(line, `"/": `) // podman makes the root itself
				})
				b.podman("image", "unmount", id)
			})
		}
	}
}
