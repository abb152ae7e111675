package manpage_test

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/overlayd/overlayd/internal/manpage"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// program is a small one: a command that has everything, and one that has only what it must have.
func program() *cobra.Command {
	root := &cobra.Command{Use: "overlayd COMMAND", Short: "Do things", DisableFlagsInUseLine: true}
	root.PersistentFlags().String("root", "", "work below `DIR`")
	root.PersistentFlags().BoolP("help", "h", false, "show this help")
	root.AddGroup(&cobra.Group{ID: "all", Title: "All of them"})
	act := &cobra.Command{
		Use: "act [OPTION...] {--to DIR | --in FILE} PATH...", Short: "Do what a file says", GroupID: "all",
		DisableFlagsInUseLine: true,
		Long: `Act reads PATH and says "overlayd act" -- it's --no-op as in mount(8).
.Nothing here is a request.

  one word  what it means, and
            more of it
  C         another

  mount -t overlay -o ro,lowerdir=a:b none /mnt`,
		Example: "  overlayd act 'a b'\n  overlayd act | tail -n 1",
		Run:     func(*cobra.Command, []string) {},
	}
	act.Flags().String("to", "", "write to `DIR`")
	act.Flags().Duration("wait", 30e9, "wait `TIME` for it")
	act.Flags().String("var", "", "give a value: `NAME=VALUE`")
	act.Flags().String("secret", "", "for nobody")
	if err := act.Flags().MarkHidden("secret"); err != nil {
		panic(err)
	}
	rest := &cobra.Command{
		Use: "rest [OPTION...]", Short: "Do nothing", GroupID: "all", DisableFlagsInUseLine: true,
		Run: func(*cobra.Command, []string) {},
	}
	root.AddCommand(act, rest)
	return root
}

func docs(t *testing.T) fstest.MapFS {
	t.Helper()
	language, err := os.ReadFile("testdata/language.md")
	if err != nil {
		t.Fatal(err)
	}
	return fstest.MapFS{
		"language.md": {Data: language},
		"man/overlayd.8.md": {Data: []byte("# overlayd(8)\n\nWhat it is.\n\n## Words\n\n- **a**: b\n\n" +
			"## See also\n\nmount(8)\n")},
		"man/act.md": {Data: []byte("# overlayd-act(8)\n\nMore.\n\n## See also\n\noverlayd(8), mount(8)\n\n" +
			"## Order\n\n1. this\n2. that\n\n## Exit status\n\n- **0**: done\n- **2**: not\n")},
	}
}

func TestPages(t *testing.T) {
	pages, err := manpage.Book{Program: program(), Docs: docs(t), Version: "1.0", Date: "2026-01-02"}.Pages()
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, p := range pages {
		files = append(files, p.File())
		golden := filepath.Join("testdata", p.File())
		if *update {
			if err := os.WriteFile(golden, []byte(p.Text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), p.Text); diff != "" {
			t.Errorf("%s differs (-want +got):\n%s", golden, diff)
		}
	}
	want := []string{"overlayd-act.8", "overlayd-rest.8", "overlayd.8", "overlayd.hcl.5"}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Errorf("other pages (-want +got):\n%s", diff)
	}
}

// TestGroff has groff show what testdata has of everything: no warning, nothing wider than a terminal, no word lost.
func TestGroff(t *testing.T) {
	if _, err := exec.LookPath("man"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("cannot show the pages: %v; apt-get install man-db groff-base", err)
		}
		t.Skip("the pages are not shown, as man is missing: apt-get install man-db groff-base")
	}
	for file, words := range map[string][]string{
		"overlayd.hcl.5": {
			`bold in it`, `a site ⟨https://example.org/a-b/c⟩`,
			`See overlayd-x(8): read-only, --a-flag, it's "quoted" ~/x ^`,
			`a\b <c> *not bold*.`, `.TH is no request here`, `'neither is this.`, `.dot = 'x'`, `'quote = "\\ - ^ ~`,
			`• two,`, `1. nested`, `_ a | b`, `.dot - =`, `"on", "off"`,
		},
		"overlayd-act.8": {
			`-- it's --no-op as in mount(8). .Nothing`, `one word what it means, and more of it`, `wait TIME`,
		},
	} {
		cmd := exec.CommandContext(t.Context(), "man", "--warnings", "-E", "UTF-8", "-l", filepath.Join("testdata", file))
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANWIDTH=80", "MANROFFSEQ=", "MANPAGER=cat", "MANOPT=")
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil || errs.Len() > 0 {
			t.Errorf("%s: %v\n%s", cmd, err, errs.String())
		}
		for line := range strings.Lines(out.String()) {
			if line = strings.TrimRight(line, "\n"); len([]rune(line)) > 80 {
				t.Errorf("%s: wider than 80 columns: %s", file, line)
			}
		}
		shown := strings.Join(strings.Fields(out.String()), " ")
		for _, w := range words {
			if !strings.Contains(shown, w) {
				t.Errorf("%s does not show %s:\n%s", file, w, out.String())
			}
		}
	}
}

// TestRefuses holds that what cannot be shown is an error with its place, and not left out.
func TestRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"# T\n\n<b>x</b>\n":              "docs/language.md:3: there is no way to show a RawHTML",
		"# T\n\n<!-- x -->\n":            "docs/language.md:3: there is no way to show a HTMLBlock",
		"# T\n\nx\n\n> quoted\n":         "docs/language.md:5: there is no way to show a Blockquote",
		"# T\n\n- a\n- ![x](y.png)\n":    "docs/language.md:4: there is no way to show a Image",
		"# T\n\n##### deep\n":            "docs/language.md:3: there is no way to show a heading of level 5",
		"# T\n\nx\n\n# T\n":              "docs/language.md:5: there is no way to show a heading of level 1",
		"# T\n\n| a |\n|---|\n| <i> |\n": "docs/language.md:5: there is no way to show a RawHTML",
	} {
		all := docs(t)
		all["language.md"] = &fstest.MapFile{Data: []byte(text)}
		_, err := manpage.Book{Program: program(), Docs: all}.Pages()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %s", text, err, want)
		}
	}
	all := docs(t)
	delete(all, "language.md")
	if _, err := (manpage.Book{Program: program(), Docs: all}).Pages(); err == nil {
		t.Error("there is no language.md, and no error")
	}
}

// TestFoot holds that the version and the date stand apart at the foot of a page, also of a package between releases.
func TestFoot(t *testing.T) {
	for version, want := range map[string]string{
		"1.2.3":                             "overlayd 1.2.3",
		"1.2.3~rc.1":                        "overlayd 1.2.3~rc.1",
		"v1.2.3-14-g56c13c4":                "overlayd v1.2.3-14-g56c13c4",
		"0.1.0~git20261123.203846.1fa1b18":  "overlayd 0.1.0~git20261123",
		"10.1.0~git20261123.203846.1fa1b18": "overlayd 10.1.0~git20261123",
	} {
		pages, err := manpage.Book{Program: program(), Docs: docs(t), Version: version, Date: "2026-01-02"}.Pages()
		if err != nil {
			t.Fatal(err)
		}
		title, _, _ := strings.Cut(strings.ReplaceAll(pages[0].Text, `\-`, "-"), "\n.nr")
		if !strings.HasSuffix(strings.ReplaceAll(title, `\(ti`, "~"), ` "2026-01-02" "`+want+`"`) {
			t.Errorf("%s: the title is %s, want %s", version, title, want)
		}
		if room := 80/2 - len("2026-01-02")/2; len(want) >= room {
			t.Errorf("%s: %q runs into the date, which begins in column %d", version, want, room)
		}
	}
}

// TestDateless holds that without a date the page has none, rather than that of the day.
func TestDateless(t *testing.T) {
	pages, err := manpage.Book{Program: program(), Docs: docs(t)}.Pages()
	if err != nil {
		t.Fatal(err)
	}
	if want := `.TH "overlayd\-act" 8 "" "overlayd"` + "\n"; !strings.Contains(pages[0].Text, want) {
		t.Errorf("%s does not have %s", pages[0].File(), want)
	}
}
