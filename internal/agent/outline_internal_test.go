package agent

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

const mountTable = `22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 22 0:40 / /m/a rw,relatime shared:10 - overlay overlayd rw,lowerdir=/l,upperdir=/a/u,workdir=/a/w
31 22 0:41 / /m/with\040blank rw,nosuid shared:11 - overlay overlayd rw,lowerdir=/l,upperdir=/b/u,workdir=/b/w
`

func TestOutlineChanged(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(string) string
		want []string
	}{
		"nothing":   {func(s string) string { return s }, nil},
		"unmounted": {func(s string) string { return lines(s, 0, 2) }, []string{"/m/a"}},
		"mounted": {
			func(s string) string { return s + "32 22 0:42 / /m/c rw - tmpfs tmpfs rw\n" }, []string{"/m/c"},
		},
		"stacked": {
			func(s string) string { return s + "32 30 0:42 / /m/a rw - tmpfs tmpfs rw\n" }, []string{"/m/a"},
		},
		"flag":        {func(s string) string { return strings.Replace(s, "rw,nosuid", "ro,nosuid", 1) }, []string{"/m/with blank"}},
		"moved":       {func(s string) string { return strings.Replace(s, " /m/a ", " /m/z ", 1) }, []string{"/m/a", "/m/z"}},
		"id is other": {func(s string) string { return strings.Replace(s, "30 22", "40 22", 1) }, []string{"/m/a"}},
		"other order": {func(s string) string { return lines(s, 2, 0, 1) }, nil},
		"all gone":    {func(string) string { return "" }, []string{"/", "/m/a", "/m/with blank"}},
		"damaged":     {func(s string) string { return s + "what\n\n7 8\nx 1 0:1 / /y rw - a b c\n" }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			was, is := outlineOf([]byte(mountTable)), outlineOf([]byte(c.edit(mountTable)))
			if got := was.changed(is); !slices.Equal(got, c.want) {
				t.Errorf("changed: %q, want %q", got, c.want)
			}
			if got := is.changed(was); !slices.Equal(got, c.want) {
				t.Errorf("the other way round: %q, want %q", got, c.want)
			}
		})
	}
}

func lines(s string, which ...int) string {
	all := strings.SplitAfter(s, "\n")
	var out strings.Builder
	for _, i := range which {
		out.WriteString(all[i])
	}
	return out.String()
}

func TestUnder(t *testing.T) {
	for at, want := range map[string]bool{
		"/srv/base": true, "/srv": true, "/": true, "/srv/bas": false, "/srv/base/deep": false, "/s": false,
	} {
		if got := under(map[string]bool{at: true}, "/srv/base"); got != want {
			t.Errorf("/srv/base under %s: %t", at, got)
		}
	}
	if under(map[string]bool{"/a": true}, "") {
		t.Error("nothing is under /a")
	}
}

// The outline sees exactly what a comparison of the lines sees.
func TestOutlineProperty(t *testing.T) {
	for s := range uint64(200) {
		r := rand.New(rand.NewPCG(s, 1))
		table := func() map[int]string {
			out := map[int]string{}
			for range r.IntN(12) {
				id := r.IntN(15)
				out[id] = fmt.Sprintf("%d 1 0:%d / /m/%d rw - overlay o rw,upperdir=/u%d\n", id, r.IntN(3), r.IntN(4), r.IntN(2))
			}
			return out
		}
		text := func(t map[int]string) []byte {
			var b strings.Builder
			for _, l := range t {
				b.WriteString(l)
			}
			return []byte(b.String())
		}
		was, is := table(), table()
		want := map[string]bool{}
		for id := range 15 {
			if was[id] != is[id] {
				for _, l := range []string{was[id], is[id]} {
					if l != "" {
						want[strings.Fields(l)[4]] = true
					}
				}
			}
		}
		got := outlineOf(text(was)).changed(outlineOf(text(is)))
		if len(got) != len(want) || slices.ContainsFunc(got, func(at string) bool { return !want[at] }) {
			t.Fatalf("seed %d: changed %q, want %v", s, got, want)
		}
	}
}

func FuzzOutline(f *testing.F) {
	f.Add([]byte(mountTable))
	f.Add([]byte("30 22 0:40 / /m/\\04 rw - overlay\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		o := outlineOf(text)
		if at := o.changed(outlineOf(text)); at != nil {
			t.Errorf("a table differs from itself at %q", at)
		}
	})
}
