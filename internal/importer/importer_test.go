package importer_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/overlayd/overlayd/internal/importer"
	"github.com/overlayd/overlayd/internal/overlayfs"
)

var update = flag.Bool("update", false, "rewrite what the cases in testdata expect")

// TestRecorded imports the mount tables in testdata, as kernels and container engines make them. The comment of a case
// says how, a line each:
//
//	all, fstab               what is wanted
//	defaults OPTION...       of the kernel's module, those that are on
//	path PATH [dev=N] FLAG...  a path, or "path PATH -> REAL" for a symlink
//	address PATH ADDRESS     what overlayd manages there
//	unit PATH UNIT           who else does
func TestRecorded(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			part := map[string][]byte{}
			for _, f := range archive.Files {
				part[f.Name] = f.Data
			}
			h, want := read(t, string(archive.Comment), part)
			text := importer.New(h, want).Render()
			if *update {
				last := &archive.Files[len(archive.Files)-1]
				last.Data = text.HCL
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(part["want.hcl"]), string(text.HCL)); diff != "" {
				t.Errorf("want -, got + (go test ./internal/importer -update writes it)\n%s", diff)
			}
			checkText(t, text)
		})
	}
}

// read makes a host of a case.
func read(t *testing.T, comment string, part map[string][]byte) (importer.Host, importer.Wanted) {
	t.Helper()
	table, err := overlayfs.ParseTable(bytes.NewReader(part["mountinfo"]))
	if err != nil {
		t.Fatal(err)
	}
	h := importer.Host{
		Paths: map[string]overlayfs.PathInfo{}, Defaults: overlayfs.Defaults{RedirectAlwaysFollow: true},
		Fstab: importer.ParseFstab(string(part["fstab"]), "/etc/fstab"),
	}
	var want importer.Wanted
	addresses, units := map[string]string{}, map[string]string{}
	for line := range strings.Lines(comment) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || strings.HasPrefix(line, "#"):
		case words[0] == "all":
			want.All = true
		case words[0] == "fstab":
			want.Fstab = true
		case words[0] == "defaults":
			for _, name := range words[1:] {
				on := map[string]*bool{
					"redirect_dir": &h.Defaults.RedirectDir, "index": &h.Defaults.Index, "metacopy": &h.Defaults.Metacopy,
					"nfs_export": &h.Defaults.NFSExport, "xino_auto": &h.Defaults.XinoAuto,
				}[name]
				*on = true
			}
		case words[0] == "path":
			h.Paths[words[1]] = pathInfo(t, words[1], words[2:])
		case words[0] == "address":
			addresses[words[1]] = words[2]
			h.Addresses = append(h.Addresses, words[2])
		case words[0] == "unit":
			units[words[1]] = words[2]
		default:
			t.Fatalf("cannot read %q", line)
		}
	}
	engines := map[overlayfs.Owner]string{
		overlayfs.OwnerDocker: "Docker", overlayfs.OwnerPodman: "Podman", overlayfs.OwnerContainerd: "containerd",
	}
	for _, m := range table.All() {
		if m.Overlay == nil {
			continue
		}
		top, _ := table.Covering(m.Mountpoint)
		h.Mounted = append(h.Mounted, importer.Mounted{
			Live: m, Stack: len(table.At(m.Mountpoint)), Hidden: top.ID != m.ID, Engine: engines[overlayfs.OwnerOf(m)],
			Address: addresses[m.Mountpoint], Unit: units[m.Mountpoint], Ours: overlayfs.OwnerOf(m) == overlayfs.OwnerOverlayd,
		})
	}
	return h, want
}

func pathInfo(t *testing.T, path string, words []string) overlayfs.PathInfo {
	t.Helper()
	info := overlayfs.PathInfo{Path: path, Real: path, Exists: true, IsDir: true, Flags: overlayfs.Options{}}
	if len(words) == 2 && words[0] == "->" {
		info.Symlink, info.Real = path, words[1]
		return info
	}
	for _, w := range words {
		if dev, ok := strings.CutPrefix(w, "dev="); ok {
			if _, err := fmt.Sscan(dev, &info.ID.Dev); err != nil {
				t.Fatal(err)
			}
			continue
		}
		info.Flags[w] = ""
	}
	return info
}

// checkText asks for what holds of every text: it is HCL in canonical form, and its blocks are where it says.
func checkText(t *testing.T, text importer.Text) {
	t.Helper()
	if got := hclwrite.Format(text.HCL); !bytes.Equal(got, text.HCL) || !bytes.HasSuffix(got, []byte("\n")) {
		t.Errorf("not in canonical form:\n%s", text.HCL)
	}
	f, diags := hclsyntax.ParseConfig(text.HCL, "import.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatalf("%v\n%s", diags, text.HCL)
	}
	var want, got []string
	for _, b := range f.Body.(*hclsyntax.Body).Blocks {
		want = append(want, fmt.Sprint(b.Type == "overlay", b.Range().Start.Line, b.Body.Range().End.Line))
	}
	for _, b := range text.Blocks {
		got = append(got, fmt.Sprint(b.Overlay, b.First, b.Last))
		if len(b.Mountpoints) == 0 {
			t.Errorf("the block at line %d is of no overlay", b.First)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("where the blocks are: want -, got +\n%s", diff)
	}
}

// What a plan refuses becomes a comment, with the block if only the host has to change; names are given anew.
func TestLeaveOut(t *testing.T) {
	table := `1 1 8:1 / / rw - ext4 /dev/sda1 rw
30 1 0:1 / /srv/a/x rw,relatime - overlay byhand rw,lowerdir=/l,upperdir=/a/u,workdir=/a/w
31 1 0:2 / /srv/b/x rw,relatime - overlay byhand rw,lowerdir=/l,upperdir=/b/u,workdir=/b/w
32 1 0:3 / /srv/c rw,relatime - overlay byhand rw,lowerdir=/srv/b/x,upperdir=/c/u,workdir=/c/w
`
	h, want := read(t, "", map[string][]byte{"mountinfo": []byte(table)})
	d := importer.New(h, want)
	before := string(d.Render().HCL)
	for _, part := range []string{`overlay "a_x"`, `overlay "b_x"`, "[overlay.b_x.mountpoint]", "[lowerdir.l]"} {
		if !strings.Contains(before, part) {
			t.Errorf("%s is missing in\n%s", part, before)
		}
	}
	d.LeaveOut("/srv/b/x", "lowerdir /l\x1b is a\nfile", true)
	d.LeaveOut("/srv/nowhere", "nobody knows it", true)
	text := d.Render()
	checkText(t, text)
	const after = `# Written by overlayd import. Save it as a .hcl file in /etc/overlayd, and see
# what overlayd plan says.

overlay "x" {
  lowerdirs  = ["/l"]
  upperdir   = "/a/u"
  workdir    = "/a/w"
  mountpoint = "/srv/a/x"
}

overlay "c" {
  lowerdirs  = ["/srv/b/x"]
  upperdir   = "/c/u"
  workdir    = "/c/w"
  mountpoint = "/srv/c"
}

` + "# Left out: lowerdir /l\uFFFD is a file." + `
#   /srv/b/x
#
# overlay "x" {
#   lowerdirs  = ["/l"]
#   upperdir   = "/b/u"
#   workdir    = "/b/w"
#   mountpoint = "/srv/b/x"
# }
`
	if diff := cmp.Diff(after, string(text.HCL)); diff != "" {
		t.Errorf("want -, got +\n%s", diff)
	}
	if declared, left := d.Count(); declared != 2 || left != 1 {
		t.Errorf("%d declared, %d left out; want 2 and 1", declared, left)
	}
}

// Whatever order a host is described in, the text is the same.
func TestOrderDoesNotMatter(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/engines.txtar")
	if err != nil {
		t.Fatal(err)
	}
	h, _ := read(t, string(archive.Comment), map[string][]byte{"mountinfo": archive.Files[0].Data})
	want := importer.Wanted{All: true}
	first := string(importer.New(h, want).Render().HCL)
	for i := range h.Mounted {
		h.Mounted = append(h.Mounted[i:], h.Mounted[:i]...)
		if diff := cmp.Diff(first, string(importer.New(h, want).Render().HCL)); diff != "" {
			t.Fatalf("turned by %d: %s", i, diff)
		}
	}
}

// What there is nothing to import of is said in the first line.
func TestNothingToImport(t *testing.T) {
	at := func(mountpoint, address string) importer.Mounted {
		return importer.Mounted{
			Live:    overlayfs.Mount{Mountpoint: mountpoint, Root: "/", Overlay: &overlayfs.Config{Lower: []string{"/a", "/b"}}},
			Address: address, Hidden: address == "",
		}
	}
	for _, c := range []struct {
		mounted []importer.Mounted
		want    string
	}{
		{nil, "# No overlay is mounted on this host."},
		{
			[]importer.Mounted{at("/x", "overlay.x"), at("/y", "overlay.y")},
			"# Nothing to import: overlayd manages every overlay here already.",
		},
		{
			[]importer.Mounted{at("/x", "overlay.x"), at("/y", "")},
			"# Nothing to import: what overlayd does not manage already cannot be declared.",
		},
		{[]importer.Mounted{at("/y", "")}, "# Nothing to import: no overlay here can be declared."},
	} {
		text := string(importer.New(importer.Host{Mounted: c.mounted}, importer.Wanted{}).Render().HCL)
		if first, _, _ := strings.Cut(text, "\n"); first != c.want {
			t.Errorf("%q, want %q", first, c.want)
		}
	}
}
