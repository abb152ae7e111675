package probe_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/test/apart"
	"github.com/overlayd/overlayd/test/bench/probe"
)

func TestSpecs(t *testing.T) {
	got := string(probe.Spec(7))
	if !strings.Contains(got, "range(7)") || !strings.Contains(got, `"/srv/bench/m/${each.key}"`) {
		t.Errorf("all are declared by\n%s", got)
	}
	got = string(probe.SpecOfOne("x", "/a", "/b"))
	for _, want := range []string{`overlay "x" {`, `lowerdirs  = ["/a", "/b"]`, `mountpoint = "/srv/bench/m/x"`} {
		if !strings.Contains(got, want) {
			t.Errorf("one is declared without %s:\n%s", want, got)
		}
	}
}

// The one overlay changes in all ways alike.
func TestChange(t *testing.T) {
	before, after := probe.Client(probe.Overlay{
		Mountpoint: "/srv/bench/m/one", Unit: "srv-bench-m-one.mount", Options: "lowerdir=/srv/bench/lower,upperdir=/u",
	}, `RequiresMountsFor="/srv/bench/lower" "/u"
Options=lowerdir=/srv/bench/lower,upperdir=/u,nofail
`)
	if want := "overlayd /srv/bench/m/one overlay lowerdir=/srv/bench/lower,upperdir=/u,nofail 0 0"; before[0] != want {
		t.Errorf("its line of fstab is %q", before[0])
	}
	const item = `{ path: "/srv/bench/m/one", opts: "lowerdir=/srv/bench/lower,upperdir=/u,nofail" }`
	if !strings.Contains(before[2], item) {
		t.Errorf("its playbook is\n%s", before[2])
	}
	for i := range before {
		if strings.Contains(before[i], "/srv/bench/extra") {
			t.Errorf("the other layer is there before:\n%s", before[i])
		}
		if !strings.Contains(after[i], "lowerdir=/srv/bench/extra:/srv/bench/lower,") {
			t.Errorf("the other layer is not there:\n%s", after[i])
		}
	}
	if want := `RequiresMountsFor="/srv/bench/extra" "/srv/bench/lower" "/u"`; !strings.Contains(after[1], want) {
		t.Errorf("the unit does not wait for the other layer:\n%s", after[1])
	}
}

func TestFstab(t *testing.T) {
	const theirs = "# comment\n/dev/vda / ext4 defaults 0 1\n"
	got := probe.FstabWith(theirs, []string{"overlayd /srv/bench/m/1 overlay x 0 0"})
	if want := theirs + "overlayd /srv/bench/m/1 overlay x 0 0\n"; got != want {
		t.Errorf("with a line it is\n%s", got)
	}
	if got := probe.FstabWith(got, nil); got != theirs {
		t.Errorf("without it is\n%s", got)
	}
}

func TestMountpoints(t *testing.T) {
	const table = `21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
90 21 0:40 / /srv/bench/m/00001 rw,relatime shared:9 - overlay overlayd rw,lowerdir=/srv/bench/lower
91 21 0:41 / /srv/bench/m/one rw,relatime shared:9 - overlay overlayd rw
92 21 0:42 / /srv/bench/mine rw,relatime shared:9 - tmpfs none rw
`
	if got := probe.MountpointsIn(table); !slices.Equal(got, []string{"/srv/bench/m/00001", "/srv/bench/m/one"}) {
		t.Errorf("found %q", got)
	}
}

func TestBrief(t *testing.T) {
	if got := probe.Brief([]string{"a", "b"}); got != "a b" {
		t.Errorf("two words are %q", got)
	}
	words := strings.Fields(strings.Repeat("word ", 5000))
	if got := probe.Brief(words); len(got) > 300 || !strings.HasSuffix(got, " ...") {
		t.Errorf("5,000 words are %q", got)
	}
}

func TestNoSuchStep(t *testing.T) {
	for _, s := range []probe.Step{
		{Way: "nobody", Do: probe.Apply},
		{Way: probe.ByOverlayd, Do: "nothing"},
		{Way: probe.ByFstab, Do: probe.Apply}, // without what was captured
	} {
		if _, err := s.Run(t.Context()); err == nil {
			t.Errorf("%+v is no error", s)
		}
	}
}

func TestClock(t *testing.T) {
	apart.NeedRoot(t)
	dir := apart.Dir(t)
	file := filepath.Join(dir, "file")
	mount := []string{"sh", "-ec", "mount -t tmpfs none " + dir + "; : >" + file}
	took, err := probe.Clock(t.Context(), file, []string{"true"}, mount)
	if err != nil {
		t.Fatal(err)
	}
	if took.Seen <= 0 || took.Ended <= 0 || took.Peak <= 0 {
		t.Errorf("took %+v", took)
	}
	_, err = probe.Clock(t.Context(), file, []string{"true"})
	if err == nil || !strings.Contains(err.Error(), "before it should be") {
		t.Errorf("what is there before is no error: %v", err)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Errorf("somebody still looks: %v", err)
	}
	// The watch ends with the commands.
	_, err = probe.Clock(t.Context(), file, []string{"sh", "-c", "echo hopeless >&2; exit 3"}, mount)
	if err == nil || !strings.Contains(err.Error(), "hopeless") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("a command that fails: %v", err)
	}
	if err := unix.Unmount(dir, 0); err == nil {
		t.Error("the next command was run")
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("there is a file that nobody made")
	}
}
