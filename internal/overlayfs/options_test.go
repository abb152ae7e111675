package overlayfs_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

func TestOptionsJSON(t *testing.T) {
	o := overlayfs.Options{"nosuid": "", "index": "off", "nofail": ""}
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(text), `{"index":"off","nofail":true,"nosuid":true}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	var back overlayfs.Options
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(o, back); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	for _, bad := range []string{`{"a":false}`, `{"a":""}`, `{"a":1}`, `{"a":null}`, `[]`, `{"a":{}}`} {
		if err := json.Unmarshal([]byte(bad), &back); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
	var none overlayfs.Options
	if text, err := json.Marshal(none); err != nil || string(text) != "{}" {
		t.Errorf("nil options are %s, %v", text, err)
	}
}

func TestCloneIsApart(t *testing.T) {
	o := overlayfs.Options{"index": "off"}
	c := o.Clone()
	c["index"] = "on"
	if o["index"] != "off" {
		t.Error("a change of the clone shows in the original")
	}
	if overlayfs.Options(nil).Clone() == nil {
		t.Error("the clone of nil cannot be written to")
	}
}

func TestSpecOptionsAreClassified(t *testing.T) {
	seen := make(map[string]bool)
	for _, o := range overlayfs.SpecOptions() {
		if seen[o.Name] {
			t.Errorf("%s is there twice", o.Name)
		}
		seen[o.Name] = true
		if got := overlayfs.ClassOf(o.Name); got != o.Class || got == overlayfs.ClassUnknown {
			t.Errorf("ClassOf(%s) = %d, the table says %d", o.Name, got, o.Class)
		}
		if (o.Kind == overlayfs.KindFlag) != (len(o.Values) == 0) {
			t.Errorf("%s: kind %d with values %v", o.Name, o.Kind, o.Values)
		}
	}
	if seen["volatile"] {
		t.Error("volatile is offered to specs")
	}
	for name, want := range map[string]overlayfs.Class{
		"volatile": overlayfs.ClassFilesystem, "nofail": overlayfs.ClassUserspace,
		"x-systemd.after": overlayfs.ClassUserspace,
		"relatime":        overlayfs.ClassPerMount, "bogus": overlayfs.ClassUnknown, "rw": overlayfs.ClassUserspace,
	} {
		if got := overlayfs.ClassOf(name); got != want {
			t.Errorf("ClassOf(%s) = %d, want %d", name, got, want)
		}
	}
}

func TestPin(t *testing.T) {
	type options = overlayfs.Options
	for _, test := range []struct {
		name       string
		spec, want options
	}{
		{"nothing given", nil, options{"redirect_dir": "off", "index": "off", "metacopy": "off"}},
		{
			"given ones stay",
			options{"redirect_dir": "follow", "index": "on", "nosuid": ""},
			options{"redirect_dir": "follow", "index": "on", "metacopy": "off", "nosuid": ""},
		},
		{
			"metacopy implies redirects",
			options{"metacopy": "on"},
			options{"redirect_dir": "on", "index": "off", "metacopy": "on"},
		},
		{
			"nfs_export implies the index",
			options{"nfs_export": "on"},
			options{"nfs_export": "on", "redirect_dir": "off", "index": "on", "metacopy": "off"},
		},
		{
			"userxattr implies nofollow",
			options{"userxattr": ""},
			options{"userxattr": "", "redirect_dir": "nofollow", "index": "off", "metacopy": "off"},
		},
		{
			"verity implies metacopy",
			options{"verity": "require"},
			options{"verity": "require", "redirect_dir": "on", "index": "off", "metacopy": "on"},
		},
		{
			"verity=off implies nothing",
			options{"verity": "off"},
			options{"verity": "off", "redirect_dir": "off", "index": "off", "metacopy": "off"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := maps.Clone(test.spec)
			if d := cmp.Diff(test.want, overlayfs.Pin(test.spec)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if !maps.Equal(before, test.spec) {
				t.Error("Pin changed what it was given")
			}
		})
	}
}

func TestConflicts(t *testing.T) {
	for in, want := range map[string]string{
		"":                                       "",
		"metacopy=on":                            "",
		"metacopy=on,redirect_dir=on":            "",
		"metacopy=on,redirect_dir=off":           "redirect_dir metacopy",
		"metacopy=on,nfs_export=on":              "metacopy nfs_export",
		"nfs_export=on":                          "",
		"nfs_export=on,index=off":                "index nfs_export",
		"nfs_export=on,verity=on":                "nfs_export verity",
		"userxattr":                              "",
		"userxattr,redirect_dir=on":              "redirect_dir userxattr",
		"userxattr,redirect_dir=off":             "redirect_dir userxattr",
		"userxattr,redirect_dir=nofollow":        "",
		"userxattr,metacopy=on":                  "metacopy userxattr",
		"userxattr,verity=on":                    "verity userxattr",
		"verity=on,metacopy=off":                 "metacopy verity",
		"verity=on,redirect_dir=off":             "redirect_dir verity",
		"verity=on":                              "",
		"noatime,strictatime":                    "noatime strictatime",
		"ro,nosuid,nodev":                        "",
		"RO,nfs_export=on":                       "redirect_dir nfs_export",
		"RO,nfs_export=on,redirect_dir=nofollow": "",
	} {
		text, readOnly := strings.CutPrefix(in, "RO,")
		c, err := overlayfs.ParseMountOptions(text)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, conflict := range overlayfs.Conflicts(c.Options, readOnly) {
			got = append(got, strings.Join(conflict.Options, " "))
			if conflict.Reason == "" {
				t.Errorf("%s: no reason", in)
			}
		}
		if strings.Join(got, "; ") != want {
			t.Errorf("%s: conflicts %q, want %q", in, got, want)
		}
	}
}

// What Pin fills in must never be what Conflicts refuses: pinned options are written into units.
func TestPinMakesNoConflict(t *testing.T) {
	specs := []overlayfs.Options{{}}
	for _, o := range overlayfs.SpecOptions() {
		if o.Class != overlayfs.ClassFilesystem {
			continue
		}
		values := o.Values
		if o.Kind == overlayfs.KindFlag {
			values = []string{""}
		}
		for _, spec := range slices.Clone(specs) {
			for _, v := range values {
				with := spec.Clone()
				with[o.Name] = v
				specs = append(specs, with)
			}
		}
	}
	for _, spec := range specs {
		for _, readOnly := range []bool{false, true} {
			if len(overlayfs.Conflicts(spec, readOnly)) == 0 {
				if got := overlayfs.Conflicts(overlayfs.Pin(spec), readOnly); len(got) > 0 {
					t.Fatalf("%v (read-only %t): pinned it conflicts: %v", spec, readOnly, got)
				}
			}
		}
	}
}
