package layers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/layers"
	"github.com/overlayd/overlayd/test/apart"
)

// TestMain runs the tests apart: they mount for real.
func TestMain(m *testing.M) {
	if config := os.Getenv(asNobody); config != "" {
		os.Exit(nobody(config))
	}
	os.Exit(apart.Run(nil, m.Run))
}

// kernelDefaults are those of the kernels of Debian.
var kernelDefaults = overlayfs.Defaults{RedirectAlwaysFollow: true, XinoAuto: true}

func makeDirs(t testing.TB, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// overlay makes the directories of an overlay below top: its lowerdirs l1, l2… and u, w, m.
func overlay(t testing.TB, top string, lowers int, o overlayfs.Options) (c overlayfs.Config, mountpoint string) {
	t.Helper()
	c = overlayfs.Config{
		Upper: filepath.Join(top, "u"), Work: filepath.Join(top, "w"), Options: overlayfs.Pin(o),
	}
	for i := range lowers {
		c.Lower = append(c.Lower, filepath.Join(top, "l"+string(rune('1'+i))))
	}
	mountpoint = filepath.Join(top, "m")
	makeDirs(t, append([]string{c.Upper, c.Work, mountpoint}, c.Lower...)...)
	return c, mountpoint
}

// mount mounts an overlay until the test ends, or until the function it returns is called.
func mount(t testing.TB, c overlayfs.Config, target string) (unmount func()) {
	t.Helper()
	var flags uintptr
	if c.Upper == "" {
		flags = unix.MS_RDONLY
	}
	if err := unix.Mount("overlay", target, "overlay", flags, c.KernelData()); err != nil {
		t.Fatalf("cannot mount %s: %v", c.KernelData(), err)
	}
	done := false
	unmount = func() {
		if done {
			return
		}
		done = true
		if err := unix.Unmount(target, 0); err != nil {
			_ = unix.Unmount(target, unix.MNT_DETACH)
			t.Errorf("cannot unmount %s: %v", target, err)
		}
	}
	t.Cleanup(unmount)
	return unmount
}

// changes gives what the client of an overlay changed, as lines.
func changes(t testing.TB, c overlayfs.Config, mountpoint string) ([]string, layers.Notes) {
	t.Helper()
	v, err := layers.Open(c, mountpoint, kernelDefaults)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	var lines []string
	notes, err := v.Changes(t.Context(), func(c layers.Change) error {
		lines = append(lines, string(c.Kind)+" "+c.Path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines, notes
}

// asNobody holds an overlay's config in the environment of the test binary that is run as another user.
const asNobody = "OVERLAYD_TEST_LAYERS"

// runAsNobody reads an overlay with the rights of another user, and returns the changes or the error.
func runAsNobody(t *testing.T, c overlayfs.Config) string {
	t.Helper()
	config, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	// The test binary may lie where nobody else can read.
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	cmd := exec.Command("/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{self}
	cmd.Env = append(os.Environ(), asNobody+"="+string(config))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// nobody is what the test binary does as another user.
func nobody(config string) int {
	var c overlayfs.Config
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		fmt.Print(err)
		return 0
	}
	v, err := layers.Open(c, "", kernelDefaults)
	if err != nil {
		fmt.Print(err)
		return 0
	}
	defer v.Close()
	var lines []string
	_, err = v.Changes(context.Background(), func(c layers.Change) error {
		lines = append(lines, string(c.Kind)+" "+c.Path)
		return nil
	})
	if err != nil {
		fmt.Print(err)
	}
	fmt.Print(strings.Join(lines, ", "))
	return 0
}
