package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	licences "github.com/overlayd/overlayd/packaging/deb/licences"
)

const root = "../../.."

// The copyright file is in the repository, so that a change of whose work is shipped is read by somebody.
func TestCopyrightIsThatOfWhatIsLinked(t *testing.T) {
	want, err := licences.Copyright(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(root, "packaging/deb/copyright"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("packaging/deb/copyright is not what is linked; read what has changed, then run"+
			" \"go run ./packaging/deb/licences >packaging/deb/copyright\" (-linked +file):\n%s", diff)
	}
}

const (
	expat = `Permission is hereby granted, free of charge, to any person obtaining a copy
of this software ... OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.`
	bsd = `Redistribution and use in source and binary forms are permitted:
* Neither the name of Example Ltd. nor the names of its contributors may be used to endorse products.
EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.`
)

func TestModule(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"LICENSE":         "MIT License\n\nCopyright (c) 2014-2016 Jane Doe\n\n" + expat,
		"NOTICE":          "Example\nCopyright 2013 Example Ltd\n",
		"a.go":            "// Copyright 2019 jane doe. All rights reserved.\n\npackage a\n",
		"b.go":            "package a\n\n/* From elsewhere:\n\nCopyright (C) 2001 Somebody Else\n\n" + bsd + "\n*/\n",
		"unused.go":       "// Copyright 1999 Nobody\n\npackage a\n",
		"a_amd64.s":       "// Copyright 2020 The Assembler Authors\n\n// Copyright 1998 Nobody\n",
		"sub/LICENSE.txt": "Copyright 2011 The Sub Authors. All rights reserved.\n" + bsd,
		"sub/deep/c.go":   "package deep\n",
		"other/LICENSE":   "Copyright 1997 Nobody\n" + bsd,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var files []string
	for _, name := range []string{"a.go", "a_amd64.s", "b.go", "sub/deep/c.go"} {
		files = append(files, filepath.Join(dir, name))
	}
	stanzas, err := licences.StanzasOf(licences.Module{Name: "example.org/a@v1.0.0", Dir: dir, Files: files})
	if err != nil {
		t.Fatal(err)
	}
	type said struct {
		Files            string
		Holders, Notices []string
	}
	var got []said
	for _, s := range stanzas {
		files, holders, notices := s.Said()
		got = append(got, said{files, holders, notices})
	}
	want := []said{
		{
			"example.org/a@v1.0.0/*",
			[]string{"2013 Example Ltd", "2014-2019 Jane Doe", "2020 The Assembler Authors"},
			[]string{"Example\nCopyright 2013 Example Ltd\n"},
		},
		{"example.org/a@v1.0.0/sub/*", []string{"2011 The Sub Authors"}, nil},
		{"example.org/a@v1.0.0/b.go", []string{"2001 Somebody Else"}, nil},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stanzas (-want +got):\n%s", diff)
	}
}

func TestModuleThatSaysTooLittle(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no licence":   {nil, "example.org/a@v1 has no licence in DIR"},
		"no copyright": {map[string]string{"LICENSE": expat}, "example.org/a@v1 does not say who has its copyright"},
		"two licences": {map[string]string{"LICENSE.mit": expat, "LICENSE.bsd": bsd}, "DIR has more than one licence"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range test.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			_, err := licences.StanzasOf(licences.Module{Name: "example.org/a@v1", Dir: dir})
			if want := strings.Replace(test.want, "DIR", dir, 1); err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}

func TestCopyrightLines(t *testing.T) {
	for line, want := range map[string]string{
		"Copyright (c) 2005-2008  Dustin Doe <d@example.org>":    "Dustin Doe <d@example.org>",
		"Copyright © fsnotify Authors. All rights reserved.":     "fsnotify Authors",
		"Copyright IBM Corp. 2014, 2026":                         "IBM Corp.",
		"Copyright 1991-2017 Unicode, Inc. All rights reserved.": "Unicode, Inc.",
		"Copyright 2017, The Go Authors. All rights reserved.":   "The Go Authors",
		"Copyright [yyyy] [name of copyright owner]":             "",
		"copyright notice, this list of conditions":              "",
		"Copyright License. Subject to the terms":                "",
		"Copyright 2025": "",
	} {
		if got, _, _ := licences.CopyrightOf(line); got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	own, err := os.ReadFile(filepath.Join(root, "LICENSE"))
	if err != nil {
		t.Fatal(err)
	}
	for want, terms := range map[string]string{
		"Expat":                    expat,
		"BSD-3-clause-example-ltd": bsd,
		"BSD-2-clause": "Redistribution and use in source and binary forms are permitted." +
			" EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.",
		"Apache-2.0": string(own),
		"textseg":    expat + "\n\nThe tables have another licence.",
	} {
		if got := licences.NameOf(terms, "example.org/x/textseg/v15@v15.0.0", string(own)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
