package config

import (
	"bytes"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// Format returns src in canonical form: the indentation, blanks and alignment
// that `overlayd fmt` writes, one newline at the end. It changes nothing that
// has a meaning. Text that does not parse is returned as diagnostics; name is
// the file's name in them.
func Format(src []byte, name string) ([]byte, hcl.Diagnostics) {
	if d := unfit(src, name); d != nil {
		return nil, hcl.Diagnostics{d}
	}
	if _, diags := hclsyntax.ParseConfig(src, name, hcl.InitialPos); diags.HasErrors() {
		return nil, diags
	}
	out := hclwrite.Format(src)
	if out = bytes.TrimRight(out, " \t\r\n"); len(out) == 0 {
		return nil, nil
	}
	return append(out, '\n'), nil
}
