package docs_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/hcl/v2"

	"github.com/overlayd/overlayd/internal/config"
	"github.com/overlayd/overlayd/internal/reconcile"
)

// load is tryLoad for what must be right.
func load(t *testing.T, files map[string]string) *config.Spec {
	t.Helper()
	spec, diags := tryLoad(t, files)
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	return spec
}

// tryLoad reads files as one spec, as validate does. Those ending in .vars.hcl
// are named as files of values.
func tryLoad(t *testing.T, files map[string]string) (*config.Spec, hcl.Diagnostics) {
	t.Helper()
	dir := t.TempDir()
	in := config.Inputs{HostName: "host"}
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(name[:len(name)-len(".hcl")]) == ".vars" {
			in.Values = append(in.Values, config.ValueArg{File: true, Arg: file})
		}
	}
	spec, diags := config.Load([]string{dir}, in)
	if !diags.HasErrors() {
		_, more := reconcile.Desire(spec, "")
		diags = append(diags, more...)
	}
	return spec, diags
}

func encode(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
